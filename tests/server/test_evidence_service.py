"""Receipts over a real socket: made with the end, made again, refused; and ends that no receipt holds up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from sessauth.client import AsyncClient, Client
from sessauth.clock import SystemClock
from sessauth.errors import KeyFolderError
from sessauth.model import change as changes
from sessauth.model.receipt import Receipt, ReceiptState, SignedReceipt, VerifierState, verify
from sessauth.model.session import EndCause
from sessauth.server.evidence.receipts import ReceiptIssuer
from sessauth.server.keys.issuer_keyring import KeyRing
from sessauth.server.rpc.access import RULES
from sessauth.server.rpc.call import CallContext
from sessauth.state.lmdb import cluster_rows as rows
from sessauth.state.writer.state_writer import StateWriter
from sessauth.v1 import evidence_service_pb2 as pb
from sessauth.v1 import receipt_pb2
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.verifier.verifier import Verifier
from tests.support.service import Caller, RpcError, Service, running, wait_until

INSTANCE = b"i" * 16


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server whose ends wait long for acknowledgements, and never for who is late."""
    with running(evidence={"receipt_wait_ms": 5_000}) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(service: Service) -> Caller:
    """A gateway."""
    return service.add("gw", "gateway", ("gw",))


@dataclass
class Gateway:
    """A verifier under the test's control."""

    caller: Caller
    log: StateWriter
    name: str = "gw-1"

    def register(self, **given: Any) -> int:
        """Register or renew at the latest revision; ``given`` fields replace its own."""
        head = self.log.head()
        said = {
            "name": self.name,
            "instance": INSTANCE,
            "staleness_ms": 60_000,
            "cluster_id": head.cluster_id,
            "incarnation": head.incarnation,
            "revision": head.revision,
            **given,
        }
        return int(
            self.caller.call("EvidenceService/RegisterVerifier", pb.RegisterVerifierRequest(**said)).revision
        )


@pytest.fixture
def log(service: Service) -> StateWriter:
    """The log of the server."""
    assert service.control is not None
    return service.control.writer


@pytest.fixture
def registered(gateway: Caller, log: StateWriter) -> Iterator[Gateway]:
    """A verifier that registered, and leaves with the test."""
    found = Gateway(gateway, log)
    found.register()
    yield found
    found.register(leave=True)


def open_session(caller: Caller, **given: Any) -> sessions.Session:
    """Open a session."""
    request = sessions.OpenSessionRequest(subject="agent", ceiling=["read:files/**"], **given)
    return caller.call("SessionService/OpenSession", request).session


def ended(caller: Caller, session_id: bytes) -> sessions.EndSessionResponse:
    """End a session."""
    return caller.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))


def read(message: receipt_pb2.SignedReceipt, log: StateWriter, session_id: bytes = b"") -> Receipt:
    """Return a receipt of an answer, verified."""
    signed = SignedReceipt(message.payload, message.issuer_key_id, message.signature)
    return verify(signed, log.keys(), session_id=session_id, cluster_id=log.head().cluster_id)


def receipt_of(caller: Caller, log: StateWriter, session_id: bytes) -> Receipt:
    """Return the receipt that a session has now."""
    answer = caller.call("EvidenceService/GetReceipt", pb.GetReceiptRequest(session_id=session_id))
    return read(answer.receipt, log, session_id)


