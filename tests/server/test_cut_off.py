"""Agents are cut off: many sessions end in one call, new ones are refused, everything is frozen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from sessauth.client import Client, EndedSessions
from sessauth.client._sync import calls
from sessauth.errors import NotFound, PermissionDenied, Rejected, SessauthError, StateError, UsageError
from sessauth.model.approval import SignedApproval
from sessauth.model.change import answer_approval
from sessauth.model.session import MAX_BAN_MS, EndCause, SessionStatus
from sessauth.reasons import Reason
from sessauth.server.process.init import initialise
from sessauth.server.services import cut_off
from sessauth.state.writer import state_writer
from sessauth.v1 import cut_off_service_pb2 as pb
from sessauth.v1 import record_pb2 as records
from tests.support.changes import opening
from tests.support.service import RpcError, ServerProcess, Service, home_folder, running, wait_until

AUDIENCE = "gw"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server in this process."""
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    """The operator's client."""
    with client_of(service) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(service: Service) -> Iterator[Client]:
    """The client of an orchestrator."""
    credential = service.add("desk", "issuer").credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as made:
        yield made


def client_of(service: Service, **options: Any) -> Client:
    """Return a client of the operator, which a busy machine may let wait."""
    return Client(
        str(service.made.socket), credential_file=service.made.credential_file, timeout_ms=20_000, **options
    )


def open_some(client: Client, count: int, subject: str = "agent:a", **terms: Any) -> list[bytes]:
    """Open sessions for a subject."""
    return [client.open_session(subject=subject, ceiling=["read:**"], **terms).id for _ in range(count)]


def living(client: Client, ids: list[bytes]) -> list[bool]:
    """Return for each session if it has not ended."""
    return [client.get_session(each).status is not SessionStatus.ENDED for each in ids]


def test_they_end_by_what_they_were_opened_with(client: Client, issuer: Client) -> None:
    """Subject, owner and labels select, and all must fit; the others live on."""
    a = open_some(client, 2, labels={"team": "x", "env": "prod"})
    b = open_some(client, 1, "agent:b", labels={"team": "x"})
    c = open_some(issuer, 1, "agent:c")

    wanted = client.end_sessions(labels={"team": "x", "env": "prod"}, dry_run=True)
    assert (wanted.matched, wanted.ended, wanted.remaining) == (2, 0, 2)
    assert sorted(each.id for each in wanted.sessions) == sorted(a)
    assert living(client, a + b + c) == [True] * 4

    done = client.end_sessions(labels={"team": "x", "env": "prod"}, reason="leak")
    assert (done.matched, done.ended, done.remaining, done.refused_until_ms) == (2, 2, 0, 0)
    assert sorted(each.id for each in done.sessions) == sorted(a)
    assert [(each.epoch, each.subject, each.owner) for each in done.sessions] == [
        (2, "agent:a", "operator")
    ] * 2
    assert living(client, a + b + c) == [False, False, True, True]
    ended = client.get_session(a[0])
    assert (ended.reason, ended.end_cause, ended.epoch) == ("leak", EndCause.ASKED, 2)
    assert ended.revision <= done.revision
    assert client.get_receipt(a[0]).unverified.session_id == a[0]

    assert client.end_sessions(owner="desk").ended == 1
    assert client.end_sessions(owner="desk").matched == 0
    assert client.end_sessions(subject="agent:b").ended == 1
    assert client.end_sessions(subject="agent:nobody").matched == 0


