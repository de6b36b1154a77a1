"""The control process's registry of verifiers: names, acknowledgements, bounds, and a restart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessauth import limits
from sessauth.clock import FixedClock
from sessauth.errors import ServerError
from sessauth.model.receipt import RegistrationRecord, VerifierState
from sessauth.server.evidence import registry as registry_module
from sessauth.server.evidence.registry import (
    MARGIN_MS,
    RETENTION_MS,
    RegistrationRequest,
    RegistryEntry,
    VerifierKind,
    VerifierRegistry,
    validated,
)
from sessauth.state.host.processes import is_gone, started
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening

BOUND_MS = 5_000
WAITS, ACKNOWLEDGED = VerifierState.WAITING, VerifierState.ACKNOWLEDGED
OUTLIVED, LEFT = VerifierState.OUTLIVED, VerifierState.LEFT


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands still."""
    return FixedClock(NOW)


@pytest.fixture
def log(tmp_path: Path, clock: FixedClock) -> Iterator[StateWriter]:
    """A state of revision 1."""
    with StateWriter.open(tmp_path / "state", create=True, map_size=8 << 20, clock=clock) as writer:
        assert writer.submit(opening("o")).result().applied
        yield writer


@pytest.fixture
def registry(log: StateWriter, clock: FixedClock) -> VerifierRegistry:
    """A table with nobody in it."""
    return VerifierRegistry(log, clock)


def registration(name: str = "gw-1", revision: int = 1, **given: Any) -> RegistrationRequest:
    """Return the request of an embedded verifier, with these fields in place of its own."""
    given = {"principal": "gw", "instance": b"i" * 16, "staleness_ms": BOUND_MS, **given}
    kind = given.pop("kind", VerifierKind.EMBEDDED)
    return RegistrationRequest(kind, RegistrationRecord(name, registered_revision=revision, **given))


def states(registry: VerifierRegistry, revision: int, ended_at_ms: int = NOW) -> dict[str, VerifierState]:
    """Return where everybody stands against an end."""
    return {each.name: each.state for each in registry.statuses(revision, ended_at_ms)}


def gone_process() -> tuple[int, int]:
    """Return id and beginning of a process that ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = started(process.pid)
        process.kill()
    return process.pid, began


def word(registry: VerifierRegistry, wanted: RegistrationRequest) -> str:
    """Return the word that an registry is refused with."""
    with pytest.raises(ServerError) as caught:
        registry.register(wanted)
    return caught.value.reason


def test_it_is_waited_for_until_it_acknowledges(registry: VerifierRegistry) -> None:
    """A revision at or behind the end's is an acknowledgement; it never goes back."""
    assert registry.register(registration(revision=1)) == 1
    assert states(registry, 2) == {"gw-1": WAITS} and registry.is_pending(2)

    registry.register(registration(revision=2))
    registry.register(registration(revision=1))

    assert states(registry, 2) == {"gw-1": ACKNOWLEDGED} and not registry.is_pending(2)


def test_behind_its_bound_it_can_not_allow(registry: VerifierRegistry, clock: FixedClock) -> None:
    """Not a moment earlier; being heard again begins the bound anew, for earlier ends too."""
    registry.register(registration())
    clock.advance(BOUND_MS + MARGIN_MS - 1)
    assert states(registry, 2) == {"gw-1": WAITS}

    clock.advance(1)

    [standing] = registry.statuses(2, NOW)
    assert (standing.state, standing.at_ms) == (OUTLIVED, NOW + BOUND_MS)
    registry.register(registration(revision=1))
    assert states(registry, 2) == {"gw-1": WAITS}


def test_the_wall_clock_decides_nothing(registry: VerifierRegistry, clock: FixedClock) -> None:
    """A clock that is set outlives nobody."""
    registry.register(registration())
    clock.step(10 * BOUND_MS)

    assert states(registry, 2) == {"gw-1": WAITS}


