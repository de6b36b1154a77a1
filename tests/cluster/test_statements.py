"""Statements of callers between the servers of a cluster: what is accepted, and that nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sessauth.crypto.keys import KeyStatus, MessageKey
from sessauth.model.change import add_credential, add_key, remove_credential, set_key_status
from sessauth.model.host import SERVER_OWNER, CredentialRecord, HostKey, ServerKey, credential_digest
from sessauth.server.cluster.begin import server_key
from sessauth.server.cluster.forwarding import MAX_AGE_MS, MAX_AHEAD_MS
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.rpc.access import STATEMENT
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.service import Caller, RpcError, wait_until
from tests.support.stated import UNAUTHENTICATED, Stating
from tests.support.watching import item, mint, open_session

OPEN = "SessionService/OpenSession"
CHECK = "AuthorizationService/Check"
REQUEST = sessions.OpenSessionRequest(subject="agent-7", ceiling=["read:files/**"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Two servers over an engine in memory; the first one leads."""
    engine = OneEngine()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("membership", "begin"):
            patch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
        with two_servers(tmp_path_factory.mktemp("pair"), ["127.0.0.1:1"]) as servers:
            yield servers


@pytest.fixture
def stating(pair: tuple[ClusterServer, ClusterServer]) -> Iterator[Stating]:
    """Statements of the second server to the first one, which leads."""
    made = Stating(pair[1], pair[0])
    yield made
    made.close()


def refuses(stating: Stating, statement: Any, **options: Any) -> bool:
    """Return True if a call is refused UNAUTHENTICATED, and nothing was written."""
    before = stating.leader.control.writer.head().revision
    with pytest.raises(RpcError) as refused:
        stating.send(OPEN, REQUEST, statement, **options)
    return refused.value.code is UNAUTHENTICATED and stating.leader.control.writer.head().revision == before


def test_a_statement_is_worth_its_caller(stating: Stating) -> None:
    """A call is answered by the stated role, and logged under the stated name."""
    answer = stating.send(OPEN, REQUEST, stating.statement(OPEN, REQUEST, principal="bo", role="issuer"))
    assert stating.leader.control.writer.get_session(answer.session.id).owner == "bo"  # type: ignore[union-attr]
    with pytest.raises(RpcError) as refused:
        stating.send(OPEN, REQUEST, stating.statement(OPEN, REQUEST, role="gateway"))
    assert refused.value.word == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "fields",
    [
        {"cluster_id": bytes(16)},
        {"cluster_id": b""},
        {"host": "server/one"},
        {"host": "server/nobody"},
        {"host": "two"},
        {"host": ""},
        {"term": 0},
        {"term": 2},
        {"method": "/sessauth.v1.SessionService/EndSession"},
        {"method": ""},
        {"request_digest": bytes(32)},
        {"request_digest": b""},
        {"principal": ""},
        {"principal": "sessauth/worker"},
        {"principal": "n" * 129},
        {"role": "worker"},
        {"role": "root"},
        {"role": ""},
        {"audiences": ('a"b',)},
        {"audiences": ("",)},
        {"id": b""},
        {"id": bytes(17)},
        {"proven": b"\x01\x00"},
        {"proven": b"\x01" * 129},
        {"issued_at_ms": 0},
    ],
    ids=str,
)
def test_each_field_counts(stating: Stating, fields: dict[str, Any]) -> None:
    """A statement with one field of another value is refused, although the server's own key signed it."""
    statement = stating.statement(OPEN, REQUEST, **fields)
    assert refuses(stating, statement)


def test_it_is_good_for_seconds(stating: Stating) -> None:
    """Older, or further ahead than clocks may differ: refused."""
    now_ms = stating.leader.control.writer.now_ms()
    for issued_at_ms in (now_ms - MAX_AGE_MS - 1_000, now_ms + MAX_AHEAD_MS + 10_000):
        assert refuses(stating, stating.statement(OPEN, REQUEST, issued_at_ms=issued_at_ms))


