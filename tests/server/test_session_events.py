"""WatchSessions tells each kind of change in the log's order, to those whom it concerns."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from sessauth.model.change import end_session
from sessauth.model.session import EndCause
from sessauth.usage.session_usage import UseAfterEnd
from sessauth.v1 import record_pb2, token_pb2
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support import events as ev
from tests.support.events import Watch, head_of, watching
from tests.support.service import Caller, RpcError, Service
from tests.support.watching import end, mint, open_session


def _narrow(caller: Caller, session_id: bytes) -> None:
    request = sessions.NarrowSessionRequest(session_id=session_id, ceiling=["read:files/**"])
    caller.call("SessionService/NarrowSession", request)


def _suspend(caller: Caller, session_id: bytes, reason: str = "") -> None:
    request = sessions.SuspendSessionRequest(session_id=session_id, reason=reason)
    caller.call("SessionService/SuspendSession", request)


def _resume(caller: Caller, session_id: bytes) -> None:
    caller.call("SessionService/ResumeSession", sessions.ResumeSessionRequest(session_id=session_id))


def _live(caller: Caller, **fields: Any) -> tuple[bytes, bytes]:
    """Have a session go through everything that a caller can do to one; returns its id and a block's."""
    session_id = open_session(caller, **fields).id
    _narrow(caller, session_id)
    fact = record_pb2.Fact(name="case", value=token_pb2.Value(text="A"))
    caller.call("SessionService/UpdateFacts", sessions.UpdateFactsRequest(session_id=session_id, set=[fact]))
    _suspend(caller, session_id, "looked into")
    _resume(caller, session_id)
    block_id = mint(caller, session_id).block_id
    revoke = tokens.RevokeRequest(session_id=session_id, block_ids=[block_id], reason="leaked")
    caller.call("TokenService/Revoke", revoke)
    caller.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id, reason="done"))
    return session_id, block_id


KINDS = [ev.OPENED, ev.NARROWED, ev.FACTS_CHANGED, ev.SUSPENDED, ev.RESUMED, ev.REVOKED, ev.ENDED]


def test_each_kind_is_told_in_order_as_it_happens(service: Service, operator: Caller) -> None:
    """Events of a session name actor and purpose; the log gives the same ones afterwards."""
    before = head_of(service.control)
    with watching(operator) as watch:
        session_id, block_id = _live(operator, purpose="a test")
        live = [watch.event() for _ in KINDS]
    with watching(operator, after_revision=before) as watch:
        told_again = watch.until(head_of(service.control))

    assert live == told_again
    assert [event.kind for event in live] == KINDS
    assert [event.epoch for event in live] == [1, 2, 2, 3, 4, 4, 5]
    assert [event.revision for event in live] == sorted({event.revision for event in live})
    assert {event.session_id for event in live} == {session_id}
    assert {(event.actor, event.owner) for event in live} == {("operator", "operator")}
    assert {(event.subject, event.purpose) for event in live} == {("agent-7", "a test")}
    by_kind = {event.kind: event for event in live}
    assert by_kind[ev.SUSPENDED].reason == "looked into"
    assert (by_kind[ev.ENDED].reason, by_kind[ev.ENDED].cause) == ("done", EndCause.ASKED)
    assert (by_kind[ev.REVOKED].reason, list(by_kind[ev.REVOKED].block_ids)) == ("leaked", [block_id])
    assert all(event.at_ms > 1_700_000_000_000 and event.seq for event in live)


def test_what_was_refused_is_no_event(service: Service, operator: Caller) -> None:
    """A change that the log rejected takes a number of the log and no revision, and nothing is told of it."""
    session = open_session(operator)
    end(operator, session.id)
    with watching(operator) as watch:
        for _ in range(3):
            with pytest.raises(RpcError, match="ALREADY_ENDED"):
                end(operator, session.id)
        later = open_session(operator)
        event = watch.event()

    assert (event.kind, event.session_id, event.revision) == (ev.OPENED, later.id, later.revision)