def test_who_was_not_there_is_not_named(registry: VerifierRegistry, clock: FixedClock) -> None:
    """A verifier that registered behind the end, or was over before it, is not in its receipt."""
    registry.register(registration("late", revision=2, instance=b"l" * 16))
    registry.register(registration("early", instance=b"e" * 16))
    clock.advance(BOUND_MS + MARGIN_MS)

    assert states(registry, 2, ended_at_ms=NOW + BOUND_MS) == {}
    assert states(registry, 2, ended_at_ms=NOW) == {"early": OUTLIVED}


def test_it_leaves(registry: VerifierRegistry, log: StateWriter) -> None:
    """A verifier that left is waited for no more; another instance can't make it leave."""
    registry.register(registration())
    registry.leave("gw-1", b"x" * 16)
    registry.leave("nobody", b"i" * 16)
    assert states(registry, 2, NOW - 1) == {"gw-1": WAITS}

    registry.leave("gw-1", b"i" * 16)

    assert states(registry, 2, NOW - 1) == {"gw-1": LEFT}
    log.run(lambda group: None)
    assert log.registrations() == []


def test_a_name_is_one_process(registry: VerifierRegistry, clock: FixedClock) -> None:
    """While who has it may still allow, nobody else gets it; then anybody does."""
    registry.register(registration())
    for other in (registration(instance=b"j" * 16), registration(instance=b"j" * 16, principal="other")):
        assert word(registry, other) == "NAME_TAKEN"
    assert word(registry, registration(principal="other")) == "NAME_TAKEN"

    clock.advance(BOUND_MS + MARGIN_MS)

    registry.register(registration(instance=b"j" * 16, principal="other", revision=2))
    assert states(registry, 2) == {"gw-1": ACKNOWLEDGED}
    assert word(registry, registration()) == "NAME_TAKEN"


def test_a_process_that_ended_gives_its_name_back(registry: VerifierRegistry) -> None:
    """Its next life may come before its bound has passed, with the same credential."""
    process_id, began = gone_process()
    registry.register(registration(process_id=process_id, process_started=began))
    assert word(registry, registration(instance=b"j" * 16, principal="other")) == "NAME_TAKEN"
    assert states(registry, 2) == {"gw-1": WAITS}

    registry.register(registration(instance=b"j" * 16, revision=2))

    assert states(registry, 2) == {"gw-1": ACKNOWLEDGED}


def test_a_process_that_runs_keeps_it(registry: VerifierRegistry) -> None:
    """Its number alone is not it: a number is given again."""
    me = {"process_id": os.getpid(), "process_started": started(os.getpid())}
    assert not is_gone(**{"process_id": me["process_id"], "began": me["process_started"]})
    assert is_gone(me["process_id"], me["process_started"] + 1)
    registry.register(registration(**me))

    assert word(registry, registration(instance=b"j" * 16)) == "NAME_TAKEN"


def test_a_worker_is_over_with_its_process(registry: VerifierRegistry, log: StateWriter) -> None:
    """It has no bound and no row: its parent sees its end."""
    process_id, began = gone_process()
    alive = {"process_id": os.getpid(), "process_started": started(os.getpid())}
    for name, process in (
        ("worker-0", {"process_id": process_id, "process_started": began}),
        ("worker-1", alive),
    ):
        registry.register(
            validated(registration(name, kind=VerifierKind.WORKER, instance=name.encode() * 2, **process))
        )

    # That it is gone is seen when it is looked at, which is behind the end.
    assert states(registry, 2, NOW - 1) == {"sessauth/worker-0": LEFT, "sessauth/worker-1": WAITS}
    assert log.registrations() == []


def test_what_it_says_is_of_the_form() -> None:
    """A name, an instance and a bound; a worker says which process it is."""
    for wrong, field in (
        (registration("sessauth/worker-0"), "name"),
        (registration(""), "name"),
        (registration(instance=b"short"), "instance"),
        (registration(staleness_ms=limits.MIN_STALENESS_MS - 1), "staleness_ms"),
        (registration(staleness_ms=limits.MAX_STALENESS_MS + 1), "staleness_ms"),
        (registration(kind=VerifierKind.WORKER), "process_id"),
    ):
        with pytest.raises(ServerError) as caught:
            validated(wrong)
        assert caught.value.field == field


