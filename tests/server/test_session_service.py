from __future__ import annotations

import grpc
import pytest

from sessauth.model.change import once_change_id, request_approval
from sessauth.v1 import record_pb2
from sessauth.v1 import session_service_pb2 as pb
from sessauth.v1.cut_off_service_pb2 import EndSessionsRequest
from sessauth.v1.token_pb2 import Number, Value
from sessauth.v1.usage_service_pb2 import GetReportRequest
from tests.support.costs import pending_record, spending
from tests.support.service import Caller, RpcError, Service


def _open(caller: Caller, **fields: object) -> pb.OpenSessionResponse:
    request = pb.OpenSessionRequest(**{"subject": "agent-7", "ceiling": ["read:files/**"], **fields})
    return caller.call("SessionService/OpenSession", request)


def test_open_returns_what_get_returns(operator: Caller) -> None:
    """A session carries what it was opened with, and Get gives the same."""
    fact = record_pb2.Fact(name="case_id", value=Value(text="4711"), visible=True)
    money = record_pb2.Fact(name="limit", value=Value(number=Number(units=12, nanos=500_000_000)))
    opened = _open(
        operator,
        purpose="ticket 12",
        facts=[fact, money],
        labels={"team": "blue"},
        ttl_ms=60_000,
        lease_ms=10_000,
    ).session

    got = operator.call("SessionService/GetSession", pb.GetSessionRequest(session_id=opened.id)).session

    assert got == opened
    assert (got.subject, got.purpose, got.owner) == ("agent-7", "ticket 12", "operator")
    assert list(got.facts) == [fact, money]
    assert dict(got.labels) == {"team": "blue"}
    assert got.expires_at_ms - got.opened_at_ms == 60_000
    assert got.lease_deadline_ms - got.opened_at_ms == 10_000
    assert got.status == record_pb2.SESSION_STATUS_ACTIVE


def test_default_lifetime_is_an_hour(operator: Caller) -> None:
    """Without ttl_ms a session lives for sessions.default_ttl_ms."""
    session = _open(operator).session

    assert session.expires_at_ms - session.opened_at_ms == 3_600_000


def test_a_repeated_request_id_gives_the_first_outcome(operator: Caller) -> None:
    """The same request twice opens one session; other content under the id is a CONFLICT."""
    first = _open(operator, request_id="open-1")
    second = _open(operator, request_id="open-1")

    assert second.session.id == first.session.id
    assert second.revision == first.revision
    with pytest.raises(RpcError) as refused:
        _open(operator, request_id="open-1", subject="another")
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.ALREADY_EXISTS, "CONFLICT")


def test_life_of_a_session(operator: Caller) -> None:
    """Narrow, suspend, resume and end move the epoch; nothing leaves ENDED."""
    opened = _open(operator, lease_ms=30_000).session

    def change(name: str, kind: type, **fields: object) -> pb.Session:
        return operator.call(f"SessionService/{name}", kind(session_id=opened.id, **fields)).session

    narrowed = change("NarrowSession", pb.NarrowSessionRequest, ceiling=["read:files/a/**"], expected_epoch=1)
    suspended = change("SuspendSession", pb.SuspendSessionRequest, reason="lunch")
    resumed = change("ResumeSession", pb.ResumeSessionRequest)
    facts = change(
        "UpdateFacts",
        pb.UpdateFactsRequest,
        set=[record_pb2.Fact(name="user_present", value=Value(truth=False))],
    )
    ended = change("EndSession", pb.EndSessionRequest, reason="ticket closed")

    assert [opened.epoch, narrowed.epoch, suspended.epoch, resumed.epoch] == [1, 2, 3, 4]
    assert suspended.status == record_pb2.SESSION_STATUS_SUSPENDED
    assert suspended.reason == "lunch"
    assert facts.facts[0].value.WhichOneof("kind") == "truth"
    assert (ended.status, ended.end_cause) == (record_pb2.SESSION_STATUS_ENDED, record_pb2.END_CAUSE_ASKED)
    with pytest.raises(RpcError) as refused:
        change("ResumeSession", pb.ResumeSessionRequest)
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_ENDED")


def test_expected_epoch_that_moved_is_aborted(operator: Caller) -> None:
    """A change for another epoch is refused as EPOCH_MISMATCH."""
    session = _open(operator).session
    request = pb.NarrowSessionRequest(session_id=session.id, ceiling=["read:files/a"], expected_epoch=9)

    with pytest.raises(RpcError) as refused:
        operator.call("SessionService/NarrowSession", request)

    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.ABORTED, "EPOCH_MISMATCH")


