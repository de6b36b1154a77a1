"""docs/how-to/capacity.md: its sizes are those that this version writes."""

from __future__ import annotations

import re

import pytest

from benchmarks.growth.row_sizes import table
from tests.support.markdown import Document
from tests.support.tree import ROOT

PAGE = Document(ROOT / "docs" / "how-to" / "capacity.md")
ROW = re.compile(r"^\| (an? [^|]+) \| ([\d,]+) \| ([\d,]+) \|$", re.M)


def _sizes(text: str) -> dict[str, list[int]]:
    return {name: [int(each.replace(",", "")) for each in sizes] for name, *sizes in ROW.findall(text)}


@pytest.mark.slow
def test_the_sizes_are_measured() -> None:
    """Each is within a fifth of a fresh measurement; memory of a process differs by platform."""
    shown, measured = _sizes(PAGE.text), _sizes("\n".join(table()))
    process = shown.pop("a process with empty caches"), measured.pop("a process with empty caches")

    assert shown.keys() == measured.keys()
    assert {
        name: [page, fresh]
        for name, page in shown.items()
        if page != pytest.approx(fresh := measured[name], rel=0.2)
    } == {}
    assert all(each > 0 for sizes in process for each in sizes)
