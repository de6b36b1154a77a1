"""Allows that stand and allows that are withdrawn, call by call, over a state of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import FixedClock, SystemClock
from sessauth.crypto.keys import KeyStatus
from sessauth.limits import MAX_TIME_MS
from sessauth.model.change import Change, add_key, end_session, open_session, revoke, update_facts
from sessauth.model.session import Fact
from sessauth.reasons import Reason, Stage
from sessauth.scopes.scope import Scope
from sessauth.server.watch import RECHECK_MS, Watched, Watchlist, Withdrawal
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support.token_forger import ending, id16, key, make, scope

ISSUER = key("issuer")
SESSION = id16("session")
HOUR_MS = 3_600_000


@dataclass
class World:
    """A state with one session, a verifier on it, and a list with what it told."""

    writer: StateWriter
    # What the writer believes; the verifier reads the machine's.
    clock: FixedClock
    verifier: Verifier = field(init=False)
    told: list[tuple[int, Reason]] = field(default_factory=list)
    watchlist: Watchlist = field(init=False)
    started_ms: int = field(init=False)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        """Open the session."""
        self.verifier = Verifier(self.writer.source())
        self.watchlist = Watchlist(self.verifier, self._on_withdrawn)
        self.started_ms = SystemClock().now_ms()
        self.do(add_key(self.change_id(), ISSUER.public, status=KeyStatus.ACTIVE, owner=""))
        self.open(SESSION)

    def _on_withdrawn(self, withdrawn: Sequence[Withdrawal]) -> None:
        self.told += [(each.watched.id, each.batch[each.place].reason) for each in withdrawn]

    def change_id(self) -> str:
        """A request id that was not used before."""
        return f"change-{next(self._ids)}"

    def do(self, change: Change) -> None:
        """Have a change made durable."""
        self.writer.submit(change).result(10).raise_if_rejected()

    def open(self, session_id: bytes) -> None:
        """Open a session that may do everything."""
        ceiling: list[Any] = [Scope.parse("*:**").to_record()]
        self.do(
            open_session(
                self.change_id(),
                session_id,
                ceiling,
                subject="agent",
                expires_at_ms=self.started_ms + 2 * HOUR_MS,
            )
        )

    def token(self, *scopes: str, kind: str = "sealed", **fields: Any) -> bytes:
        """A token of the session, an hour long."""
        block = {
            "root": {"issuer_key_id": ISSUER.id, "session_id": SESSION, "token_id": id16("token")},
            "issued_at_ms": self.started_ms,
            "expires_at_ms": self.started_ms + HOUR_MS,
            "audience": ["gw"],
            "scopes": [scope(text) for text in scopes],
            **ending(kind, key("holder") if kind == "bound" else None),
            **fields,
        }
        return make([block], [ISSUER])

    def watch(self, number: int, token: bytes, expires_at_ms: int = 0, arguments: bytes = b"") -> Watched:
        """Watch a read of files/a under a number."""
        call = (self.verifier.prepare(token), b"read", b"files/a", arguments)
        watched = Watched(number, call, "gw", token, 100, expires_at_ms)
        self.watchlist.add(watched)
        return watched

    def recheck(self, now_ms: int | None = None) -> list[tuple[int, Reason]]:
        """Look, and return what was told since the last time."""
        self.watchlist.recheck(SystemClock().now_ms() if now_ms is None else now_ms)
        told, self.told = self.told, []
        return told


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh state."""
    clock = FixedClock(SystemClock().now_ms())
    writer = StateWriter.open(tmp_path / "state", create=True, map_size=64 << 20, clock=clock)
    yield World(writer, clock)
    writer.close()


@pytest.mark.parametrize(
    ("kind", "text", "stage"),
    [
        ("bound", "read:files/**", Stage.PROOF),
        ("bound", "read:files/** needs uses(3)", Stage.PROOF),
        ("sealed", "read:files/** needs uses(3)", Stage.NEEDS),
        ("sealed", 'read:files/** free * needs budget("eur", 10, n)', Stage.NEEDS),
    ],
)
def test_a_call_that_was_proven_or_paid_for_stands_without_it(
    world: World, kind: str, text: str, stage: Stage
) -> None:
    """Judged again without proof and price it ends at that stage, which takes nothing back; an end does."""
    watched = world.watch(1, world.token(text, kind=kind), arguments=b'{"n":3}' if "budget" in text else b"")
    assert watched.paid is stage
    world.open(id16("another"))
    assert world.recheck() == []
    world.do(end_session(world.change_id(), SESSION))
    assert world.recheck() == [(1, Reason.SESSION_ENDED)]
    assert world.recheck() == []


