"""Checks with proofs: each call that is timed has a proof of its own, and is allowed."""

from __future__ import annotations

import pytest

from benchmarks.measure import NotMeasured
from benchmarks.stages import proofs
from benchmarks.stages.proofs import HOLDERS, Host, Proved
from benchmarks.state_setup import World
from benchmarks.workloads import WrongDecision
from sessauth._fast._check import ProofKeys


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller tables than in earnest."""
    monkeypatch.setattr(proofs, "SLOTS", 1 << 14)
    monkeypatch.setattr(proofs, "TAKEN_BEFORE", 16)


@pytest.mark.parametrize("kind", proofs.CALLS)
def test_each_call_is_allowed_once(live_world: World, kind: str) -> None:
    """Prepared calls are allowed once, by ``HOLDERS`` holders."""
    proved = Proved(f"proof/{kind}", live_world, Host(live_world), kind)
    calls = proved.prepare(HOLDERS + 6)

    assert len({call[0] for call in calls}) == HOLDERS
    assert len({call[4] for call in calls}) == HOLDERS + 6
    proved.run(calls[1:])
    assert [proved._check(call).allowed for call in calls[:3]] == [True, False, False]
    assert proved.extra() == {}


def test_wrong_decisions_stop_the_run(live_world: World) -> None:
    """A host without a table allows nothing, so there is nothing to time."""
    host = Host(live_world)
    host.proofs = ProofKeys(host.proofs.verifier_id, [])

    with pytest.raises(WrongDecision, match="PROOF_UNAVAILABLE"):
        Proved("proof/mac", live_world, host, "mac")


def test_a_full_table_is_not_a_figure(live_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are reported if holders ran out of room."""
    monkeypatch.setattr(proofs, "SLOTS", 1 << 10)
    proved = Proved("proof/mac", live_world, Host(live_world), "mac")
    proved.run(proved.prepare(2000))

    with pytest.raises(NotMeasured, match="full"):
        proved.extra()
