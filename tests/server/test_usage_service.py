"""UsageService: what is reported counts once, what is wrong with it changes nothing, and who may read it."""

from __future__ import annotations

import json
import random
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from sessauth.client import Client, Missing
from sessauth.client._usage_messages import batch_message
from sessauth.client._verifier_channel import VerifierChannel
from sessauth.errors import NotFound, PermissionDenied, UsageError
from sessauth.model.session import Session
from sessauth.scopes.scope import Scope
from sessauth.server import config as server_config
from sessauth.server.process.control import Control
from sessauth.usage.session_usage import ObservationAck, ObservationBatch, SessionObservation, UseAfterEnd
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.observations import AT, block, block_id, claimed, observed, usage
from tests.support.service import Caller, RpcError, Service, running, wait_until

LateCalls = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server that asks for usage, and listens on TCP too."""
    with running(usage={"enabled": True}, tcp={"address": "127.0.0.1:0", "insecure_tcp": True}) as started:
        yield started


@pytest.fixture(scope="module")
def clients(service: Service) -> Iterator[dict[str, Client]]:
    """A client for each role."""
    target = f"unix:{service.made.socket}"
    found = {
        name: Client(target, service.add(name, role).credential, timeout_ms=10_000)
        for name, role in (("gw-1", "gateway"), ("gw-2", "gateway"), ("ann", "issuer"), ("aud", "auditor"))
    }
    found["operator"] = Client(target, service.operator.credential, timeout_ms=10_000)
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def session(clients: dict[str, Client]) -> Session:
    """A live session of the issuer's."""
    return clients["ann"].open_session(subject="agent", ceiling=["read:files/**"], purpose="reading")


@pytest.fixture
def late_calls(service: Service) -> Iterator[LateCalls]:
    """Uses after the end that the server reports."""
    reported: LateCalls = []
    assert service.control is not None
    service.control.subsystems.usage.on_used_after_end = lambda *use: reported.append(use)
    yield reported
    service.control.subsystems.usage.on_used_after_end = None


def send(client: Client, batch: ObservationBatch) -> ObservationAck:
    """Send a batch as a verifier with the credential of ``client``."""
    return VerifierChannel(client).report_observations(batch)


def batch(*sessions: SessionObservation, number: int = 1, sender_id: bytes = b"") -> ObservationBatch:
    """A batch of a process of its own."""
    return ObservationBatch(sender_id or secrets.token_bytes(16), number, sessions=sessions)


def test_what_verifiers_tell_adds_up(clients: dict[str, Client], session: Session) -> None:
    """Counts add up over verifiers and batches, the earliest first and the latest last use stand."""
    one, two = clients["gw-1"], clients["gw-2"]
    send(one, batch(observed(session.id, block("r", calls=2), block("c", "r", index=1, at_ms=AT + 3))))
    send(two, batch(observed(session.id, block("r", calls=3, at_ms=AT + 9))))
    report = clients["ann"].get_report(session.id)
    root, child = (report.observation.blocks[block_id(name)] for name in "rc")

    assert (report.observation.allowed, report.observation.denied, report.observation.last_allow_ms) == (
        5,
        0,
        AT + 9,
    )
    assert (root.calls, root.allowed, root.first_ms, root.last_ms) == (5, 5, AT, AT + 9)
    assert (child.parent_id, child.calls) == (root.block_id, 1)
    assert [(each.name, each.allowed) for each in report.verifiers] == [("gw-1", 2), ("gw-2", 3)]
    assert (report.session.purpose, report.missing, report.incomplete) == ("reading", (), False)
    assert [[str(Scope.from_record(scope)) for scope in layer] for layer in report.granted.ceilings] == [
        ["read:files/**"]
    ]


def test_a_number_counts_once_and_of_its_own_verifier_alone(
    clients: dict[str, Client], session: Session
) -> None:
    """A repeated batch is answered and changes nothing; another caller's of the same id is another."""
    sender_id = secrets.token_bytes(16)
    first = send(clients["gw-1"], batch(observed(session.id, block("r")), sender_id=sender_id))
    again = send(clients["gw-1"], batch(observed(session.id, block("r")), sender_id=sender_id))
    send(clients["gw-2"], batch(observed(session.id, block("r")), sender_id=sender_id))

    assert first == again
    assert first.wants_usage
    assert clients["aud"].get_report(session.id).observation.allowed == 2


