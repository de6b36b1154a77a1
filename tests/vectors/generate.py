"""Writes the vector files of this folder, or with ``--check`` compares them. Deterministic.

Each expected outcome is stated by hand where the vector is made; the oracle must agree before
anything is written.
"""

from __future__ import annotations

import argparse
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.oracle.check import check
from tests.oracle.constants import Reason
from tests.support.token_forger import Record
from tests.support.vector_files import (
    VECTORS,
    describe_blocks,
    dump,
    read_view,
    write_decision,
    write_request,
)
from tests.vectors import (
    cases_approvals,
    cases_arguments,
    cases_conditions,
    cases_elements,
    cases_invalid,
    cases_making,
    cases_proofs,
    cases_receipts,
    cases_scope_texts,
    cases_stands,
    cases_survey,
    cases_text,
    cases_valid,
)
from tests.vectors.world import VIEWS, Case


class Disagreement(Exception):
    """The oracle does not give what the vector says."""


# Some cases add their views to those of the world.
_KNOWN_VIEWS = ChainMap(VIEWS, cases_proofs.views())


def _vector(case: Case) -> Record:
    view, _ = read_view(_KNOWN_VIEWS[case.view])
    found = check(case.token, case.request, view, case.now_ms)
    if found != case.expected:
        raise Disagreement(f"{case.name}: expected {case.expected}, the oracle gives {found}")
    record: Record = {"name": case.name, "comment": case.comment}
    # What breaks the rules has no text.
    if case.blocks and case.expected.reason is not Reason.MALFORMED_TOKEN:
        record["blocks"] = describe_blocks(case.blocks)
    return {
        **record,
        "token_hex": case.token.hex(),
        "request": write_request(case.request),
        "view": case.view,
        "now_ms": case.now_ms,
        "expected": write_decision(case.expected),
    }


def _checks(title: str, cases: Callable[[], Iterator[Case]]) -> Record:
    vectors = [_vector(case) for case in cases()]
    used = {vector["view"] for vector in vectors}
    views = {name: view for name, view in _KNOWN_VIEWS.items() if name in used}
    return {"title": title, "format": "docs/token-format.md, version 1", "views": views, "vectors": vectors}


def contents() -> dict[str, str]:
    """The text of each vector file by its name."""
    files = {
        "valid.json": _checks("Well-formed chains and what becomes of them", cases_valid.cases),
        "invalid.json": _checks("Chains that no verifier accepts", cases_invalid.cases),
        "conditions.json": _checks("Conditions, values and the closed world", cases_conditions.cases),
        "elements.json": _checks("Elements, JSON values and numbers of any size", cases_elements.cases),
        "proofs.json": _checks("Proofs by holders of bound tokens", cases_proofs.cases),
        "stands.json": _checks("Tokens alone, without a call", cases_stands.cases),
        "making.json": cases_making.content(),
        "survey.json": cases_survey.content(),
        "text_forms.json": cases_text.content(),
        "scope_texts.json": cases_scope_texts.content(),
        "approvals.json": cases_approvals.content(),
        "arguments.json": cases_arguments.content(),
        "receipts.json": cases_receipts.content(),
    }
    for name, content in files.items():
        names = [vector["name"] for vector in content["vectors"]]
        if len(set(names)) != len(names):
            repeated = sorted({n for n in names if names.count(n) > 1})
            raise Disagreement(f"{name}: names are repeated: {repeated}")
    return {name: dump(content) for name, content in files.items()}


def main() -> int:
    """Write or compare; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if a file would change")
    arguments = parser.parse_args()
    changed = []
    for name, text in contents().items():
        path = VECTORS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        changed.append(name)
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    if changed:
        verb = "differ from a fresh generation" if arguments.check else "written"
        sys.stdout.write(f"{', '.join(changed)}: {verb}\n")
    return 1 if arguments.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
