"""docs/compliance.md names tests that exist, and says of each row what is not covered."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.markdown import Document
from tests.support.tree import ROOT

COMPLIANCE = Document(ROOT / "docs" / "compliance.md")
HEADS = {"risk", "tenet", "layer: threat"}
NOT_COVERED = "not covered"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")

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
        if line.startswith("|") and cells[0] not in HEADS and not set(cells[0]) <= {"-", " "}:
            found.append(cells)
    return found


SECTIONS = COMPLIANCE.headings(2)
ROWS = [row for section in SECTIONS for row in _rows(section)]


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
        assert row[2] == NOT_COVERED
    assert len(row[1]) > 20


def test_the_lists_are_whole() -> None:
    """Ten risks, seven tenets, seven layers and what crosses them, by their own names and in their order."""
    risks, tenets, threats = map(_rows, SECTIONS)

    assert [row[0] for row in risks] == [f"NHI{n}:2025 {name}" for n, name in enumerate(NHI, start=1)]
    assert [row[0].split(".")[0] for row in tenets] == [str(number) for number in range(1, 8)]
    named = [row[0].split(":")[0] for row in threats]
    assert list(dict.fromkeys(named)) == [
        *(f"{n} {name}" for n, name in enumerate(LAYERS, start=1)),
        "Cross-layer",
    ]


def test_most_rows_say_what_is_left_to_others() -> None:
    """A list that is wholly met by a library is a list that was not read."""
    silent = [row[0] for row in ROWS if not row[3]]

    assert len(ROWS) >= 30
    # The project's purpose.
    assert silent == ["3. Access to individual enterprise resources is granted on a per-session basis"]
