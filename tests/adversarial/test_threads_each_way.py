"""Batches, handles, requests and plain checks at once, in threads, while sessions end and come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sessauth._fast._codec import CheckMessage
from sessauth.model.change import end_session, narrow_session, resume_session, revoke, suspend_session
from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.state_fixture import StateFixture
from tests.support.token_forger import ending, id16, key, make
from tests.vectors.world import AUDIENCE, ISSUER, NOW, child, link, root

READ = "read:files/**"


def chains_of(name: str, count: int = 20) -> list[bytes]:
    """Chains of two blocks under two parents of a session."""
    made = []
    for number in range(count):
        first = root(READ, root_fields={"session_id": id16(name)}, label=f"{number % 2}")
        blocks = link(first, child(label=f"{number}", **ending("sealed")))
        made.append(make(blocks, [ISSUER, key("next 0")]))
    return made


def by_check(verifier: Verifier, chains: list[bytes]) -> Callable[[], list[Reason]]:
    """One check after the other."""
    return lambda: [
        verifier._check(chain, "read", "files/a", audience=AUDIENCE, now_ms=NOW).reason for chain in chains
    ]


def by_handle(verifier: Verifier, chains: list[bytes]) -> Callable[[], list[Reason]]:
    """Handles that were made before anything stood."""
    handles = [verifier.prepare(chain) for chain in chains]
    return lambda: [
        verifier._check(handle, "read", "files/a", audience=AUDIENCE, now_ms=NOW).reason for handle in handles
    ]


def by_batch(verifier: Verifier, chains: list[bytes]) -> Callable[[], list[Reason]]:
    """A batch of bytes and handles."""
    calls = [(chain, "read", "files/a", b'{"n":"\\u00e9"}') for chain in chains]
    calls += [(verifier.prepare(chain), "read", "files/b") for chain in chains]

    def judge() -> list[Reason]:
        batch = verifier._check_batch(calls, audience=AUDIENCE, now_ms=NOW)
        return [decision.reason for decision in batch]

    return judge


def by_request(verifier: Verifier, chains: list[bytes]) -> Callable[[], list[Reason]]:
    """A request in wire form, and its answer."""
    items = [pb.CheckItem(token=chain, action=b"read", resource=b"files/a") for chain in chains]
    data = pb.CheckBatchRequest(items=items).SerializeToString()

    def judge() -> list[Reason]:
        asking = CheckMessage(verifier, data, "batch")
        asking.judge(AUDIENCE, now_ms=NOW)
        answer = pb.CheckBatchResponse.FromString(asking.answer(lambda decision, token: ""))
        return [Reason(decision.reason) for decision in answer.decisions]

    return judge


WAYS = (by_check, by_handle, by_batch, by_request)


class Runs:
    """A thread for each way, over the same verifier and chains, without a pause."""

    def __init__(self, verifier: Verifier, chains: list[bytes]) -> None:
        """Start the threads."""
        self.acknowledged = threading.Event()
        self.stop = threading.Event()
        self.judged: list[tuple[str, bool, frozenset[Reason]]] = []
        self.failed: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(way, verifier, chains)) for way in WAYS]
        for thread in self.threads:
            thread.start()

    def _run(self, way: Any, verifier: Verifier, chains: list[bytes]) -> None:
        try:
            judge = way(verifier, chains)
            while not self.stop.is_set():
                after = self.acknowledged.is_set()
                self.judged.append((way.__name__, after, frozenset(judge())))
        except BaseException as failure:
            self.failed.append(failure)
            raise

    def wait(self, after: bool, rounds: int) -> None:
        """Wait until each way has judged so many times, before or after the acknowledgement."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not self.failed:
            ways = [way for way, when, _ in list(self.judged) if when is after]
            if all(ways.count(way.__name__) >= rounds for way in WAYS):
                return
            time.sleep(0.001)

    def join(self) -> None:
        """Stop the threads."""
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        assert self.failed == []


_NOTHING: list[Any] = [Scope.parse("read:other/**").to_record()]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("end", Reason.SESSION_ENDED),
        ("suspend", Reason.SESSION_SUSPENDED),
        ("narrow", Reason.OUT_OF_SCOPE),
        ("revoke", Reason.REVOKED),
    ],
)
def test_no_way_misses_an_acknowledged_change(fresh_state: StateFixture, name: str, reason: Reason) -> None:
    """Calls that start after the acknowledgement are denied throughout; a batch before it is never torn."""
    state = fresh_state
    state.open(name)
    chains = chains_of(name)
    ids = sorted({state.check(chain).block_ids[0] for chain in chains_of(name)})
    changes: dict[str, Any] = {
        "end": lambda: end_session("e", id16(name)),
        "suspend": lambda: suspend_session("s", id16(name)),
        "narrow": lambda: narrow_session("n", id16(name), _NOTHING),
        "revoke": lambda: revoke("r", id16(name), ids),
    }
    runs = Runs(Verifier(state.writer.source(), audience=AUDIENCE), chains)
    runs.wait(False, 3)
    state.do(changes[name]())
    runs.acknowledged.set()
    runs.wait(True, 5)
    runs.join()

    ways = {way.__name__ for way in WAYS}
    assert {way for way, after, _ in runs.judged if after} == ways
    for way, after, reasons in runs.judged:
        if after:
            assert reasons == {reason}, way
        elif way in ("by_batch", "by_request"):
            assert len(reasons) == 1, way
        else:
            assert reasons <= {Reason.ALLOWED, reason}, way


def test_nothing_crosses_while_another_session_changes(fresh_state: StateFixture) -> None:
    """A session that nobody changes is allowed by every way while another is changed without a pause."""
    state = fresh_state
    state.open("still")
    state.open("busy")
    runs = Runs(Verifier(state.writer.source(), audience=AUDIENCE), chains_of("still"))
    for turn in range(30):
        state.do(suspend_session(f"s{turn}", id16("busy")))
        state.do(resume_session(f"r{turn}", id16("busy")))
    runs.wait(False, 5)
    runs.join()

    assert {reasons for _, _, reasons in runs.judged} == {frozenset([Reason.ALLOWED])}


@pytest.mark.parametrize("cache_bytes", [1000, 12_000])
def test_a_cache_that_all_push_out_of(cache_bytes: int) -> None:
    """Threads whose chains never fit together verify, keep and drop at once, and each is judged rightly."""
    verifier = Verifier(
        bulk_sessions.source(), audience=AUDIENCE, cache_bytes=cache_bytes, session_cache_bytes=cache_bytes
    )
    runs = Runs(verifier, chains_of("session", 40))
    runs.wait(False, 8)
    runs.join()

    assert {reasons for _, _, reasons in runs.judged} == {frozenset([Reason.ALLOWED])}
    assert verifier.bad_signatures == 0
    assert verifier.cache.used <= cache_bytes
