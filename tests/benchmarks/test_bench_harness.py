"""The harness by synthetic timings: no test here depends on how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as entry
from benchmarks import budgets, host_info, registry, report, results_file, tables
from benchmarks.budgets import Budget, BudgetError
from benchmarks.measure import Measurement, NotMeasured, Plan, Row, measure, measure_row
from benchmarks.progress import Progress, expected

PLAN = Plan(rounds=7, blocks=4, singles=1000)
BUDGET = {"warm/x": Budget("warm/x", "floor/x", at_most=10.0, gates=True)}


class Ticks:
    """A clock that moves only when a subject says so, in ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        """The time."""
        return self.now


class Takes:
    """A subject each of whose calls takes so many ns, now and then more."""

    def __init__(self, name: str, clock: Ticks, ns: int, *, hiccup_every: int = 0) -> None:
        self.name = name
        self.calls = 10
        self._clock = clock
        self._ns = ns
        self._hiccup_every = hiccup_every
        self._made = 0

    def prepare(self, count: int) -> Sequence[None]:
        """Inputs."""
        return [None] * count

    def run(self, items: Sequence[Any]) -> None:
        """Let time pass."""
        for _ in items:
            self._made += 1
            self._clock.now += self._ns
            if self._hiccup_every and self._made % self._hiccup_every == 0:
                self._clock.now += 4_000_000


def _judged(ours_ns: int, floor_ns: int = 140, hiccup_every: int = 0) -> list[budgets.Judged]:
    clock = Ticks()
    ours = Takes("warm/x", clock, ours_ns, hiccup_every=hiccup_every)
    measured = measure(ours, Takes("floor/x", clock, floor_ns), PLAN, clock)
    return budgets.judge([measured], BUDGET)


def test_a_row_within_its_budget_passes() -> None:
    """1,330 ns over a floor of 140 ns is 9.5, which a budget of 10 takes."""
    judged = _judged(1330)

    assert judged[0].measurement.ratio == pytest.approx(9.5)
    assert judged[0].verdict == budgets.MET
    assert budgets.failures(judged, BUDGET) == []


def test_a_deliberate_slow_down_fails_and_names_the_budget() -> None:
    """The same row with 200 ns more in each call misses the budget, and the line says which and by what."""
    judged = _judged(1330 + 200)

    (line,) = budgets.failures(judged, BUDGET)
    assert judged[0].verdict == budgets.MISSED
    assert line.startswith("warm/x: 10.9 x floor/x") and line.endswith("budget 10")


def test_a_row_that_does_not_gate_never_fails() -> None:
    """A row with gates = false that is over its budget is listed as that, and fails nothing."""
    budget = {"warm/x": Budget("warm/x", "floor/x", at_most=10.0, gates=False)}
    measured = Measurement("warm/x", "floor/x", (99.0,) * 7, (1.0,) * 7, 0.0)

    judged = budgets.judge([measured], budget)

    assert judged[0].verdict == budgets.OVER
    assert budgets.failures(judged, budget) == []


def test_the_short_form_judges_only_what_it_can() -> None:
    """A row with quick = false is listed by the short form, and neither missed nor missed out there."""
    budget = {"warm/x": Budget("warm/x", "floor/x", at_most=10.0, gates=True, quick=False)}
    measured = Measurement("warm/x", "floor/x", (99.0,) * 7, (1.0,) * 7, 0.0)

    (short,) = budgets.judge([measured], budget, quick=True)
    (full,) = budgets.judge([measured], budget)

    assert (short.verdict, full.verdict) == (budgets.INFO, budgets.MISSED)
    assert budgets.failures([short], budget, quick=True) == budgets.failures([], budget, quick=True) == []
    assert len(budgets.failures([], budget)) == 1


def test_a_gate_that_was_not_measured_fails_a_whole_run() -> None:
    """Dropping a row does not drop its gate; a run of some rows only is told apart."""
    assert budgets.failures([], BUDGET) == ["warm/x: has a budget and was not measured"]
    assert budgets.failures([], BUDGET, whole=False) == []


def test_fewer_than_seven_rounds_are_refused() -> None:
    """No interval is taken of less than seven rounds."""
    with pytest.raises(ValueError, match="seven"):
        Plan(rounds=6, blocks=4, singles=20)