def test_one_that_was_late_holds_up_no_further_end(registry: VerifierRegistry) -> None:
    """Until it is heard again."""
    registry.register(registration())
    registry.wait(2, 0)
    assert not registry.is_pending(2) and states(registry, 2) == {"gw-1": WAITS}

    registry.register(registration())

    assert registry.is_pending(2)


def test_the_next_process_knows_who_was_enrolled(
    registry: VerifierRegistry, log: StateWriter, clock: FixedClock
) -> None:
    """A verifier that may still allow is waited for again, until it registers or a whole bound has passed."""
    registry.register(registration(revision=1))
    registry.register(registration(revision=2))
    clock.advance(BOUND_MS - 1)

    again = VerifierRegistry(log, clock)

    assert states(again, 2) == {"gw-1": WAITS}
    clock.advance(BOUND_MS + MARGIN_MS)
    assert states(again, 2) == {"gw-1": OUTLIVED}
    again.register(registration(revision=2))
    assert states(again, 2) == {"gw-1": ACKNOWLEDGED}


def test_who_is_over_for_long_is_forgotten(
    registry: VerifierRegistry, log: StateWriter, clock: FixedClock
) -> None:
    """Its row as well; who is heard stays."""
    registry.register(registration())
    registry.register(registration("gw-2", instance=b"j" * 16))
    clock.advance(BOUND_MS + RETENTION_MS)
    registry.register(registration("gw-2", instance=b"j" * 16))
    registry.evict_inactive()

    assert [entry.record.name for entry, _ in registry.all()] == ["gw-2"]
    log.run(lambda group: None)
    assert [record.name for record in log.registrations()] == ["gw-2"]


@pytest.mark.parametrize("full", [False, True])
def test_who_is_heard_meanwhile_is_not_forgotten(
    registry: VerifierRegistry,
    log: StateWriter,
    clock: FixedClock,
    monkeypatch: pytest.MonkeyPatch,
    full: bool,
) -> None:
    """One that wakes up just when it is to be forgotten, or to make room, counts again and stays."""
    monkeypatch.setattr(limits, "MAX_VERIFIERS", 1)
    registry.register(registration())
    clock.advance(BOUND_MS + RETENTION_MS)
    over_since = registry._inactive_for

    def renewed_meanwhile(ms: int) -> list[RegistryEntry]:
        over = over_since(ms)
        registry.register(registration())
        return over

    monkeypatch.setattr(registry, "_inactive_for", renewed_meanwhile)
    if full:
        assert word(registry, registration("gw-2", instance=b"2" * 16)) == "LIMIT"
    else:
        registry.evict_inactive()

    assert states(registry, 2) == {"gw-1": WAITS}
    log.run(lambda group: None)
    assert [record.name for record in log.registrations()] == ["gw-1"]


def test_there_are_not_more_than_a_receipt_can_name(
    registry: VerifierRegistry, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is over makes room, one that may allow does not."""
    monkeypatch.setattr(limits, "MAX_VERIFIERS", 2)
    for number in (1, 2):
        registry.register(registration(f"gw-{number}", instance=bytes([number]) * 16))
    assert word(registry, registration("gw-3", instance=b"3" * 16)) == "LIMIT"

    clock.advance(BOUND_MS + MARGIN_MS)
    registry.register(registration("gw-2", instance=bytes([2]) * 16))
    registry.register(registration("gw-3", instance=b"3" * 16))

    assert [entry.record.name for entry, _ in registry.all()] == ["gw-2", "gw-3"]


def test_one_credential_does_not_take_all_names(
    registry: VerifierRegistry, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those that may allow count; another credential's are its own."""
    monkeypatch.setattr(registry_module, "OF_ONE_PRINCIPAL", 1)
    registry.register(registration("gw-1"))
    assert word(registry, registration("gw-2", instance=b"2" * 16)) == "LIMIT"
    registry.register(registration("gw-2", instance=b"2" * 16, principal="other"))

    clock.advance(BOUND_MS + MARGIN_MS)

    registry.register(registration("gw-3", instance=b"3" * 16))