def test_keep_alive_moves_the_deadline(operator: Caller) -> None:
    """KeepAlive gives a deadline that is at least half a lease away; without a lease it is refused."""
    session = _open(operator, lease_ms=60_000).session
    request = pb.KeepAliveRequest(session_id=session.id)

    assert operator.call("SessionService/KeepAlive", request).lease_deadline_ms >= session.lease_deadline_ms
    with pytest.raises(RpcError) as refused:
        operator.call("SessionService/KeepAlive", pb.KeepAliveRequest(session_id=_open(operator).session.id))
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_pages_cover_the_list_once(operator: Caller) -> None:
    """Paging with filters returns each matching session exactly once."""
    ids = {_open(operator, labels={"page": "yes"}).session.id for _ in range(5)}
    _open(operator, labels={"page": "no"})

    found: list[bytes] = []
    page_token = ""
    while True:
        request = pb.ListSessionsRequest(page_size=2, page_token=page_token, labels={"page": "yes"})
        page = operator.call("SessionService/ListSessions", request)
        found += [session.id for session in page.sessions]
        page_token = page.next_page_token
        if not page_token:
            break

    assert len(found) == 5
    assert set(found) == ids


def test_filters_limit_the_list(operator: Caller) -> None:
    """Status, subject and parent each limit what is listed."""
    parent = _open(operator, subject="filter-parent").session
    child = _open(operator, subject="filter-child", parent_id=parent.id).session
    operator.call("SessionService/EndSession", pb.EndSessionRequest(session_id=child.id))

    def ids(**filters: object) -> list[bytes]:
        answer = operator.call("SessionService/ListSessions", pb.ListSessionsRequest(**filters))
        return [session.id for session in answer.sessions]

    assert ids(parent_id=parent.id) == [child.id]
    assert ids(id_prefix=child.id.hex()[:12]) == [child.id]
    assert ids(id_prefix=child.id.hex(), parent_id=parent.id) == [child.id]
    assert ids(id_prefix=child.id.hex()[:12], subject="filter-parent") == []
    assert ids(subject="filter-parent") == [parent.id]
    assert ids(parent_id=parent.id, status=record_pb2.SESSION_STATUS_ACTIVE) == []
    assert ids(parent_id=parent.id, status=record_pb2.SESSION_STATUS_ENDED) == [child.id]


def test_a_session_is_shown_and_listed_with_its_effective_status(service: Service, operator: Caller) -> None:
    """Get, list, report and cut-off agree; an issuer reads no reason of another's session."""
    issuer = service.add("inheriting", "issuer")
    parent = _open(operator, labels={"line": "inherits"}).session
    child = _open(operator, labels={"line": "inherits"}, parent_id=parent.id, owner="inheriting").session

    def views(caller: Caller) -> list[pb.Session]:
        report = caller.call("UsageService/GetReport", GetReportRequest(session_id=child.id)).reports[0]
        listing = pb.ListSessionsRequest(parent_id=parent.id)
        listed = caller.call("SessionService/ListSessions", listing).sessions[0]
        listing = pb.ListSessionsRequest(id_prefix=child.id.hex(), status=listed.status)
        found = caller.call("SessionService/ListSessions", listing).sessions[0]
        shown = caller.call("SessionService/GetSession", pb.GetSessionRequest(session_id=child.id)).session
        return [shown, listed, found, report.session]

    def alike(status: int, **fields: object) -> None:
        for caller, reason in ((operator, "not for them"), (issuer, "")):
            for each in views(caller):
                assert (each.status, each.inherited_from, each.reason) == (status, parent.id, reason)
                assert (each.epoch, each.revision) == (child.epoch, child.revision)
                assert {name: getattr(each, name) for name in fields} == fields

    suspending = pb.SuspendSessionRequest(session_id=parent.id, reason="not for them")
    operator.call("SessionService/SuspendSession", suspending)
    alike(record_pb2.SESSION_STATUS_SUSPENDED, ended_at_ms=0)
    ending = pb.EndSessionRequest(session_id=parent.id, reason="not for them")
    ended = operator.call("SessionService/EndSession", ending).session
    assert (ended.inherited_from, ended.end_cause) == (b"", record_pb2.END_CAUSE_ASKED)
    cause = record_pb2.END_CAUSE_PARENT_ENDED
    alike(record_pb2.SESSION_STATUS_ENDED, ended_at_ms=ended.ended_at_ms, end_cause=cause)

    def count(status: int) -> int:
        listing = pb.ListSessionsRequest(labels={"line": "inherits"}, status=status)
        return len(operator.call("SessionService/ListSessions", listing).sessions)

    assert [count(status) for status in (0, 1, 2, 3)] == [2, 0, 0, 2]
    matched = EndSessionsRequest(selector=record_pb2.SessionSelector(owner="inheriting"), dry_run=True)
    assert operator.call("CutOffService/EndSessions", matched).matched == 0