def test_a_lapse_is_told_with_its_cause(operator: Caller) -> None:
    """A lease that nobody renewed ends the session: LAPSED, by the system, and not ENDED."""
    with watching(operator) as watch:
        session = open_session(operator, lease_ms=100)
        assert watch.event().kind == ev.OPENED
        event = watch.event()

    assert (event.kind, event.session_id) == (ev.LAPSED, session.id)
    assert (event.cause, event.actor) == (EndCause.LEASE_LAPSED, "sessauth")


def test_a_parent_that_was_found_to_have_ended_is_no_lapse(service: Service, operator: Caller) -> None:
    """A child's own end comes with the cause PARENT_ENDED, when the sweep finds it."""
    child = open_session(operator)
    assert service.control is not None
    with watching(operator) as watch:
        change = end_session("found", child.id, actor="sessauth", cause=EndCause.PARENT_ENDED)
        service.control.writer.submit(change).result()
        event = watch.event()

    assert (event.kind, event.cause) == (ev.ENDED, EndCause.PARENT_ENDED)


@pytest.mark.parametrize(
    "filters",
    [{"subject": "agent-7"}, {"purpose": "wanted"}, {"owner": "operator"}, {"kinds": [ev.ENDED, ev.OPENED]}],
)
def test_filters_leave_out_what_does_not_fit(operator: Caller, filters: dict[str, Any]) -> None:
    """Each filter lets through exactly what fits it."""
    with watching(operator, **filters) as watch:
        other = sessions.OpenSessionRequest(
            subject="other", ceiling=["read:a"], purpose="p", owner="somebody"
        )
        unwanted = operator.call("SessionService/OpenSession", other).session
        wanted = open_session(operator, purpose="wanted")
        _suspend(operator, wanted.id)
        end(operator, wanted.id)
        told = [watch.event()]
        while told[-1].kind != ev.ENDED:
            told.append(watch.event())

    if "kinds" in filters:
        assert [(each.kind, each.session_id) for each in told] == [
            (ev.OPENED, unwanted.id),
            (ev.OPENED, wanted.id),
            (ev.ENDED, wanted.id),
        ]
    else:
        assert [each.kind for each in told] == [ev.OPENED, ev.SUSPENDED, ev.ENDED]
        assert {each.session_id for each in told} == {wanted.id}


def test_a_watched_session_is_told_what_befalls_its_ancestors(operator: Caller) -> None:
    """The end of a grandparent is one change, and says which of the watched sessions it ends."""
    top = open_session(operator)
    middle, sister = (open_session(operator, parent_id=top.id) for _ in range(2))
    bottom = open_session(operator, parent_id=middle.id)
    with watching(operator, session_ids=[bottom.id, sister.id]) as watch:
        open_session(operator)
        block_id = mint(operator, top.id).block_id
        # What is revoked is revoked of that session's tokens alone.
        revoke = tokens.RevokeRequest(session_id=top.id, block_ids=[block_id])
        operator.call("TokenService/Revoke", revoke)
        _suspend(operator, middle.id)
        end(operator, top.id)
        suspended, ended = watch.event(), watch.event()
        assert watch.idle(0.1)

    assert (suspended.kind, suspended.session_id) == (ev.SUSPENDED, middle.id)
    assert (suspended.parent_id, list(suspended.inherited_by)) == (top.id, [bottom.id])
    assert (ended.kind, ended.session_id) == (ev.ENDED, top.id)
    assert sorted(ended.inherited_by) == sorted([bottom.id, sister.id])


def test_children_are_told_of_if_asked_for(operator: Caller) -> None:
    """The flag include_children adds events of all descendants, at any depth."""
    top = open_session(operator)
    with (
        watching(operator, session_ids=[top.id], include_children=True) as with_children,
        watching(operator, session_ids=[top.id]) as alone,
    ):
        child = open_session(operator, parent_id=top.id)
        grandchild = open_session(operator, parent_id=child.id)
        end(operator, grandchild.id)
        end(operator, top.id)
        told = [with_children.event() for _ in range(4)]
        ended = alone.event()

    assert [(each.kind, each.session_id) for each in told] == [
        (ev.OPENED, child.id),
        (ev.OPENED, grandchild.id),
        (ev.ENDED, grandchild.id),
        (ev.ENDED, top.id),
    ]
    assert told[-1] == ended