def test_a_row_that_can_not_be_measured_is_reported_with_the_reason() -> None:
    """NotMeasured while measuring or asking for figures leaves a row that says why, and no figures."""
    clock = Ticks()
    ours, floor = Takes("warm/x", clock, 100), Takes("floor/x", clock, 10)

    def refuse() -> dict[str, float]:
        raise NotMeasured("only 300 changes/s")

    measured = measure_row(Row(ours, floor, extra=refuse), PLAN)
    (judged,) = budgets.judge([measured], BUDGET)

    assert (measured.missing, measured.rounds) == ("only 300 changes/s", ())
    assert judged.verdict == budgets.NOT_MEASURED
    (row,) = report.document([judged], {}, {})["rows"]
    assert row["missing"] == "only 300 changes/s"
    assert "not measured: only 300 changes/s" in tables.terminal([row])


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"floor": "f", "at_most": 1.0, "gates": True, "limit": 2}, "limit"),
        ({"floor": "f", "gates": True}, "at_most"),
        ({"floor": "f", "at_most": 0, "gates": True}, "at_most"),
        ({"floor": "f", "at_least": 45.0, "at_most": 1.0, "gates": True}, "at_most"),
        ({"floor": "f", "at_least": 0, "gates": True}, "at_least"),
        ({"floor": "f", "at_least": "45", "gates": True}, "at_least"),
        ({"floor": "f", "at_most": 1.0, "gates": "yes"}, "gates"),
        ({"floor": "f", "at_most": 1.0, "gates": True, "quick": 1}, "quick"),
        ({"floor": "f", "at_most": 2.0, "target": 1.0, "gates": True}, "reason"),
        ({"floor": "f", "at_most": 2.0, "target": 1.0, "gates": True, "reason": " "}, "reason"),
        ({"floor": "f", "at_most": 2.0, "target": 2.0, "gates": True, "reason": "none"}, "reason"),
        (3, "table"),
    ],
)
def test_a_budget_that_can_not_be_is_refused(entry: object, word: str) -> None:
    """A budgets file with a misspelt, missing or impossible entry stops the run and says which."""
    with pytest.raises(BudgetError, match=word) as refused:
        budgets.parse({"warm/x": entry})

    assert "warm/x" in str(refused.value)


def test_a_budget_against_another_floor_is_refused() -> None:
    """A row that was measured against another floor than its budget states is not judged by it."""
    measured = Measurement("warm/x", "floor/other", (1.0,) * 7, (1.0,) * 7, 0.0)

    with pytest.raises(BudgetError, match="floor/other"):
        budgets.judge([measured], BUDGET)


def _run(monkeypatch: pytest.MonkeyPatch, file: Path, ratio: float) -> tuple[int, dict[str, Any]]:
    """Run the command with synthetic measurements: each row ``ratio`` times as bad as its budget."""
    rows = [
        Measurement(b.row, b.floor, (bound,) * 7, (1.0,) * 7, 0.1, {"calls/s": 1.0})
        for b in budgets.load().values()
        for bound in [b.at_least / ratio if b.at_least else b.at_most * ratio]
    ]
    monkeypatch.setattr(entry, "_measurements", lambda options, plan, progress: (row for row in rows))
    status = entry.main(["--json", str(file)])
    return status, json.loads(file.read_text("utf-8"))


def test_the_command_exits_with_one_when_a_gate_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All rows at half their budgets pass; at twice their budgets every gate is named and the exit is 1."""
    gates = [budget.row for budget in budgets.load().values() if budget.gates]

    assert _run(monkeypatch, tmp_path / "met.json", 0.5)[0] == 0
    capsys.readouterr()
    assert _run(monkeypatch, tmp_path / "missed.json", 2.0)[0] == 1

    lines = capsys.readouterr().err.splitlines()
    assert len(gates) >= 3
    assert [line.split(": ")[1] for line in lines if line.startswith("budget missed")] == gates


def test_each_row_is_printed_when_it_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first row stands in the output before the second one is measured, with its ratio and verdict."""
    before: list[str] = []

    def measurements(*_: object) -> Iterator[Measurement]:
        yield Measurement("warm/root", "floor/lookup", (2.0,) * 7, (1.0,) * 7)
        before.append(capsys.readouterr().out)
        yield Measurement("warm/chain-4", "warm/root", (1.0,) * 7, (1.0,) * 7)

    monkeypatch.setattr(entry, "_measurements", measurements)
    entry.main(["--only", "warm/", "--json", str(tmp_path / "result.json")])

    assert before[0].splitlines()[-1] == "warm/root: 2 µs, 2 (2 to 2) x floor/lookup, budget ≤ 3, met"


