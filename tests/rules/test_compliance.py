"""docs/compliance.md names tests that exist, and what is not covered; evidence packs have its rows."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest

from sessauth.evidence.pack import control_map
from tests.support.markdown import Document
from tests.support.tree import ROOT

GENERATOR = runpy.run_path(str(ROOT / "tools" / "generate_controls.py"))
COMPLIANCE = Document(ROOT / "docs" / "compliance.md")
NOT_HELD = "not held"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")

ASI = (
    *("Agent Goal Hijack", "Tool Misuse and Exploitation", "Identity and Privilege Abuse"),
    *("Agentic Supply Chain Vulnerabilities", "Unexpected Code Execution (RCE)"),
    *("Memory and Context Poisoning", "Insecure Inter-Agent Communication", "Cascading Failures"),
    *("Human-Agent Trust Exploitation", "Rogue Agents"),
)
AARM = (
    *("Pre-execution interception", "Context accumulation", "Policy evaluation with intent alignment"),
    *("Five authorization decisions", "Tamper-evident receipts", "Identity binding"),
    *("Semantic distance tracking", "Telemetry export", "Least privilege enforcement"),
)
NHI = (
    *("Improper Offboarding", "Secret Leakage", "Vulnerable Third-Party NHI", "Insecure Authentication"),
    *("Overprivileged NHI", "Insecure Cloud Deployment Configurations", "Long-Lived Secrets"),
    *("Environment Isolation", "NHI Reuse", "Human Use of NHI"),
)
LAYERS = (
    *("Foundation Models", "Data Operations", "Agent Frameworks", "Deployment and Infrastructure"),
    *("Evaluation and Observability", "Security and Compliance", "Agent Ecosystem"),
)


def _rows(section: str) -> list[list[str]]:
    """Return the cells of each row of a section's table."""
    found = []
    for line in COMPLIANCE.sections(2)[section].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not set(cells[0]) <= {"-", " "}:
            found.append(cells)
    # Without the heads of the columns.
    return found[1:]


SECTIONS = COMPLIANCE.headings(2)
ROWS = [row for section in SECTIONS for row in _rows(section)]


@cache
def _functions(path: Path) -> set[str]:
    """Return the names of the test functions in a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_every_row_is_held_or_says_that_it_is_not(row: list[str]) -> None:
    """Four cells; in the third tests that exist, each once, or the words for there being none."""
    assert len(row) == 4, row
    held = TEST.findall(row[2])

    if held:
        assert TEST.sub("", row[2]).strip() == "", "something in the third cell is no test"
        assert len(set(held)) == len(held)
        missing = [
            f"{file}::{name}"
            for file, name in held
            if not (ROOT / file).exists() or name not in _functions(ROOT / file)
        ]
        assert missing == []
    else:
        assert row[2] == NOT_HELD and row[3], "why it is not held"
    assert len(row[1]) > 20


def test_the_lists_are_whole() -> None:
    """Each list has all of its rows, by their own names or numbers and in their order."""
    risks, tenets, threats, agentic, c9, c10, aarm = map(_rows, SECTIONS)

    assert [row[0] for row in risks] == [f"NHI{n}:2025 {name}" for n, name in enumerate(NHI, start=1)]
    assert [row[0].split(".")[0] for row in tenets] == [str(number) for number in range(1, 8)]
    named = [row[0].split(":")[0] for row in threats]
    assert list(dict.fromkeys(named)) == [
        *(f"{n} {name}" for n, name in enumerate(LAYERS, start=1)),
        "Cross-layer",
    ]
    assert [row[0] for row in agentic] == [f"ASI{n:02} {name}" for n, name in enumerate(ASI, start=1)]
    for chapter, rows, sizes in ((9, c9, (3, 10, 8, 4, 6, 3)), (10, c10, (3, 7, 5, 8))):
        expected = [f"{chapter}.{s}.{n}" for s, size in enumerate(sizes, start=1) for n in range(1, size + 1)]
        assert [row[0].split(" ")[0] for row in rows] == expected
    assert [row[0] for row in aarm] == [f"R{n} {name}" for n, name in enumerate(AARM, start=1)]


def test_a_pack_has_every_row() -> None:
    """The map of controls in the package is made of this page, and is fresh."""
    made = GENERATOR["of_page"](COMPLIANCE.text)

    assert GENERATOR["TARGET"].read_text(encoding="utf-8") == GENERATOR["encoded"](made), "run make controls"
    assert control_map() == made
    assert all(each["source"] for each in made["lists"])
    assert [each["title"] for each in made["lists"]] == SECTIONS
    rows = [row for each in made["lists"] for row in each["rows"]]
    assert [row["control"] for row in rows] == [row[0] for row in ROWS]
    assert [f"`{'` `'.join(row['held_by'])}`" if row["held_by"] else NOT_HELD for row in rows] == [
        row[2] for row in ROWS
    ]


def test_most_rows_say_what_is_left_to_others() -> None:
    """A list that is wholly met by a library is a list that was not read."""
    risks = [row for section in SECTIONS[:4] for row in _rows(section)]
    silent = [row[0] for row in risks if not row[3]]
    not_held = [row for row in ROWS if row[2] == NOT_HELD]

    assert len(ROWS) >= 100
    # The project's purpose.
    assert silent == ["3. Access to individual enterprise resources is granted on a per-session basis"]
    assert len(not_held) >= 20
