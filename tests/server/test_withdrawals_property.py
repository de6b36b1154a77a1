"""Exactly the watched allows that a check would now deny are withdrawn, after any changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import record_pb2, token_pb2
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.cases import examples
from tests.support.service import Caller, RpcError, running
from tests.support.watching import Stream, item, mint, open_session, stream

CEILING = ("read:files/** where case == session.case free *", "list:**")
# Per session: what may be done to it. 0 and 1 are parents, 2 and 3 their children.
CHANGES = ("end", "suspend", "resume", "narrow", "fact A", "fact B", "revoke", "ask", "let go", "nothing")
STEPS = st.lists(
    st.tuples(st.sampled_from(CHANGES), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=14
)
RESOURCES = (b"files/a", b"files/b", b"other")


@dataclass
class World:
    """Sessions with a token each, a stream, and the calls that are watched on it now."""

    caller: Caller
    stream: Stream
    sessions: list[Any] = field(default_factory=list)
    tokens: list[tokens.MintResponse] = field(default_factory=list)
    watched: dict[int, pb.CheckItem] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open two sessions and a child of each."""
        for number in range(4):
            facts = [_fact("A")]
            parent = self.sessions[number - 2].id if number > 1 else b""
            session = open_session(self.caller, CEILING, facts=facts, parent_id=parent)
            self.sessions.append(session)
            self.tokens.append(mint(self.caller, session.id, "read,list:**"))

    def call(self, at: int, which: int) -> pb.CheckItem:
        """One of the calls of a session: two that the fact decides, one that it does not."""
        if which == 2:
            return item(self.tokens[at].token, action=b"list", resource=RESOURCES[2])
        return item(
            self.tokens[at].token, resource=RESOURCES[which], arguments=b'{"case":"%c"}' % (65 + which)
        )

    def change(self, what: str, at: int, which: int) -> None:
        """Make a change; one that is refused changes nothing."""
        session_id = self.sessions[at].id
        requests: dict[str, tuple[str, Any]] = {
            "end": ("EndSession", sessions.EndSessionRequest(session_id=session_id)),
            "suspend": ("SuspendSession", sessions.SuspendSessionRequest(session_id=session_id)),
            "resume": ("ResumeSession", sessions.ResumeSessionRequest(session_id=session_id)),
            "narrow": (
                "NarrowSession",
                sessions.NarrowSessionRequest(session_id=session_id, ceiling=["read:files/a free *"]),
            ),
            "fact A": ("UpdateFacts", sessions.UpdateFactsRequest(session_id=session_id, set=[_fact("A")])),
            "fact B": ("UpdateFacts", sessions.UpdateFactsRequest(session_id=session_id, set=[_fact("B")])),
        }
        number = at * 3 + which
        try:
            if what in requests:
                self.caller.call(f"SessionService/{requests[what][0]}", requests[what][1])
            elif what == "revoke":
                block_ids = [self.tokens[at].block_id]
                self.caller.call(
                    "TokenService/Revoke", tokens.RevokeRequest(session_id=session_id, block_ids=block_ids)
                )
            elif what == "ask" and self.stream.ask(number, self.call(at, which)).decision.allowed:
                self.watched[number] = self.call(at, which)
            elif what in ("ask", "let go"):
                self.watched.pop(number, None)
                if what == "let go":
                    self.stream.ask(number, item(b""), watch=False)
        except RpcError as refused:
            if refused.word not in ("ALREADY_ENDED", "WRONG_STATUS", "PARENT_NOT_LIVE"):
                raise

    def settle(self) -> None:
        """Hold that what is withdrawn now is what a fresh check denies now."""
        denied = {number: self._reason(call) for number, call in self.watched.items()}
        expected = {number: reason for number, reason in denied.items() if reason != pb.REASON_ALLOWED}
        told = [self.stream.withdrawn() for _ in expected]
        assert dict(told) == expected
        for number in expected:
            del self.watched[number]

    def _reason(self, call: pb.CheckItem) -> int:
        request = pb.CheckRequest(item=call, audience="gw")
        return int(self.caller.call("AuthorizationService/Check", request).decision.reason)


def _fact(text: str) -> record_pb2.Fact:
    return record_pb2.Fact(name="case", value=token_pb2.Value(text=text), visible=True)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """A server's operator."""
    with running() as service:
        yield service.operator


@given(steps=STEPS)
@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_exactly_what_a_check_would_deny_is_withdrawn(
    caller: Caller, steps: list[tuple[str, int, int]]
) -> None:
    """Any changes of four sessions withdraw once each allow that no longer stands, and nothing else."""
    with stream(caller) as opened:
        world = World(caller, opened)
        for at in range(4):
            for which in range(3):
                world.change("ask", at, which)
        for step in steps:
            world.change(*step)
            world.settle()
        assert opened.idle(0.06)
        assert opened.silent(world.call(0, 2))