def test_an_interrupted_run_reports_and_writes_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C leaves the rows measured so far in the table and a file beside that of whole runs; exit 130."""
    released: list[str] = []

    def measurements(*_: object) -> Iterator[Measurement]:
        try:
            yield Measurement("warm/root", "floor/lookup", (2.0,) * 7, (1.0,) * 7)
            raise KeyboardInterrupt
        finally:
            released.append("servers")

    monkeypatch.setattr(entry, "_measurements", measurements)
    monkeypatch.setattr(entry, "RESULTS", tmp_path)
    status = entry.main([])

    said = capsys.readouterr()
    assert status == 130 and released == ["servers"]
    assert "interrupted: 1 rows measured" in said.out and "every gate met" not in said.out
    assert said.err == ""
    assert [file.name for file in tmp_path.iterdir()] == ["some.json"]
    written = results_file.read(tmp_path / "some.json")
    assert written.rows["warm/root"]["verdict"] == budgets.MET


def test_before_each_module_the_time_left_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The time left is the sum of the modules that are not done; the seconds of each module are kept."""
    clock = iter((0.0, 30.0, 30.0, 31.5)).__next__
    progress = Progress({"benchmarks.stages.warm": 20, "benchmarks.mcp.rows": 100}, clock)

    for name in ("benchmarks.stages.warm", "benchmarks.mcp.rows"):
        with progress.module(name):
            pass

    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said == ["stages.warm: about 2 min left", "mcp.rows: about 2 min left"]
    assert progress.seconds == {"benchmarks.stages.warm": 30.0, "benchmarks.mcp.rows": 1.5}


def test_a_module_takes_what_it_took_in_the_previous_run(tmp_path: Path) -> None:
    """A results file's seconds come first; a module that it lacks has those of the registry, by form."""
    file = tmp_path / "full.json"
    report.write(file, report.document([], {}, {}) | {"seconds": {"benchmarks.mcp.rows": 7.5}})

    full, quick = expected(file, quick=False), expected(tmp_path / "none.json", quick=True)

    assert full["benchmarks.mcp.rows"] == 7.5
    assert full["benchmarks.service.rows"] == registry.SERIES["benchmarks.service.rows"].full
    assert quick["benchmarks.service.rows"] == registry.SERIES["benchmarks.service.rows"].quick
    assert full["benchmarks.service.rows"] > quick["benchmarks.service.rows"] > 0
    assert full.keys() == quick.keys() == {**registry.STAGES, **registry.SERIES}.keys()


def test_the_json_says_what_was_measured_on_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file has commit, processor, versions and options, and for each row figures, budget and verdict."""
    _, result = _run(monkeypatch, tmp_path / "deep" / "result.json", 0.5)

    assert result["format"] == 2
    assert set(result["machine"]) >= {
        "commit",
        "changed_files",
        "cpu",
        "cores",
        "system",
        "python",
        "versions",
    }
    assert {"grpcio", "protobuf", "lmdb", "pynacl", "cython"} <= set(result["machine"]["versions"])
    assert result["machine"]["cpu"] and result["machine"]["versions"]["pynacl"]
    assert result["options"]["quick"] is False
    for row in result["rows"]:
        figures = ("median", "p99_us", "ratio", "ratio_low", "ratio_high", "budget")
        assert all(isinstance(row[name], float) for name in figures), row["name"]
        assert len(row["rounds"]) == len(row["floor_rounds"]) == 7
        assert row["verdict"] in (budgets.MET, budgets.INFO)


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    """The model name stands behind the colon; without the file the platform's word is taken."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Example 9000 @ 3 GHz\n", "utf-8")

    assert host_info.cpu_model(file) == "Example 9000 @ 3 GHz"
    assert host_info.cpu_model(tmp_path / "none") != "Example 9000 @ 3 GHz"