@pytest.mark.parametrize(
    ("rpc", "request_message", "field"),
    [
        ("OpenSession", pb.OpenSessionRequest(ceiling=["read:a"]), "subject"),
        ("OpenSession", pb.OpenSessionRequest(subject="s"), "ceiling"),
        ("OpenSession", pb.OpenSessionRequest(subject="s", ceiling=["read:a", "no scope"]), "ceiling[1]"),
        ("OpenSession", pb.OpenSessionRequest(subject="s", ceiling=["read:a"], ttl_ms=90_000_000), "ttl_ms"),
        ("OpenSession", pb.OpenSessionRequest(subject="s", ceiling=["read:a"], parent_id=b"x"), "parent_id"),
        (
            "OpenSession",
            pb.OpenSessionRequest(subject="s", ceiling=["read:a"], request_id="x" * 65),
            "request_id",
        ),
        (
            "OpenSession",
            pb.OpenSessionRequest(subject="s", ceiling=["read:a"], facts=[record_pb2.Fact(name="f")]),
            "facts[0]",
        ),
        (
            "OpenSession",
            pb.OpenSessionRequest(subject="s", ceiling=["read:a"], issuer_key_ids=[b"k"]),
            "issuer_key_ids[0]",
        ),
        ("GetSession", pb.GetSessionRequest(session_id=b"x" * 15), "session_id"),
        ("EndSession", pb.EndSessionRequest(), "session_id"),
        ("NarrowSession", pb.NarrowSessionRequest(session_id=b"x" * 16), "ceiling"),
        ("ListSessions", pb.ListSessionsRequest(page_size=1001), "page_size"),
        ("ListSessions", pb.ListSessionsRequest(page_token="???"), "page_token"),
        ("ListSessions", pb.ListSessionsRequest(id_prefix="5f0"), "id_prefix"),
        ("ListSessions", pb.ListSessionsRequest(id_prefix="5F0C"), "id_prefix"),
    ],
)
def test_misuse_names_the_field(operator: Caller, rpc: str, request_message: object, field: str) -> None:
    """A request with a wrong field is INVALID_ARGUMENT, and the details name the field."""
    with pytest.raises(RpcError) as refused:
        operator.call(f"SessionService/{rpc}", request_message)

    assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_an_issuer_reaches_only_its_own_sessions(service: Service, operator: Caller) -> None:
    """Another's session looks like none: NOT_FOUND for every change, absent from lists."""
    issuer = service.add("issuer-a", "issuer")
    others = _open(operator).session
    own = _open(issuer).session

    for name, request in {
        "GetSession": pb.GetSessionRequest(session_id=others.id),
        "KeepAlive": pb.KeepAliveRequest(session_id=others.id),
        "NarrowSession": pb.NarrowSessionRequest(session_id=others.id, ceiling=["read:files/a"]),
        "UpdateFacts": pb.UpdateFactsRequest(session_id=others.id, remove=["x"]),
        "SuspendSession": pb.SuspendSessionRequest(session_id=others.id),
        "ResumeSession": pb.ResumeSessionRequest(session_id=others.id),
        "EndSession": pb.EndSessionRequest(session_id=others.id),
        "OpenSession": pb.OpenSessionRequest(subject="s", ceiling=["read:a"], parent_id=others.id),
    }.items():
        with pytest.raises(RpcError) as refused:
            issuer.call(f"SessionService/{name}", request)
        assert refused.value.code is grpc.StatusCode.NOT_FOUND, name

    listed = issuer.call("SessionService/ListSessions", pb.ListSessionsRequest(page_size=1000)).sessions
    assert [session.id for session in listed] == [own.id]
    assert own.owner == "issuer-a"
    issuer.call("SessionService/EndSession", pb.EndSessionRequest(session_id=own.id))


def test_only_an_operator_opens_for_another(service: Service, operator: Caller) -> None:
    """An operator may name another owner, an issuer may not."""
    issuer = service.add("issuer-b", "issuer")

    assert _open(operator, owner="issuer-b").session.owner == "issuer-b"
    with pytest.raises(RpcError) as refused:
        _open(issuer, owner="issuer-c")
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_session_tells_what_it_has_open(service: Service, operator: Caller) -> None:
    """Get and List carry the permits that are open and the approvals that wait at the session's epoch."""
    opened = _open(operator, subject="payer").session
    log = service.control.writer if service.control else None
    assert log is not None and (opened.open_permits, opened.open_approvals) == (0, 0)
    permit = {"permit_id": b"p" * 16, "permit_deadline_ms": log.now_ms() + 60_000}
    for change in (
        spending(opened.id, **permit),
        request_approval(once_change_id(), pending_record(opened.id, b"a" * 16)),
    ):
        assert log.decide(lambda group, change=change: group.submit(change), 4096).result(10).applied

    got = operator.call("SessionService/GetSession", pb.GetSessionRequest(session_id=opened.id)).session
    listed = operator.call("SessionService/ListSessions", pb.ListSessionsRequest(subject="payer")).sessions

    assert (got.open_permits, got.open_approvals) == (1, 1)
    assert list(listed) == [got]
    suspended = operator.call(
        "SessionService/SuspendSession", pb.SuspendSessionRequest(session_id=opened.id)
    ).session
    assert (suspended.open_permits, suspended.open_approvals) == (1, 0)
