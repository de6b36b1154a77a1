"""Results in documents: what is written comes from the JSON, and only from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import budgets, render, report, tables
from benchmarks.budgets import Budget
from benchmarks.measure import Measurement, not_measured, singles
from benchmarks.results_file import WrongDocument, read
from tests.support.tree import ROOT

MACHINE = {
    "date": "2026-01-02T03:04:05Z",
    "commit": "0123456789abcdef",
    "changed_files": 0,
    "cpu": "Example 9000",
    "cores": 2,
    "load_before": 0.1,
    "load_after": 0.9,
    "system": "Linux 6",
    "python": "3.11.7",
    "versions": {"sessauth": "0.1.0", "absent": ""},
}
PERFORMANCE = ROOT / "docs" / "performance.md"
LEAST_PRIVILEGE = ROOT / "docs" / "least-privilege.md"


def _row(name: str, floor: str = "", us: float = 2.0, ratio: float = 1.5, **more: Any) -> Measurement:
    floors = (us / ratio,) * 7 if floor else ()
    return Measurement(name, floor, (us,) * 7, floors, **{**singles([us] * 20_000), **more})


def _write(folder: Path, rows: list[Measurement], name: str = "result.json", **more: Any) -> Path:
    table = {"warm/root": Budget("warm/root", "floor/lookup", 3.0, gates=True)}
    document = report.document(budgets.judge(rows, table), MACHINE, {"quick": False})
    report.write(folder / name, {**document, **more})
    return folder / name


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result with chains, growth, service, a counted row and one that was not measured."""
    rows = [_row("floor/lookup", us=0.14), _row("warm/root", "floor/lookup", extra={"source": "generator"})]
    rows += [_row(f"warm/chain-{n}", "warm/root", us=2.0 + n) for n in (2, 4, 8, 16)]
    rows += [_row("cold/root", "floor/signatures-1", us=50.0)]
    rows += [_row(f"cold/chain-{n}", f"floor/signatures-{n}", us=50.0 * n) for n in (2, 4, 8, 16)]
    rows += [
        _row(f"growth/sessions-{n}-{kind}", f"growth/sessions-1000-{kind}")
        for kind in ("warm", "cold")
        for n in (10_000, 100_000)
    ]
    rows += [_row("service/check-alone", "floor/echo-alone", us=300.0)]
    rows += [_row("instructions/warm/root", "lookup", us=5000.0, unit="instructions", p50_us=float("nan"))]
    rows += [not_measured("service/h2load", "floor/echo", "h2load is not installed")]
    return _write(tmp_path, rows)


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    """A result of two peers in two forms, with notes."""
    rows = [
        _row(f"peer/{name}/{form}", "ours", us=us, ratio=us / 2)
        for name, us in (("alpha", 30.0), ("beta", 90.0))
        for form in ("kept-parsed", "parse-every-time")
    ]
    return _write(tmp_path, rows, "peers.json", notes={"alpha": "One\n  signature less."})


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 2}', None])
def test_a_file_that_is_no_result_is_refused_by_name(text: str | None, tmp_path: Path) -> None:
    """No JSON, another format, missing parts and a missing file end with status 1 and name the file."""
    file = tmp_path / "wrong.json"
    if text is not None:
        file.write_text(text, "utf-8")
    with pytest.raises(WrongDocument, match=r"wrong\.json"):
        read(file)

    document = tmp_path / "page.md"
    document.write_text("<!-- rendered: results -->\n<!-- end -->\n", "utf-8")
    assert render.main([str(document), str(file)]) == 1


def _parts(page: Path = PERFORMANCE) -> dict[str, str]:
    text = page.read_text("utf-8")
    return {match["name"]: match[0] for match in render.MARK.finditer(text)}


def test_the_documents_have_a_place_for_every_part() -> None:
    """Two pages mark where each part stands, once, and outside of them no table has figures."""
    text, grants = PERFORMANCE.read_text("utf-8"), LEAST_PRIVILEGE.read_text("utf-8")

    assert sorted((*_parts(), *_parts(LEAST_PRIVILEGE))) == sorted(render.PARTS)
    assert len(render.MARK.findall(text + grants)) == len(render.PARTS)
    assert not re.search(r"^\|.*\d %.*\|$", render.MARK.sub("", grants), re.M)
    assert not re.search(r"^\|.*\d µs.*\|$", render.MARK.sub("", text), re.M)


@pytest.mark.parametrize(
    ("part", "columns"),
    [
        ("targets", tables.TARGETS),
        ("results", tables.RESULTS),
        ("instructions", tables.INSTRUCTIONS),
        ("peers", tables.PEERS),
    ],
)
def test_rendered_tables_have_the_format(part: str, columns: tuple[str, ...]) -> None:
    """Each line of a table has all columns, under the header that the tool writes."""
    lines = [line for line in _parts()[part].splitlines() if line.startswith("|")]
    header = f"| {' | '.join(columns)} |"

    for number, line in enumerate(lines):
        assert len(re.findall(r"(?<!\\)\|", line)) == len(columns) + 1, line
        if re.fullmatch(r"[| -]+", line):
            assert lines[number - 1] == header
    assert not lines or lines[0] == header


def test_the_document_can_be_rendered(result: Path, peers: Path, tmp_path: Path) -> None:
    """Results at hand fill every part, but that of bounds with a reason if no row has one."""
    text = PERFORMANCE.read_text("utf-8")
    checks = [_row("service/check", "floor/echo", extra={"server CPU us": 4.0})]
    served = _write(tmp_path, checks, "served.json")

    rendered, left = render.render(text, [read(result), read(peers), read(served)])

    assert left == ["targets"]
    assert "Example 9000" in rendered and "| warm/root |" in rendered and "| alpha |" in rendered
