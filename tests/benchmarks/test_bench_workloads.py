"""Timed calls do what their rows say: decisions, fresh bytes, signatures, caches."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest

from benchmarks import budgets, floors, workloads
from benchmarks.measure import Loop, Plan, measure
from benchmarks.registry import SERIES, STAGES
from benchmarks.stages.checks import Cold, Warm
from benchmarks.state_setup import World
from benchmarks.workloads import Workload, WrongDecision
from sessauth.reasons import Reason

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


def test_a_workload_that_is_decided_otherwise_is_not_timed(live_world: World) -> None:
    """A benchmark that would measure denials by accident, or allows, stops before the clock starts."""
    allowed = workloads.root(live_world)
    denied = Workload("denied", allowed.calls, Reason.OUT_OF_SCOPE)
    elsewhere = Workload("elsewhere", (allowed.calls[0]._replace(resource="mcp/github/other"),))

    for wrong in (denied, elsewhere):
        with pytest.raises(WrongDecision, match=wrong.name):
            Warm("warm/x", live_world, wrong)


def test_every_timed_call_gets_bytes_that_were_never_hashed(live_world: World) -> None:
    """Tokens and arguments of a block are equal to the workload's and are objects of their own."""
    workload = workloads.root(live_world)
    calls = Warm("warm/x", live_world, workload).prepare(5)

    assert calls == [tuple(workload.calls[0])] * 5
    assert len({id(token) for token, *_ in (*calls, workload.calls[0])}) == 6
    assert len({id(arguments) for *_, arguments, _ in (*calls, workload.calls[0])}) == 6


def test_warm_checks_hit_the_cache_and_cold_ones_never_do(live_world: World) -> None:
    """A warm block adds only hits; a cold block adds as many misses as it has checks, and no hit."""
    one = workloads.root(live_world)
    warm_subject = Warm("warm/x", live_world, one)
    cache = warm_subject._verifier.cache
    misses, hits = cache.misses, cache.hits
    warm_subject.run(warm_subject.prepare(20))
    assert (cache.misses - misses, cache.hits - hits) == (0, 20)

    cold_subject = Cold("cold/x", live_world, workloads.chain(live_world, 2, 8), one, calls=8)
    items = cold_subject.prepare(8)
    cache = cold_subject._verifier.cache
    misses, hits = cache.misses, cache.hits
    cold_subject.run(items)
    assert (cache.misses - misses, cache.hits - hits) == (8, 0)


def test_a_cold_pool_with_a_token_twice_is_refused(live_world: World) -> None:
    """The second of two equal tokens would be warm."""
    workload = workloads.root(live_world)
    twice = dataclasses.replace(workload, calls=workload.calls * 2)

    with pytest.raises(WrongDecision, match="twice"):
        Cold("cold/x", live_world, twice, workload, calls=2)


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


def test_the_signature_floor_verifies_as_many_signatures_as_there_are_blocks(
    live_world: World, floor_module: Any
) -> None:
    """One a block of a chain, each over its own message and key; one for a child of a known parent."""
    public_key = live_world.key.public_key
    for blocks in (1, 2, 4):
        tokens = [workloads.chain(live_world, blocks).calls[0].token]
        (item,) = floors.signatures(floor_module, "floor/x", tokens, public_key).prepare(1)
        (last,) = floors.signatures(floor_module, "floor/x", tokens, public_key, last=1).prepare(1)

        assert len(item) == blocks and len({signed for signed, _ in item}) == blocks
        assert all(floor_module.verify(signed, key) for signed, key in item)
        assert last == item[-1:]


def test_the_signature_floor_refuses_what_does_not_verify(live_world: World, floor_module: Any) -> None:
    """Under another issuer key the floor stops instead of timing failures."""
    token = workloads.root(live_world).calls[0].token

    with pytest.raises(RuntimeError, match="signature floor"):
        floors.signatures(floor_module, "floor/x", [token], live_world.hot_session_ids[0] * 2)


def test_the_lookup_floor_is_over_420_bytes(live_world: World, floor_module: Any) -> None:
    """The floor that the budget is stated against does not grow with the token."""
    token = workloads.root(live_world).calls[0].token

    assert {len(item) for item in floors.lookup(floor_module, token).prepare(3)} == {420}


def test_the_compiled_call_below_passes_on_what_it_is_given(floor_module: Any) -> None:
    """At any depth the function gets its items and its result or exception comes back."""
    assert floor_module.below(sum, [1, 2, 3], 4080) == 6
    with pytest.raises(TypeError):
        floor_module.below(sum, None, 0)


def test_signatures_of_a_block_are_others_than_those_of_the_block_before(
    live_world: World, floor_module: Any
) -> None:
    """A processor that sees the same signatures again learns their branches; so blocks take turns."""
    tokens = [call.token for call in workloads.root(live_world, 4).calls]
    bare = floors.signatures(floor_module, "floor/x", tokens, live_world.key.public_key)

    first, second = bare.prepare(2), bare.prepare(2)

    assert {item[0][0] for item in first}.isdisjoint({item[0][0] for item in second})
