"""A dozen rows by pytest-benchmark, each against its floor; docs/measure.md says how to read them.

pytest benchmarks --benchmark-only
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from benchmarks import budgets, floors, tokens, workloads
from benchmarks.measure import Loop, Row, Subject
from benchmarks.service import grpcio_echo, rows_table
from benchmarks.service.driver import channel
from benchmarks.service.load_spec import CALL_SECONDS
from benchmarks.service.servers import Cores, Places, running_places
from benchmarks.stages import batch, cold, denials, warm
from benchmarks.stages.checks import Warm
from benchmarks.stages.proofs import Host, Proved
from benchmarks.state_setup import World, opening, write
from benchmarks.tokens import ARGUMENTS, AUDIENCE, FITS, RESOURCE, eight_scopes
from benchmarks.turns import TIMER, Timed
from benchmarks.writes.change_kinds import WAIT_SECONDS
from benchmarks.writes.disk import IN_MEMORY, SyncedWrites, file_system
from sessauth.client import Client
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import Change, add_key, end_session
from sessauth.reasons import Reason
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier

pytestmark = pytest.mark.benchmark(timer=TIMER, disable_gc=True)

STAGES: Final[dict[str, ModuleType]] = {
    "warm/root": warm,
    "warm/text": warm,
    "warm/prepared": warm,
    "cold/root": cold,
    "batch/256": batch,
    "refusal/ended-session": denials,
}
# Machines differ, and a median of so few rounds is no interval: `python -m benchmarks` is what gates.
WIDER: Final = 1.5
TABLE: Final = budgets.load()
# The largest ratios of rows that budgets.toml lacks, before they are made wider.
BOUNDS: Final = {
    "warm/token": 4.0,
    "warm/prepared": 3.0,
    "refusal/ended-session": 0.05,
    "token/attenuate": 16.0,
    "token/mint": 2.0,
    "proof/made-and-checked": 0.25,
    "writes/open-end": 6.0,
    # A stub's call against an echo, and a client's check against a stub's call.
    "service/client-check": TABLE["service/check-stub"].at_most * TABLE["service/client-check"].at_most,
}


def bound(row: Row) -> float:
    """Return the largest ratio of a row here: of BOUNDS, else of budgets.toml, made wider."""
    name = row.subject.name
    if name in BOUNDS:
        return WIDER * BOUNDS[name]
    assert row.floor is not None and TABLE[name].floor == row.floor.name
    return WIDER * TABLE[name].at_most


@pytest.mark.parametrize("name", STAGES)
def test_check(name: str, world: World, floor_module: Any, timed: Timed) -> None:
    """Checks as the stages of the own harness make them, which hold each decision before it is timed."""
    row = next(row for row in STAGES[name].rows(world, floor_module) if row.subject.name == name)
    timed(row, bound(row))


class WarmToken(Warm):
    """Warm checks of a token that the caller has as a ``Token``."""

    def prepare(self, count: int) -> Sequence[Any]:
        """Return fresh calls with the same ``Token``."""
        held = Token.parse(self._workload.calls[0].token)
        return [(held, *call[1:]) for call in super().prepare(count)]


def test_warm_token(world: World, floor_module: Any, timed: Timed) -> None:
    """A warm check of a ``Token``, as a program in the same process has it."""
    root = workloads.root(world)
    assert reason(world.verifier(), Token.parse(root.calls[0].token)) is Reason.ALLOWED
    row = Row(WarmToken("warm/token", world, root), floors.lookup(floor_module, root.calls[0].token))
    timed(row, bound(row))


def test_attenuate(world: World, timed: Timed, signature: Subject) -> None:
    """A child made offline: a scope, compared with the eight of its parent, a condition and a signature."""
    parent = tokens.mint(world.issuer, world.session_id, eight_scopes(), "open")
    numbers = itertools.count(1)

    def narrowed(per_page: int) -> Token:
        return parent.attenuate(scopes=[FITS], where=[f"per_page <= {per_page}"])

    def run(limits: Sequence[int]) -> None:
        for limit in limits:
            narrowed(limit)

    reasons = [reason(world.verifier(), narrowed(limit)) for limit in (49, 50)]
    assert reasons == [Reason.CONDITION_FAILED, Reason.ALLOWED]
    child = Loop("token/attenuate", 2, lambda count: list(itertools.islice(numbers, count)), run)
    timed(row := Row(child, signature), bound(row))


def test_mint(world: World, timed: Timed, signature: Subject) -> None:
    """A root of eight scopes."""

    def mint() -> Token:
        return tokens.mint(world.issuer, world.session_id, eight_scopes())

    def run(items: Sequence[None]) -> None:
        for _ in items:
            mint()

    assert reason(world.verifier(), mint()) is Reason.ALLOWED
    row = Row(Loop("token/mint", 12, lambda count: [None] * count, run), signature)
    timed(row, bound(row))


def test_proof(world: World, timed: Timed, signature: Subject) -> None:
    """A proof by MAC, made by the holder and checked with its token; ``Proved`` holds that it counts once."""
    proved = Proved("proof/mac", world, Host(world), "mac")
    made = Loop(
        "proof/made-and-checked",
        proved.calls // 4,
        lambda count: [None] * count,
        lambda items: proved.run(proved.prepare(len(items))),
    )
    row = Row(made, signature, proved.extra)
    timed(row, bound(row))


def test_open_and_end(folder: Path, world: World, timed: Timed) -> None:
    """A session opened and ended in process, each durable, on the disk of the temporary folder."""
    if (kind := file_system(folder)) in IN_MEMORY:
        pytest.skip(f"{folder} is on {kind}, where a write is never synced; set TMPDIR to one on a disk")
    with StateWriter.open(folder / "lives", create=True) as writer, SyncedWrites(folder / "synced") as bare:
        write(writer, [add_key("bench-key", world.key.public_key, status=KeyStatus.ACTIVE)])

        def durable(change: Change) -> None:
            writer.submit(change).result(timeout=WAIT_SECONDS).raise_if_rejected()

        def end(session_id: bytes) -> None:
            durable(end_session(f"bench-end-{session_id.hex()}", session_id))

        def run(session_ids: Sequence[bytes]) -> None:
            for session_id in session_ids:
                durable(opening(session_id))
                end(session_id)

        durable(opening(world.session_id))
        token = tokens.mint(world.issuer, world.session_id, eight_scopes())
        verifier = Verifier(writer.source(), audience=AUDIENCE)
        assert reason(verifier, token) is Reason.ALLOWED
        end(world.session_id)
        assert reason(verifier, token) is Reason.SESSION_ENDED
        floor = Loop(
            "floor/synced-write", 2, lambda count: [None] * count, lambda items: bare.round(len(items))
        )
        sessions = Loop("writes/open-end", 1, lambda count: [os.urandom(16) for _ in range(count)], run)
        row = Row(sessions, floor)
        timed(row, bound(row))


def test_grpc(places: Places, timed: Timed) -> None:
    """``Client.check`` at a real server's check worker, one call after the other, against an empty echo."""
    for name in (rows_table.WORKER, rows_table.ECHO):
        if name in places.missing:
            pytest.skip(places.missing[name])
    worker, echo = places.found[rows_table.WORKER], places.found[rows_table.ECHO]
    requests = worker.requests.checks()
    parts = [
        (item.token, item.action, item.resource, item.arguments)
        for item in (pb.CheckRequest.FromString(each).item for each in requests)
    ]
    with (
        Client(worker.targets[0].address, worker.credential, timeout_ms=int(CALL_SECONDS * 1000)) as client,
        channel(echo.targets[0]) as opened,
    ):
        ask = opened.unary_unary(grpcio_echo.unary(100))
        assert all(client.check(*each).reason is Reason.ALLOWED for each in parts)
        assert len(ask(requests[0], timeout=CALL_SECONDS)) == 100

        def check(items: Sequence[Any]) -> None:
            for item in items:
                client.check(*item)

        def empty(items: Sequence[bytes]) -> None:
            for item in items:
                ask(item, timeout=CALL_SECONDS)

        row = Row(
            Loop("service/client-check", 4, lambda count: parts[:count], check),
            Loop("floor/echo-stub", 4, lambda count: requests[:count], empty),
        )
        timed(row, bound(row))


def reason(verifier: Verifier, token: Token) -> Reason:
    """Return the reason of the decision on the usual call."""
    return verifier.check(token, "read", RESOURCE, ARGUMENTS).reason


@pytest.fixture(scope="session")
def signature(world: World, floor_module: Any) -> Subject:
    """The floor of one Ed25519 verification."""
    roots = [call.token for call in workloads.root(world, 4).calls]
    return floors.signatures(floor_module, "floor/signatures-1", roots, world.key.public_key)


@pytest.fixture(scope="session")
def places(folder: Path) -> Iterator[Places]:
    """A real server with a check worker and grpcio's empty echo, on any core."""
    cores = frozenset(os.sched_getaffinity(0))
    with running_places(folder, {rows_table.WORKER, rows_table.ECHO}, Cores(cores, cores, cores)) as found:
        yield found