def test_an_issuer_is_told_of_its_own_sessions(service: Service, operator: Caller) -> None:
    """Another's session looks like none; of another's ancestor it learns what it ends and nothing more."""
    issuer = service.add("orchestrator", "issuer")
    foreign = open_session(operator, purpose="secret")
    own_child = open_session(operator, parent_id=foreign.id, owner="orchestrator")
    with watching(issuer) as everything, watching(issuer, session_ids=[own_child.id]) as inherited:
        open_session(operator)
        own = open_session(issuer)
        end(operator, foreign.id)
        end(issuer, own.id)
        told = [everything.event() for _ in range(2)]
        ancestor = inherited.event()
    missing = Watch(issuer, from_now=True, session_ids=[foreign.id])

    assert missing.refused().code is grpc.StatusCode.NOT_FOUND
    assert [(each.kind, each.session_id) for each in told] == [(ev.OPENED, own.id), (ev.ENDED, own.id)]
    assert (ancestor.kind, ancestor.session_id) == (ev.ENDED, foreign.id)
    assert list(ancestor.inherited_by) == [own_child.id]
    assert (ancestor.actor, ancestor.reason, ancestor.purpose, ancestor.owner) == ("", "", "", "")


@pytest.mark.parametrize("role", ["auditor", "gateway"])
def test_who_reads_sessions_is_told_of_all(service: Service, operator: Caller, role: str) -> None:
    """An auditor and a gateway see what the operator sees."""
    reader = service.add(f"reading-{role}", role, ("gw",) if role == "gateway" else ())
    with watching(reader) as theirs, watching(operator) as ours:
        open_session(operator, owner="somebody")
        assert theirs.event() == ours.event()


def test_a_use_after_the_end_is_told_to_who_watches(service: Service, operator: Caller) -> None:
    """The use comes behind the end, with its blocks; a later watch does not get it again."""
    assert service.control is not None
    session = open_session(operator)
    block_id = mint(operator, session.id).block_id
    before = head_of(service.control)
    with watching(operator) as watch:
        end(operator, session.id)
        uses = service.control.subsystems.uses_after_end
        at_ms = 1_800_000_000_000
        uses.on_used_after_end(session.id, "gateway-1", UseAfterEnd((block_id,), False, 3, at_ms, at_ms))
        ended, used = watch.event(), watch.event()
    with watching(operator, after_revision=before) as watch:
        again = watch.until(head_of(service.control))

    assert (ended.kind, used.kind) == (ev.ENDED, ev.USED_AFTER_END)
    assert (used.session_id, used.subject, used.cause) == (session.id, "agent-7", EndCause.ASKED)
    assert (used.revision, used.seq, used.at_ms) == (ended.revision, 0, 1_800_000_000_000)
    assert (list(used.block_ids), used.verifier, used.count) == ([block_id], "gateway-1", 3)
    assert not used.claimed
    assert [each.kind for each in again] == [ev.ENDED]


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"session_ids": [b"short"]}, "session_ids[0]"),
        ({"session_ids": [bytes([n]) * 16 for n in range(65)]}, "session_ids"),
        ({"include_children": True}, "include_children"),
        ({"kinds": [99]}, "kinds[0]"),
        ({"kinds": [0]}, "kinds[0]"),
        ({"subject": "x" * 1025}, "subject"),
        ({"incarnation": b"short"}, "incarnation"),
        ({"from_now": True, "after_revision": 1}, "after_revision"),
        ({"after_revision": 1 << 52}, "after_revision"),
        ({"after_revision": 1 << 63}, "after_revision"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(
    operator: Caller, request_fields: dict[str, Any], field: str
) -> None:
    """INVALID_ARGUMENT, before anything is told."""
    refused = Watch(operator, **request_fields).refused()

    assert (refused.code, refused.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_a_session_that_is_not_there_is_not_found(operator: Caller) -> None:
    """Nothing could ever be told of it from now on, so silence would mislead."""
    refused = Watch(operator, from_now=True, session_ids=[b"n" * 16]).refused()

    assert (refused.code, refused.word) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