def _batch_message(session_id: bytes) -> pb.ReportObservationsRequest:
    late = UseAfterEnd((block_id("r"),), False, 1, AT, AT)
    request = batch_message(batch(observed(session_id, block("r"), block("c", "r", index=1), late=late)))
    request.sessions[0].usage = usage("files/a").to_json()
    return request


GARBAGE: dict[str, Callable[[pb.ReportObservationsRequest], Any]] = {
    "sender_id": lambda m: setattr(m, "sender_id", b"short"),
    "number": lambda m: setattr(m, "number", 0),
    "lost": lambda m: setattr(m, "lost", 1 << 60),
    "sessions": lambda m: m.sessions.add().CopyFrom(m.sessions[0]),
    "sessions[0].session_id": lambda m: setattr(m.sessions[0], "session_id", bytes(15)),
    "sessions[0].allowed": lambda m: setattr(m.sessions[0], "allowed", 1 << 60),
    "sessions[0].usage": lambda m: setattr(m.sessions[0], "usage", b"{"),
    "sessions[0]": lambda m: m.sessions[0].blocks.add().CopyFrom(m.sessions[0].blocks[0]),
    "sessions[0].blocks[0].block_id": lambda m: setattr(m.sessions[0].blocks[0], "block_id", b""),
    "sessions[0].blocks[0].parent_id": lambda m: setattr(m.sessions[0].blocks[0], "parent_id", bytes(32)),
    "sessions[0].blocks[1].parent_id": lambda m: setattr(m.sessions[0].blocks[1], "parent_id", b""),
    "sessions[0].blocks[1].index": lambda m: setattr(m.sessions[0].blocks[1], "index", 16),
    "sessions[0].blocks[1].calls": lambda m: setattr(m.sessions[0].blocks[1], "calls", 0),
    "sessions[0].blocks[1].allowed": lambda m: setattr(m.sessions[0].blocks[1], "allowed", 2),
    "sessions[0].blocks[1].first_ms": lambda m: setattr(m.sessions[0].blocks[1], "first_ms", AT + 1),
    "sessions[0].blocks[1].payload": lambda m: setattr(m.sessions[0].blocks[1], "payload", b"\xff"),
    "sessions[0].late[0].claimed": lambda m: setattr(m.sessions[0].late[0], "claimed", True),
    "sessions[0].late[0].count": lambda m: setattr(m.sessions[0].late[0], "count", 0),
    "sessions[0].late[0].block_ids": lambda m: m.sessions[0].late[0].block_ids.extend([bytes(32)] * 16),
}


@pytest.mark.parametrize("field", GARBAGE)
def test_garbage_is_refused_whole(service: Service, session: Session, field: str) -> None:
    """One thing that is wrong with a batch, named, and nothing of it counts."""
    request = _batch_message(session.id)
    GARBAGE[field](request)
    caller = next(each for each in service.callers if each.credential.startswith("sessauth_key_gw-1_"))
    with pytest.raises(RpcError) as refused:
        caller.call("UsageService/ReportObservations", request)

    assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert service.control is not None
    assert service.control.subsystems.usage.last_allow_ms(session.id) == 0


