"""Timed calls do what their rows say: decisions, fresh bytes, signatures, caches."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest

from benchmarks import budgets, floors, workloads
from benchmarks.measure import Loop, Plan, measure
from benchmarks.registry import SERIES, STAGES
from benchmarks.stages.checks import Warm
from benchmarks.state_setup import World

SIGNATURE_NS, LOOKUP_NS = 50_000, 140


@pytest.fixture(scope="module")
def floor_module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled floors."""
    return floors.build(tmp_path_factory.mktemp("floor"))


def test_every_budget_names_a_row_that_is_measured(live_world: World, floor_module: Any) -> None:
    """Each table of budgets.toml is a row of a stage or series, with the floor that it is taken to."""
    found: dict[str, str] = {}
    for name in STAGES:
        for row in importlib.import_module(name).rows(live_world, floor_module):
            assert row.subject.name not in found
            found[row.subject.name] = row.floor.name if row.floor else ""
    for name in SERIES:
        found |= getattr(importlib.import_module(name), "ROWS", {})

    assert {name: budget.floor for name, budget in budgets.load().items()}.items() <= found.items()


def test_a_cache_that_is_turned_off_misses_the_budget_of_a_warm_check(live_world: World) -> None:
    """A clock of work, not of time, counts: a miss costs a signature, a hit a look-up, on any machine."""

    def judged(measured_world: World) -> budgets.Judged:
        subject = Warm("warm/root", measured_world, workloads.root(measured_world), calls=10)
        cache = subject._verifier.cache
        looked_up = [0]

        def run(items: Any) -> None:
            looked_up[0] += len(items)

        floor = Loop("floor/lookup", 10, lambda count: [None] * count, run)

        def work() -> int:
            return looked_up[0] * LOOKUP_NS + cache.hits * 2 * LOOKUP_NS + cache.misses * SIGNATURE_NS

        measured = measure(subject, floor, Plan(rounds=7, blocks=2, singles=5), work)
        return budgets.judge([measured], budgets.load())[0]

    on, off = judged(live_world), judged(dataclasses.replace(live_world, cache_bytes=0))
    assert (on.measurement.ratio, on.verdict) == (pytest.approx(2.0), budgets.MET)
    assert (off.measurement.ratio, off.verdict) == (pytest.approx(SIGNATURE_NS / LOOKUP_NS), budgets.MISSED)
