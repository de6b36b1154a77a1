"""Timed calls do what their rows say: decisions, fresh bytes, signatures, caches."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from benchmarks import budgets, floors
from benchmarks.registry import SERIES, STAGES
from benchmarks.state_setup import World


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