def test_bytes_that_are_no_telling_are_refused(service: Service, session: Session) -> None:
    """Neither what is no message nor what is too large for one changes anything."""
    caller = next(each for each in service.callers if each.credential.startswith("sessauth_key_gw-1_"))
    many = pb.ReportObservationsRequest(sender_id=bytes(16), number=1)
    many.sessions.extend(pb.SessionObservation(session_id=bytes(16)) for _ in range(1_025))
    large = _batch_message(session.id)
    large.sessions[0].usage = bytes(13 << 20)
    for request, code in (
        (pb.GetReportResponse(next_page_token="?" * 40), grpc.StatusCode.INVALID_ARGUMENT),
        (many, grpc.StatusCode.INVALID_ARGUMENT),
        (large, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ):
        with pytest.raises(RpcError) as refused:
            caller.call("UsageService/ReportObservations", request)
        assert refused.value.code is code
    assert service.control is not None
    assert service.control.subsystems.usage.last_allow_ms(session.id) == 0


class _Raw:
    """Bytes in the place of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - as a message's
        return self._data


def test_no_bytes_make_the_server_stumble(service: Service, session: Session) -> None:
    """Damaged anywhere, a batch is taken or refused for what is wrong with it, and never our mistake."""
    caller = next(each for each in service.callers if each.credential.startswith("sessauth_key_gw-1_"))
    rng, codes = random.Random(4), set()
    whole = _batch_message(session.id).SerializeToString()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        try:
            caller.call("UsageService/ReportObservations", _Raw(bytes(data)))
        except RpcError as error:
            codes.add(error.code)
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT}


def test_unknown_sessions_change_nothing(clients: dict[str, Client], session: Session) -> None:
    """A report about an unknown session is dropped, and the rest of the batch stands."""
    unknown = secrets.token_bytes(16)
    send(clients["gw-1"], batch(observed(unknown, block("r")), observed(session.id, block("r"))))

    assert clients["aud"].get_report(session.id).observation.allowed == 1
    for call in (clients["aud"].get_report, clients["aud"].get_census):
        with pytest.raises(NotFound):
            call(unknown)


def test_times_from_a_wrong_clock_are_no_later_than_now(clients: dict[str, Client], session: Session) -> None:
    """A verifier whose clock is ahead does not move the last allow into the future."""
    send(clients["gw-1"], batch(observed(session.id, block("r", at_ms=AT * 2))))
    report = clients["aud"].get_report(session.id)

    assert report.observation.last_allow_ms < AT * 2
    assert report.observation.last_allow_ms >= report.session.opened_at_ms


def test_who_may_tell_and_read(service: Service, clients: dict[str, Client], session: Session) -> None:
    """Gateways tell and read nothing; an issuer reads its own sessions; auditors read all."""
    for name in ("operator", "ann", "aud"):
        with pytest.raises(PermissionDenied):
            send(clients[name], batch())
    for call in (clients["gw-1"].get_report, clients["gw-1"].get_census, clients["ann"].get_census):
        with pytest.raises(PermissionDenied):
            call(session.id)
    other = clients["operator"].open_session(subject="s", ceiling=["read:**"], purpose="reading")
    with pytest.raises(NotFound):
        clients["ann"].get_report(other.id)
    assert clients["aud"].get_report(other.id).session.owner == "operator"
    assert service.control is not None
    worker = Caller(f"127.0.0.1:{service.control.tcp_port}", service.control._workers.text)
    with pytest.raises(RpcError) as refused:
        worker.call("UsageService/ReportObservations", batch_message(batch()))
    worker.close()
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_reports_of_a_purpose_come_in_pages(clients: dict[str, Client]) -> None:
    """Every session of the purpose that the caller reaches stands on one of the pages."""
    purpose = secrets.token_hex(4)
    mine = {
        clients["ann"].open_session(subject="s", ceiling=["read:a"], purpose=purpose).id for _ in range(3)
    }
    other = clients["operator"].open_session(subject="s", ceiling=["read:a"], purpose=purpose)
    found, token, pages = set(), "", 0
    while pages == 0 or token:
        page = clients["ann"].list_reports(purpose, page_size=2, page_token=token)
        found |= {report.session.id for report in page.reports}
        token, pages = page.next_page_token, pages + 1

    assert (found, pages) == (mine, 2)
    assert len(clients["aud"].list_reports(purpose).reports) == 4
    asked = [*mine, other.id, secrets.token_bytes(16)]
    assert {each.session.id for each in clients["ann"].get_reports(asked)} == mine
    assert [each.session.id for each in clients["aud"].get_reports(asked)] == asked[:-1]
    with pytest.raises(UsageError, match="session_ids: must be 1 to 100, not 101"):
        clients["aud"].get_reports([secrets.token_bytes(16)] * 101)
    with pytest.raises(UsageError, match="page_size"):
        clients["aud"].list_reports(purpose, page_size=101)


def test_the_census_knows_what_is_revoked_and_what_hangs_below(
    clients: dict[str, Client], session: Session
) -> None:
    """Parents come first; a block is revoked with the one above it; a circle that somebody reported ends."""
    circle = (block("x", "y", index=1), block("y", "x", index=2))
    send(
        clients["gw-1"],
        batch(observed(session.id, block("c", "r", index=1), block("r"), block("other"), *circle)),
    )
    clients["ann"].revoke(session.id, [block_id("r")])
    census = clients["aud"].get_census(session.id)
    found = {each.observation.block_id: each.revoked for each in census.blocks}

    assert [each.observation.index for each in census.blocks] == [0, 0, 1, 1, 2]
    assert found == {block_id(name): name in "cr" for name in ("r", "c", "other", "x", "y")}
    assert [each.observation.block_id for each in census.children(block_id("r"))] == [block_id("c")]


def test_a_use_after_the_end_is_told_on(
    clients: dict[str, Client], session: Session, late_calls: LateCalls
) -> None:
    """The use comes with its blocks, or as a claim; a use of a live session is dropped."""
    verified = UseAfterEnd((block_id("r"),), False, 2, AT, AT + 5)
    early = observed(session.id, late=claimed(7))
    send(clients["gw-1"], batch(early))
    assert late_calls == []
    clients["ann"].end(session.id)
    both = observed(session.id, late=claimed(3))
    both.late[verified.key] = verified
    send(clients["gw-1"], batch(both))

    assert sorted(late_calls, key=str) == [
        (session.id, "gw-1", UseAfterEnd((), True, 3, AT, AT)),
        (session.id, "gw-1", UseAfterEnd((block_id("r"),), False, 2, AT, AT + 5)),
    ]
    census = clients["aud"].get_census(session.id)
    assert sorted((late.claimed, late.count) for late in census.late) == [(False, 2), (True, 3)]


def test_usage_records_are_merged(clients: dict[str, Client], session: Session) -> None:
    """Two verifiers' reports of calls are one record; its values stand in the report."""
    for name, resource in (("gw-1", "files/a"), ("gw-2", "files/b")):
        reported = observed(session.id, block("r"))
        reported.usage = usage(resource, arguments=json.dumps({"owner": name}).encode())
        send(clients[name], batch(reported))
    found = clients["ann"].get_report(session.id).observation.usage

    assert found is not None
    assert found.allowed.calls == 2
    assert [key for key, _ in found.calls] == [("read", "files/a"), ("read", "files/b")]


def test_a_restart_keeps_what_was_told() -> None:
    """A clean stop loses nothing; a kill loses live sessions alone, and the report says so."""
    with running(usage={"enabled": True}) as service:
        target, home = f"unix:{service.made.socket}", service.made.home
        gateway = Client(target, service.add("gw-1", "gateway").credential, timeout_ms=10_000)
        operator = Client(target, service.operator.credential, timeout_ms=10_000)
        ended, alive = (operator.open_session(subject="s", ceiling=["read:a"]) for _ in range(2))
        reported = observed(ended.id, block("r", calls=4))
        reported.usage = usage("files/secret")
        send(gateway, batch(reported, observed(alive.id, block("r", calls=2))))
        operator.end(ended.id)
        control = service.control
        assert control is not None
        control.subsystems.usage.write_ended()
        (file,) = control._config.usage_dir.glob("*.usage")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

        def restart(*, cleanly: bool) -> None:
            assert service.control is not None
            if not cleanly:
                service.control.subsystems.usage.close = lambda: None  # type: ignore[method-assign]
            service.control.stop()
            config = server_config.from_dict({"home": str(home), "usage": {"enabled": True}})
            service.control = Control(config)
            service.control.start()

        def state() -> list[tuple[int, tuple[Missing, ...]]]:
            found = [operator.get_report(each.id) for each in (ended, alive)]
            assert found[0].observation.usage is not None
            return [(report.observation.allowed, report.missing) for report in found]

        restart(cleanly=True)
        assert state() == [(4, ()), (2, ())]
        send(gateway, batch(observed(alive.id, block("r"))))
        restart(cleanly=False)
        assert state() == [(4, ()), (2, (Missing.BEFORE, Missing.USAGE))]
        gateway.close()
        operator.close()


def test_an_audited_server_has_a_census_too() -> None:
    """A server that records decisions reports blocks and last allows; a plain one reports nothing."""
    with running(audit={"enabled": True}) as service, running() as plain:
        client = Client(f"unix:{service.made.socket}", service.operator.credential, timeout_ms=10_000)
        opened = client.open_session(subject="s", ceiling=["read:a"])
        token = client.mint(opened.id, ["read:a"], ["gw"])
        assert client.check(token, "read", "a", audience="gw").allowed
        assert wait_until(lambda: client.get_report(opened.id).observation.allowed == 1)
        report = client.get_report(opened.id)
        client.close()
        assert plain.control is not None
        observations_of_plain = plain.control.subsystems.recorder.observations

    assert report.missing == (Missing.USAGE,)
    assert [each.name for each in report.verifiers] == ["control"]
    assert observations_of_plain is None