def test_a_call_that_was_paid_for_is_revoked_as_any_other(world: World) -> None:
    """All stages before proof and needs are judged in full."""
    paid, bound = world.token("read:files/** needs uses(3)"), world.token("read:files/**", kind="bound")
    world.watch(1, paid)
    world.watch(2, bound)
    world.do(revoke(world.change_id(), SESSION, [Token.parse(bound).block_ids[0]]))
    assert world.recheck() == [(2, Reason.REVOKED)]


def test_a_call_that_now_has_a_price_is_withdrawn(world: World) -> None:
    """It was allowed for nothing; that what it would cost could be paid is not what was said."""
    world.do(update_facts(world.change_id(), SESSION, set_facts=[Fact("case", "A")]))
    token = world.token("read:files/** where case == session.case", "read:files/** free * needs uses(1)")
    watched = world.watch(1, token, arguments=b'{"case":"A"}')
    assert watched.paid is Stage.NONE
    world.do(update_facts(world.change_id(), SESSION, set_facts=[Fact("case", "B")]))
    assert world.recheck() == [(1, Reason.NEEDS_SERVER)]


def test_what_changed_between_the_answer_and_the_watch_is_told(world: World) -> None:
    """A call is judged once as it is taken in: no change falls between."""
    token = world.token("read:files/**")
    assert world.verifier.check(token, "read", "files/a", audience="gw")
    world.do(end_session(world.change_id(), SESSION))
    world.watch(1, token)
    assert world.told == [(1, Reason.SESSION_ENDED)]
    assert world.watchlist.weight == 0


def test_a_state_that_can_not_be_read_withdraws_everything(world: World) -> None:
    """A fault is a denial, and a denial takes back."""
    for number, kind in enumerate(("sealed", "bound")):
        world.watch(number, world.token("read:files/**", kind=kind))
    world.writer.close()
    assert world.recheck() == [(0, Reason.INTERNAL_ERROR), (1, Reason.INTERNAL_ERROR)]


def test_clocks_that_disagree_withdraw_everything(world: World) -> None:
    """A state whose changes lie minutes ahead of this clock: neither is believed, so nothing stands."""
    world.watch(1, world.token("read:files/**"))
    world.clock.advance(300_000)
    assert world.recheck() == []
    world.open(id16("another"))
    assert world.recheck() == [(1, Reason.CLOCK_SUSPECT)]


def test_nothing_is_told_of_a_call_that_was_let_go(world: World) -> None:
    """A removed call weighs nothing and is not judged; removing it twice is no mistake."""
    token = world.token("read:files/**")
    world.watch(1, token)
    world.watch(2, token)
    assert world.watchlist.weight == 200
    assert world.watchlist.remove(1)
    assert not world.watchlist.remove(1)
    world.do(end_session(world.change_id(), SESSION))
    assert world.recheck() == [(2, Reason.SESSION_ENDED)]
    assert world.watchlist.weight == 0


def test_a_list_is_due_when_the_first_of_its_calls_is(world: World) -> None:
    """Without calls never; with some at the earliest end, which is asked of the state again when it came."""
    assert world.watchlist.due_ms == MAX_TIME_MS
    early, late = world.started_ms + HOUR_MS // 2, world.started_ms + HOUR_MS
    world.watch(1, world.token("read:files/**"))
    world.watch(2, world.token("read:files/**", expires_at_ms=early))
    assert world.watchlist.due_ms == early
    world.watchlist.remove(2)
    world.recheck()
    assert world.watchlist.due_ms == early
    world.recheck(early)
    assert world.watchlist.due_ms == late


def test_a_call_whose_time_is_not_told_is_looked_at_again(world: World) -> None:
    """A proven call's denial names no time: its own is kept; once it passed it is looked at soon again."""
    watched = world.watch(1, world.token("read:files/**", kind="bound"), expires_at_ms=world.started_ms + 50)
    assert world.watchlist.due_ms == world.started_ms + 50
    now_ms = world.started_ms + 60
    assert world.recheck(now_ms) == []
    assert watched.expires_at_ms == world.started_ms + 50
    assert world.watchlist.due_ms == now_ms + RECHECK_MS