def test_it_counts_once(stating: Stating) -> None:
    """A captured statement makes the same call no second time."""
    statement = stating.statement(OPEN, REQUEST)
    stating.send(OPEN, REQUEST, statement)
    assert refuses(stating, statement)
    assert refuses(stating, replace(statement, id=bytes(16)).signed_by(ServerKey.generate()).encode())


def test_other_keys_state_nothing(stating: Stating) -> None:
    """Keys of nobody, of the leader, of an issuer; prepared, retired and distrusted ones of the server."""
    log, statement = stating.leader.control.writer, stating.statement(OPEN, REQUEST)

    def added(owner: str, status: KeyStatus) -> MessageKey:
        key = ServerKey.generate()
        first = KeyStatus.PREPARED if status is KeyStatus.PREPARED else KeyStatus.ACTIVE
        change = add_key(key.key_id.hex(), key.public_key, owner=owner, status=first)
        log.submit(change).result().raise_if_rejected()
        if status not in (KeyStatus.PREPARED, KeyStatus.ACTIVE):
            change = set_key_status(f"end-{key.key_id.hex()[:32]}", key.key_id, status)
            log.submit(change).result().raise_if_rejected()
        return key

    two = SERVER_OWNER + "two"
    keys = [
        ServerKey.generate(),
        server_key(stating.leader.config),
        added("", KeyStatus.ACTIVE),
        added("team", KeyStatus.ACTIVE),
        *(added(two, status) for status in (KeyStatus.PREPARED, KeyStatus.RETIRED, KeyStatus.DISTRUSTED)),
    ]
    assert [refuses(stating, statement, key=key) for key in keys] == [True] * len(keys)
    stating.send(OPEN, REQUEST, statement, key=added(two, KeyStatus.ACTIVE))