def test_a_preview_counts_what_is_in_use(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permits of the selected sessions and of those below are; what is not read is named."""
    labels = {"seen": "1"}
    user = client.open_session(subject="user:seen", ceiling=["*:**"], labels=labels).id
    agent = client.open_session(subject="agent:seen", parent_id=user, ceiling=["*:**"], labels=labels).id
    below = client.open_session(subject="agent:below", parent_id=agent, ceiling=["*:**"]).id
    token = client.mint(below, ["read:files/** needs uses(3)"], [AUDIENCE])
    assert client.check(token, "read", "files/a", audience=AUDIENCE, permit_ms=300_000)
    found = client.preview_end_sessions(labels=labels)
    assert (found.matched, len(found.children), found.open_permits) == (2, 1, 1)
    one = client.preview_end(user)
    assert (one.matched, [each.id for each in one.children]) == (1, [agent, below])
    assert (one.unread, one.unused, living(client, [user])) == (0, 0, [True])
    monkeypatch.setattr(calls, "MAX_PREVIEWED", 1)
    few = client.preview_end_sessions(labels=labels)
    # Ids are random: where the agent's is the first, the session below it is found too.
    assert (few.matched, few.read, few.unread) == (2, 1, 1 + len(few.children))
    client.end(user)
    assert client.preview_end(user).matched == 0


def test_children_end_with_their_parent(client: Client) -> None:
    """All of a user: each agent's session hangs under the user's, and is denied from the end on."""
    (user,) = open_some(client, 1, "user:ann")
    (agent,) = open_some(client, 1, parent_id=user)
    token = client.mint(agent, ["read:files/**"], [AUDIENCE])

    assert client.end_sessions(subject="user:ann").ended == 1

    assert client.check(token, "read", "files/a", audience=AUDIENCE).reason is Reason.SESSION_ENDED
    # The sweep may have ended it by now; else this does, by the same cause.
    client.end_sessions(subject="agent:a")
    assert client.get_session(agent).end_cause is EndCause.PARENT_ENDED


LABEL = records.Label(name="a", value="1")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.EndSessionsRequest(), "selector"),
        (pb.EndSessionsRequest(selector=records.SessionSelector(all=True, subject="a")), "selector"),
        (pb.EndSessionsRequest(selector=records.SessionSelector(labels=[LABEL, LABEL])), "selector"),
        (pb.EndSessionsRequest(selector=records.SessionSelector(labels=[LABEL] * 33)), "selector.labels"),
        (pb.EndSessionsRequest(selector=records.SessionSelector(subject="x" * 1025)), "selector.subject"),
        (pb.EndSessionsRequest(selector=records.SessionSelector(all=True), reason="x" * 1025), "reason"),
        (
            pb.EndSessionsRequest(selector=records.SessionSelector(all=True), refuse_new_ms=MAX_BAN_MS + 1),
            "refuse_new_ms",
        ),
    ],
)
def test_a_bad_request_ends_nothing(
    service: Service, client: Client, request_: pb.EndSessionsRequest, field: str
) -> None:
    """Each is refused by its field."""
    ids = open_some(client, 1)
    with pytest.raises(RpcError) as refused:
        service.operator.call("CutOffService/EndSessions", request_)
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", field)
    assert living(client, ids) == [True]
    assert client.list_bans() == []


def test_an_orchestrator_ends_its_own_alone(client: Client, issuer: Client) -> None:
    """Even by ``all`` or another owner's name; and it can't refuse new ones."""
    own, others = open_some(issuer, 2), open_some(client, 1)

    assert issuer.end_sessions(owner="operator").matched == 0
    with pytest.raises(PermissionDenied):
        issuer.end_sessions(all_sessions=True, refuse_new_ms=1000)
    assert living(client, own + others) == [True] * 3
    assert issuer.end_sessions(all_sessions=True).ended == 2
    assert living(client, own + others) == [False, False, True]


def test_new_ones_are_refused_meanwhile(client: Client) -> None:
    """The ban counts before the first end does; a refused request id is free, and others may open."""
    open_some(client, 1)
    done = client.end_sessions(subject="agent:a", reason="leak", refuse_new_ms=60_000)
    try:
        for _ in range(2):
            with pytest.raises(Rejected, match=r"agent:a until .*Z") as refused:
                open_some(client, 1, request_id="again")
            assert refused.value.word == "BANNED"
        open_some(client, 1, "agent:b")
        (ban,) = client.list_bans()
        assert (ban.selector.subject, ban.reason, ban.set_by) == ("agent:a", "leak", "operator")
        assert ban.until_ms == done.refused_until_ms > ban.set_at_ms
        again = client.end_sessions(subject="agent:a", refuse_new_ms=1)
        assert again.refused_until_ms == client.list_bans()[0].until_ms == done.refused_until_ms
    finally:
        client.lift_ban(subject="agent:a")
    assert client.list_bans() == []
    open_some(client, 1, request_id="again")
    with pytest.raises(NotFound):
        client.lift_ban(subject="agent:a")


def test_two_who_end_at_once_end_each_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find all of them; what one has ended the other leaves alone."""
    monkeypatch.setattr(cut_off, "ENDS_A_COMMIT", 4)
    ids = open_some(client, 60, "agent:two")
    done: list[EndedSessions] = []
    both = [
        threading.Thread(target=lambda: done.append(client.end_sessions(subject="agent:two")))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sum(each.ended for each in done) == len(ids)
    assert not any(living(client, ids))


def test_what_is_too_much_for_one_call_is_ended_by_the_next(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on where the last one stopped, and the last says that the search is complete."""
    monkeypatch.setattr(cut_off, "ENDS_A_COMMIT", 3)
    monkeypatch.setattr(cut_off, "WORK_SECONDS", 0.0)
    open_some(client, 8, "agent:long")
    found = [client.end_sessions(subject="agent:long")]
    while found[-1].next_page_token:
        found.append(client.end_sessions(subject="agent:long", page_token=found[-1].next_page_token))
    assert [each.ended for each in found if each.ended] == [3, 3, 2]
    assert all(each.matched == each.ended for each in found)
    assert [bool(each.remaining) for each in found] == [True] * (len(found) - 1) + [False]
    assert client.end_sessions(subject="agent:long", dry_run=True).matched == 0


def test_a_selection_ends_while_it_is_searched(
    client: Client, monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    """A call whose time is over before it has searched all has ended what it found until then."""
    monkeypatch.setattr(cut_off, "WORK_SECONDS", 0.0)
    monkeypatch.setattr(state_writer, "LIVING_ROWS", 2)
    ids = open_some(client, 6, "agent:part")
    first = client.end_sessions(subject="agent:part", reason="leak")
    assert (first.matched, bool(first.next_page_token), bool(first.remaining)) == (first.ended, True, True)

    assert service.control is not None
    searched, page = [], service.control.writer.page_of_living

    def counted(after: bytes, *rest: Any) -> Any:
        searched.append(after)
        return page(after, *rest)

    monkeypatch.setattr(service.control.writer, "page_of_living", counted)
    done = first
    while done.next_page_token:
        done = client.end_sessions(subject="agent:part", page_token=done.next_page_token)
    assert not done.remaining
    assert searched == sorted(set(searched)) and b"" not in searched
    assert not any(living(client, ids))


def test_a_search_that_fails_has_ended_what_it_found(
    client: Client, monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    """The next part is searched while the last one becomes durable; the answer waits for that."""
    monkeypatch.setattr(state_writer, "LIVING_ROWS", 2)
    ids = open_some(client, 6, "agent:torn")
    assert service.control is not None
    page = service.control.writer.page_of_living

    def torn(after: bytes, *rest: Any) -> Any:
        if after:
            raise StateError("the search failed")
        return page(after, *rest)

    monkeypatch.setattr(service.control.writer, "page_of_living", torn)
    with pytest.raises(StateError, match="not usable"):
        client.end_sessions(subject="agent:torn")
    assert living(client, ids).count(False) == 2


def test_a_page_token_of_others_ends_nothing(client: Client) -> None:
    """It is refused by its name."""
    ids = open_some(client, 1)
    with pytest.raises(UsageError, match="page_token"):
        client.end_sessions(subject="agent:a", page_token="zz")
    assert living(client, ids) == [True]


@pytest.mark.slow
def test_two_thousand_by_label(service: Service, client: Client) -> None:
    """One call, in commits of a bounded size, with those of another label untouched."""
    assert service.control is not None
    log = service.control.writer
    for part in range(0, 2_000, 250):
        changes = [
            opening(f"many-{number}", subject="s", labels={"run": "a" if number % 100 else "b"})
            for number in range(part, part + 250)
        ]
        log.run(lambda group, changes=changes: [group.submit(each) for each in changes])
    commits = log.stats.commits

    done = client.end_sessions(labels={"run": "a"})
    total = done.ended
    while done.remaining:
        done = client.end_sessions(labels={"run": "a"}, page_token=done.next_page_token)
        total += done.ended

    assert total == 1_980
    assert len(done.sessions) <= 1000
    assert log.stats.commits - commits >= 1_980 / cut_off.ENDS_A_COMMIT
    assert client.end_sessions(labels={"run": "b"}, dry_run=True).matched == 20
    assert client.end_sessions(all_sessions=True).ended >= 20
    assert client.end_sessions(all_sessions=True, dry_run=True).matched == 0


def test_an_opening_on_its_way_is_refused_too(service: Service, client: Client) -> None:
    """The writer itself refuses it, whatever was let through a moment before."""
    assert service.control is not None
    client.freeze()
    try:
        signed = SignedApproval(bytes(32), bytes(64), b"statement")
        for late in (opening("late"), answer_approval("late", bytes(16), bytes(16), statement=signed)):
            with pytest.raises(Rejected) as refused:
                service.control.writer.submit(late).result()
            assert refused.value.word == "FROZEN"
        denied = service.control.writer.submit(
            answer_approval("denied", bytes(16), bytes(16), deny=True)
        ).result()
        assert denied.rejection == "NOT_FOUND"
    finally:
        client.thaw()
    assert service.control.writer.submit(opening("late")).result().applied


@pytest.mark.parametrize("reason", ["x" * 257, "a\nb", "a\0b", "\u202e"])
def test_a_reason_that_is_none(service: Service, client: Client, reason: str) -> None:
    """It is refused by its field, and nothing is frozen."""
    with pytest.raises(RpcError) as refused:
        service.operator.call("CutOffService/Freeze", pb.FreezeRequest(reason=reason))
    assert (refused.value.word, refused.value.field) == ("INVALID_ARGUMENT", "reason")
    assert not client.get_freeze().brake


def test_it_needs_no_commit(service: Service, client: Client) -> None:
    """Nothing is written after a failed write, and the freeze still holds once the disk is well again."""
    assert service.control is not None
    page = service.control.writer._brake
    page.engage("the disk is full")
    try:
        client.freeze("and by hand")
    finally:
        page.release()
    assert client.get_freeze().brake == "frozen by operator: and by hand"
    client.thaw()
    assert not client.get_freeze().brake


def test_a_server_that_dies_meanwhile_has_ended_a_part() -> None:
    """Each commit stays; typed again at the next server, the rest ends too."""
    with home_folder() as home:
        made = initialise(home)
        server = ServerProcess.start(home)
        there = Client(str(made.socket), credential_file=made.credential_file, timeout_ms=20_000)
        try:
            assert wait_until(lambda: answers(there)), server.log
            ids = sorted(open_some(there, 300))
            asked = threading.Thread(target=lambda: suppressed(lambda: there.end_sessions(all_sessions=True)))
            asked.start()
            assert wait_until(lambda: there.get_session(ids[0]).status is SessionStatus.ENDED)
            server.kill()
            asked.join()
            server = ServerProcess.start(home)
            assert wait_until(lambda: answers(there)), server.log
            done = there.end_sessions(all_sessions=True)
            assert done.remaining == 0 and done.matched < len(ids)
            assert not any(living(there, ids))
        finally:
            server.kill()
            there.close()


def suppressed(work: Callable[[], object]) -> None:
    """Do it, and go on where the server goes away."""
    with suppress(SessauthError):
        work()


def answers(client: Client) -> bool:
    """Return True if the server is there."""
    try:
        return not client.get_freeze().brake
    except SessauthError:
        return False
