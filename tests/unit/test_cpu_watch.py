"""The limit of a test's CPU time."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

from tests.support import cpu_watch


@pytest.mark.parametrize(
    ("seconds", "loop", "units"),
    [(2.9, 9.0, 0.0), (3.6, 1.2, 3.0), (12.0, 3.0, 4.0), (6.0, 0.5, 6.0)],
    ids=["short", "as chosen", "a slow machine", "a quick machine"],
)
def test_a_time_counts_in_loops(
    monkeypatch: pytest.MonkeyPatch, seconds: float, loop: float, units: float
) -> None:
    """A slow or busy machine has more time, and a quick one no less."""
    monkeypatch.setattr(cpu_watch, "loop_seconds", lambda: loop)
    assert cpu_watch.units(seconds) == pytest.approx(units)


@pytest.mark.parametrize(
    ("module", "cases", "counted"),
    [(ModuleType("m"), 20_000, 30.0), (SimpleNamespace(CASES=1), 20_000, 3.0), (None, 20_000, 30.0)]
    + [(SimpleNamespace(examples=1), cases, 30.0) for cases in (2_000, 200)],
)
def test_rounds_that_a_setting_adds_do_not_count(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | None, cases: int, counted: float
) -> None:
    """A generated test has the limit of its rounds at home; any other test the same everywhere."""
    monkeypatch.setattr(cpu_watch, "CASES", cases)
    assert cpu_watch.limited(30.0, module) == pytest.approx(counted)


def test_the_loop_is_measured() -> None:
    """It takes CPU time, which the clock of the process has."""
    assert cpu_watch.loop_seconds() > 0.01