@pytest.mark.parametrize("ending", ["key", "caller"])
def test_what_was_accepted_is_judged_again_with_its_message(
    stating: Stating, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """A host that was distrusted, and a caller who was removed, send a message that they had held back."""
    log, key, name = stating.leader.control.writer, ServerKey.generate(), f"bo-{ending}"
    entry = CredentialRecord(name, "operator", (), b"h" * 32)
    for change in (
        add_key(key.key_id.hex(), key.public_key, owner=SERVER_OWNER + "two", status=KeyStatus.ACTIVE),
        add_credential(f"add-{name}", name, entry.role, entry.secret_hash),
    ):
        log.submit(change).result().raise_if_rejected()
    statement = stating.statement(OPEN, REQUEST, principal=name, credential=credential_digest(entry))
    judge = stating.leader.control.serving._router._authenticator
    accept, accepted, released = judge.from_statement, threading.Event(), threading.Event()

    def accept_and_say(rpc: Any) -> Any:
        caller = accept(rpc)
        accepted.set()
        return caller

    def message() -> Iterator[bytes]:
        released.wait(30)
        yield REQUEST.SerializeToString()

    monkeypatch.setattr(judge, "from_statement", accept_and_say)
    monkeypatch.setattr(stating.leader.control.serving._router._receiving, "_within_ms", 30_000)
    answer = stating.caller.channel.stream_unary(f"/sessauth.v1.{OPEN}").future(
        message(), metadata=((STATEMENT, statement.signed_by(key).encode()),), timeout=60.0
    )
    assert accepted.wait(30)
    change = set_key_status("distrust", key.key_id, KeyStatus.DISTRUSTED)
    if ending == "caller":
        change = remove_credential(f"remove-{name}", name)
    log.submit(change).result().raise_if_rejected()
    before = log.head().revision

    released.set()

    assert answer.exception().code() is UNAUTHENTICATED
    assert log.head().revision == before


def test_altered_bytes_state_nothing(stating: Stating) -> None:
    """Each byte of what is sent counts; other bytes, and none, are no statement."""
    signed = stating.statement(OPEN, REQUEST).signed_by(stating.key)
    flipped = bytes([signed.signature[0] ^ 1]) + signed.signature[1:]
    forms = [
        replace(signed, signature=flipped).encode(),
        replace(signed, signature=b"").encode(),
        replace(signed, public_key=ServerKey.generate().public_key).encode(),
        replace(signed, payload=b"").encode(),
        signed.encode() + b"\x00",
        b"",
        b"\xff" * 100,
        bytes(5_000),
    ]
    assert [refuses(stating, data) for data in forms] == [True] * len(forms)


def test_nothing_else_identifies_the_caller(
    stating: Stating, pair: tuple[ClusterServer, ClusterServer]
) -> None:
    """A good statement is refused beside an API key, twice, and on a Unix socket."""
    statement = stating.statement(OPEN, REQUEST)
    key = tuple(pair[0].operator.metadata)
    encoded = statement.signed_by(stating.key).encode()
    assert refuses(stating, statement, more=key)
    assert refuses(stating, b"no statement", more=key)
    assert refuses(stating, statement, more=(("sessauth-statement-bin", encoded),))
    assert refuses(stating, statement, caller=pair[0].operator)
    stating.send(OPEN, REQUEST, statement)


def test_a_gateway_that_states_gets_nothing(stating: Stating) -> None:
    """It has no key of a host, whatever it signs with."""
    statement = stating.statement(OPEN, REQUEST)
    for key in (ServerKey.generate(), HostKey.generate()):
        for host in ("server/two", "server/mallory", "mallory"):
            assert refuses(stating, replace(statement, host=host), key=key)


def test_a_statement_goes_no_further(stating: Stating, pair: tuple[ClusterServer, ClusterServer]) -> None:
    """A server that does not lead hands on nothing that another server stated."""
    other = Stating(pair[0], pair[1])
    other.leader = pair[0]
    before = pair[0].control.writer.head().revision
    with pytest.raises(RpcError) as refused:
        other.send(OPEN, REQUEST, other.statement(OPEN, REQUEST))
    other.close()
    assert refused.value.word == "NOT_LEADER"
    assert pair[0].control.writer.head().revision == before


def test_no_credential_leaves_the_host(
    pair: tuple[ClusterServer, ClusterServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server sends the leader the statement in its metadata, and not the caller's key."""
    sent: list[Any] = []
    judge = pair[0].control.serving._router._authenticator
    before = judge.from_statement

    def listen(rpc: Any) -> Any:
        # The other server's own calls may come between.
        sent.append(tuple(rpc.metadata))
        return before(rpc)

    monkeypatch.setattr(judge, "from_statement", listen)
    open_session(pair[1].operator)
    assert sent
    for metadata in sent:
        names = [name for name, _ in metadata]
        assert names.count("sessauth-statement-bin") == 1
        assert "authorization" not in names
        assert pair[1].operator.credential[-43:] not in str(metadata)


def test_a_caller_with_too_many_audiences_is_not_handed_on(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """A statement is bounded. No permit is judged by the server's own rows, which may not have it yet."""
    one, two = pair
    session = open_session(one.operator)
    token = mint(one.operator, session.id).token
    audiences = ("gw", *(f"{number:0200}" for number in range(30)))
    credential = CredentialFile(two.config.credentials_file).add("many", "gateway", audiences)
    caller = Caller(f"unix:{two.config.socket}", credential)
    assert wait_until(lambda: accepted(caller))
    assert wait_until(lambda: two.control.writer.head().revision >= session.revision)
    commit = pb.CommitRequest(permit=bytes(32), item=item(token), audience="gw")
    for rpc, request in (("Release", pb.ReleaseRequest(permit=bytes(32))), ("Commit", commit)):
        with pytest.raises(RpcError) as refused:
            caller.call(f"AuthorizationService/{rpc}", request)
        assert refused.value.word == "NOT_LEADER"
        assert "audiences" in refused.value.message
    caller.close()


def accepted(caller: Caller) -> bool:
    """Return True once a new credential counts."""
    try:
        caller.call("SessionService/ListSessions", sessions.ListSessionsRequest())
    except RpcError:
        return False
    return True