def test_with_nobody_enrolled_an_end_is_closed_at_once(
    service: Service, operator: Caller, log: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is waited for and nothing more is written; the control process speaks for itself."""
    assert service.control is not None
    monkeypatch.setattr(service.control.subsystems.registry, "wait", lambda *_: pytest.fail("it waited"))
    session = open_session(operator)

    answer = ended(operator, session.id)

    receipt = read(answer.receipt, log, session.id)
    assert receipt.state is ReceiptState.CLOSED
    assert [each.name for each in receipt.verifiers] == ["sessauth/control"]
    assert (receipt.revision, receipt.epoch) == (answer.revision, answer.session.epoch)
    assert (receipt.ended_at_ms, receipt.cause) == (answer.session.ended_at_ms, EndCause.ASKED)
    assert log.head().revision == answer.revision and log.receipt(session.id) is None


def test_the_answer_to_an_end_waits_for_acknowledgements(
    operator: Caller, log: StateWriter, registered: Gateway
) -> None:
    """They are called for, and the answer comes with the last of them; the receipt is then kept."""
    session = open_session(operator)
    _, before = log.source().called_for()
    answers: list[sessions.EndSessionResponse] = []
    ending = threading.Thread(target=lambda: answers.append(ended(operator, session.id)))
    ending.start()
    assert wait_until(lambda: log.source().called_for()[1] > before)
    assert not answers
    registered.register()
    ending.join(20)

    receipt = read(answers[0].receipt, log, session.id)
    assert receipt.state is ReceiptState.CLOSED
    assert [each.state for each in receipt.verifiers] == [VerifierState.ACKNOWLEDGED] * 2
    assert wait_until(lambda: log.receipt(session.id) == receipt)
    registered.register(leave=True)
    assert receipt_of(operator, log, session.id) == receipt


def test_who_is_late_is_named_and_holds_up_nothing(
    service: Service, operator: Caller, log: StateWriter, registered: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first end waits for it; the others don't, and each is PARTIAL until it is heard."""
    assert service.control is not None
    registry = service.control.subsystems.registry
    wait = registry.wait
    waited: list[int] = []
    monkeypatch.setattr(registry, "wait", lambda revision, _: (waited.append(revision), wait(revision, 0)))
    found = [open_session(operator).id for _ in range(4)]

    receipts = [read(ended(operator, each).receipt, log) for each in found]

    assert [receipt.waiting for receipt in receipts] == [("gw-1",)] * 4
    assert waited == [receipts[0].revision]
    # A late verifier is asked to acknowledge all the same.
    assert log.source().called_for()[1] == receipts[-1].revision
    registered.register()
    assert all(receipt_of(operator, log, each).state for each in found)


def test_an_end_stands_whatever_becomes_of_its_receipt(
    operator: Caller, log: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key to sign with there is none yet; later it is made all the same."""
    session = open_session(operator)

    def broken(*_: object) -> None:
        raise KeyFolderError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(KeyRing, "newest_active", broken)
        answer = ended(operator, session.id)
        with pytest.raises(RpcError) as caught:
            receipt_of(operator, log, session.id)

    assert caught.value.word == "KEY_FOLDER"
    assert not answer.HasField("receipt") and answer.session.ended_at_ms
    assert receipt_of(operator, log, session.id).state is ReceiptState.CLOSED


def test_a_crash_behind_the_end_costs_no_receipt(operator: Caller, log: StateWriter) -> None:
    """An end that nobody made a receipt for, as after a crash, has one when it is asked for."""
    session = open_session(operator)
    outcome = log.submit(changes.end_session("gone", session.id)).result().raise_if_rejected()

    receipt = receipt_of(operator, log, session.id)

    assert (receipt.state, receipt.revision) == (ReceiptState.CLOSED, outcome.revision)


def test_a_child_has_a_receipt_of_its_parents_end(operator: Caller, log: StateWriter) -> None:
    """Its tokens are denied from the parent's end on, though its own row says nothing yet."""
    parent = open_session(operator)
    child = open_session(operator, parent_id=parent.id)
    answer = ended(operator, parent.id)

    receipt = receipt_of(operator, log, child.id)

    assert (receipt.cause, receipt.revision) == (EndCause.PARENT_ENDED, answer.revision)
    assert (receipt.epoch, receipt.ended_at_ms) == (child.epoch, answer.session.ended_at_ms)


def test_who_was_enrolled_before_it_was_kept_is_not_known(operator: Caller, log: StateWriter) -> None:
    """Ends from before this folder stored registrations have state UNKNOWN; later ones are known."""
    session = open_session(operator)
    at_ms = log.submit(changes.end_session("before", session.id)).result().raise_if_rejected().at_ms
    log.run(lambda group: _since(group, at_ms))
    try:
        assert receipt_of(operator, log, session.id).state is ReceiptState.UNKNOWN
    finally:
        log.run(lambda group: _since(group, 0))


def _since(group: Any, at_ms: int) -> None:
    rows.store_since(group.rows, at_ms)
    group.dirty = True


def test_it_says_when_a_call_was_last_allowed(service: Service, operator: Caller, log: StateWriter) -> None:
    """The time is that of the hook ``last_allow_ms``."""
    assert service.control is not None
    control, session = service.control, open_session(operator)
    # Not by the service, which would keep a receipt of its own.
    log.submit(changes.end_session("ended beside it", session.id, actor="operator")).result()
    found = log.get_session(session.id)
    assert found is not None
    evidence = ReceiptIssuer(
        log,
        Verifier(log.source()),
        control.keyring,
        control.subsystems.registry,
        SystemClock(),
        last_allow_ms=lambda session_id: found.ended_at_ms - 7 if session_id == session.id else 0,
    )
    assert evidence.receipt(found, patient()).unverified.last_allow_ms == found.ended_at_ms - 7


def patient() -> CallContext:
    """Return a call that has all the time that it needs."""
    call = CallContext("GetReceipt", RULES["/sessauth.v1.EvidenceService/GetReceipt"], context=None)  # type: ignore[arg-type]
    call.deadline = call.started + 60.0
    return call


def test_before_the_end_there_is_no_receipt(service: Service, operator: Caller, log: StateWriter) -> None:
    """Nor of a session that isn't there, or is another's."""
    session = open_session(operator)
    issuer = service.add("orchestrator", "issuer")
    for caller, session_id, code, word in (
        (operator, session.id, grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATUS"),
        (operator, b"n" * 16, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        (issuer, session.id, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        (operator, b"short", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(RpcError) as caught:
            receipt_of(caller, log, session_id)
        assert (caught.value.code, caught.value.word) == (code, word)
    own = open_session(issuer)
    ended(issuer, own.id)
    assert receipt_of(issuer, log, own.id).state is ReceiptState.CLOSED


def test_what_a_verifier_says_is_of_this_state(gateway: Caller, log: StateWriter) -> None:
    """A registration from another folder, or from the future, acknowledges nothing."""
    verifier = Gateway(gateway, log, "gw-2")
    for given, word in (
        ({"cluster_id": b"x" * 16}, "OTHER_STATE"),
        ({"incarnation": b"x" * 16}, "OTHER_STATE"),
        ({"revision": log.head().revision + 1}, "INVALID_ARGUMENT"),
        ({"staleness_ms": 10}, "INVALID_ARGUMENT"),
        ({"name": "sessauth/worker-0"}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(RpcError) as caught:
            verifier.register(**given)
        assert caught.value.word == word
    assert verifier.register() == log.head().revision
    with pytest.raises(RpcError) as caught:
        verifier.register(instance=b"j" * 16)
    assert caught.value.word == "NAME_TAKEN"
    verifier.register(leave=True)


def test_verifiers_are_listed(operator: Caller, registered: Gateway) -> None:
    """The control process first; who, whose, since when, and where it stands."""
    found = operator.call("EvidenceService/ListVerifiers", pb.ListVerifiersRequest()).verifiers

    assert (found[0].name, found[0].kind) == ("sessauth/control", pb.VERIFIER_KIND_CONTROL)
    listed = next(each for each in found if each.name == "gw-1")
    assert (listed.kind, listed.principal) == (pb.VERIFIER_KIND_EMBEDDED, "gw")
    assert (listed.staleness_ms, listed.state) == (60_000, receipt_pb2.VERIFIER_STATE_ACKNOWLEDGED)
    assert listed.registered_at_ms <= listed.renewed_at_ms


def test_both_clients_have_the_receipt(service: Service) -> None:
    """Receipts come with an end, after a live session and later; blocking and awaited."""
    target, credential = str(service.made.socket), service.operator.credential
    terms: Any = {"subject": "agent", "ceiling": ["read:**"]}
    with Client(target, credential, timeout_ms=10_000) as client:
        with client.session(**terms) as live:
            assert live.receipt is None
        assert live.receipt is not None and live.receipt.unverified.state is ReceiptState.CLOSED
        assert client.get_receipt(live.id).unverified.session_id == live.id
        keys = client.jwks()

    async def awaited() -> SignedReceipt:
        async with AsyncClient(target, credential, timeout_ms=10_000) as other:
            opened = await other.open_session(**terms)
            ended = await other.end(opened.id)
            assert ended.ended_at_ms and ended.receipt is not None
            assert (await other.list_verifiers())[0].kind == "CONTROL"
            return await other.get_receipt(opened.id)

    assert verify(asyncio.run(awaited()), keys).state is ReceiptState.CLOSED
