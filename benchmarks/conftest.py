"""Rows under pytest-benchmark: what they share, the figure of each when it is measured, and its bound."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import budgets, floors, state_setup
from benchmarks.measure import Measurement, Row
from benchmarks.state_setup import World
from benchmarks.turns import Timed, Turns

FIGURE: Final = "figure"
MOST_ROUNDS: Final = 10_000
measured_rows: Final = pytest.StashKey[list[Measurement]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin without rows."""
    config.stash[measured_rows] = []


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect nothing without pytest-benchmark."""
    return None if config.pluginmanager.hasplugin("benchmark") else True


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Print a row's figure when it is measured: the table of pytest-benchmark comes after all of them."""
    figures = [str(value) for name, value in report.user_properties if name == FIGURE]
    if report.when == "call" and report.passed and figures:
        return "passed", f"\n{figures[0]}", f"PASSED {figures[0]}"
    return None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Tell of a floor that cost twice as much in one row as in another: then no ratio to it says much."""
    for floor, (least, most) in budgets.contradicted(config.stash[measured_rows]).items():
        terminalreporter.write_line(
            f"rows contradict each other: {floor} cost {least:.3g} us in one and {most:.3g} us in another"
        )


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Temporary folder, by a path that is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="sa-bench-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def floor_module(folder: Path) -> Any:
    """The compiled floors."""
    return floors.build(folder)


@pytest.fixture(scope="session")
def world(folder: Path) -> Iterator[World]:
    """The state that checks are measured against."""
    made = state_setup.build(folder)
    yield made
    made.close()


@pytest.fixture
def timed(
    request: pytest.FixtureRequest,
    benchmark: Any,
    floor_module: Any,
    record_property: Callable[[str, object], None],
) -> Timed:
    """Function that times a row in turns with its floor and asserts the largest ratio."""
    config = request.config

    def run(row: Row, at_most: float) -> None:
        turns = Turns(row, floor_module.below)
        begun = time.perf_counter()
        turns.warm_up()
        seconds = float(config.getoption("benchmark_max_time"))
        rounds = int(seconds / (time.perf_counter() - begun))
        rounds = max(config.getoption("benchmark_min_rounds"), min(rounds, MOST_ROUNDS))
        benchmark.pedantic(floor_module.below, setup=turns.next, rounds=rounds)
        if row.extra is not None:
            row.extra()
        # pytest-benchmark times nothing where it is disabled.
        if benchmark.stats is None:
            return
        times_us = tuple(seconds * 1e6 for seconds in benchmark.stats.stats.data)
        measured = Measurement(row.subject.name, turns.floor.name, times_us, tuple(turns.floor_us))
        config.stash[measured_rows].append(measured)
        benchmark.extra_info |= {"ratio": measured.ratio, "floor": measured.floor, "at_most": at_most}
        figure = f"{measured.name}: {measured.middle:.3g} us, {measured.ratio:.3g} x {measured.floor}"
        record_property(FIGURE, f"{figure} (at most {at_most:.3g})")
        if measured.ratio > at_most:
            pytest.fail(f"{figure}, at most {at_most:.3g}", pytrace=False)

    return run
