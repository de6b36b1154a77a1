"""Two servers, one log: what one writes the other denies by, and either can take over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from sessauth.clock import SystemClock
from sessauth.crypto.keys import KeyStatus
from sessauth.model.change import add_key, set_key_status
from sessauth.model.host import SERVER_OWNER, ServerKey
from sessauth.reasons import Reason
from sessauth.server.cluster.begin import server_key
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import record_pb2 as record
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.authority import NEEDS_OPENSSL, Authority
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, settings, two_servers
from tests.support.memory_carrier import MemoryCarrier, MemoryEngine
from tests.support.service import Caller, RpcError, wait_until
from tests.support.watching import end, item, mint, open_session

ENGINE = ["127.0.0.1:1"]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Two servers over an engine in memory; the first one leads."""
    engine = OneEngine()
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    with two_servers(tmp_path, ENGINE) as servers:
        yield servers


def test_a_name_has_one_server_key(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """A further key of a name is refused, and changes nothing, while one that may sign has it."""
    one, two = pair
    log, key = one.control.writer, server_key(two.config)

    def admit(name: str, server: bytes, request_id: str) -> str:
        request = keys.AdmitServerRequest(
            request_id=request_id, name=name, server_key=server, issuer_key=ServerKey.generate().public_key
        )
        before = log.head().revision
        try:
            one.operator.call("KeyService/AdmitServer", request)
        except RpcError as error:
            assert log.head().revision == before
            return error.word
        return ""

    copy, prepared = ServerKey.generate(), ServerKey.generate()
    assert admit("two", copy.public_key, "copy") == "NAME_TAKEN"
    log.submit(set_key_status("retire", key.key_id, KeyStatus.RETIRED)).result().raise_if_rejected()
    change = add_key("prepared", prepared.public_key, owner=SERVER_OWNER + "two")
    log.submit(change).result().raise_if_rejected()
    assert admit("two", copy.public_key, "copy-2") == "NAME_TAKEN"
    change = set_key_status("distrust", prepared.key_id, KeyStatus.DISTRUSTED)
    log.submit(change).result().raise_if_rejected()
    assert admit("two", copy.public_key, "copy-3") == ""
    assert admit("three", ServerKey.generate().public_key, "three") == ""


def test_the_same_admission_may_come_twice(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """The answer to the first one was lost: the second one is no other key."""
    request = keys.AdmitServerRequest(
        request_id="three",
        name="three",
        server_key=ServerKey.generate().public_key,
        issuer_key=ServerKey.generate().public_key,
    )
    first, second = (pair[0].operator.call("KeyService/AdmitServer", request) for _ in range(2))
    assert first == second


def test_of_two_copies_of_a_server_the_later_one_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former denies as stale, says why and gives the lead back; started again it is the later one."""
    engine = MemoryEngine(SystemClock())
    for module in ("membership", "begin"):
        monkeypatch.setattr(
            f"sessauth.server.cluster.{module}.open_carrier",
            lambda config, _: MemoryCarrier(engine, config.cluster.name),
        )
    with two_servers(tmp_path, ENGINE) as (one, two), ExitStack() as opened:
        token = mint(one.operator, open_session(one.operator).id).token
        two.stop()
        credential = (tmp_path / "one" / "operator.credential").read_text().strip()
        shutil.copytree(tmp_path / "two", tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
        former = ClusterServer(two.config, credential)
        opened.callback(former.stop)
        assert wait_until(lambda: former.reason(token) is Reason.ALLOWED)
        one.stop()
        assert wait_until(lambda: former.leads)

        copy = ClusterServer(settings(tmp_path / "copy", "two", ENGINE), credential)
        opened.callback(copy.stop)

        assert wait_until(lambda: copy.leads and not former.leads)
        assert wait_until(lambda: former.reason(token) is Reason.STALE_STATE)
        assert copy.reason(token) is Reason.ALLOWED
        former.stop()
        again = ClusterServer(two.config, credential)
        opened.callback(again.stop)
        assert wait_until(lambda: again.reason(token) is Reason.ALLOWED)
        assert wait_until(lambda: copy.reason(token) is Reason.STALE_STATE)


def test_an_end_counts_on_both_hosts_once_it_is_answered(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Whichever server was asked: both deny the token at once."""
    one, two = pair
    for asked in pair:
        session = open_session(asked.operator)
        token = mint(asked.operator, session.id).token
        assert one.reason(token) is Reason.ALLOWED
        # Where the leader was asked the other server may not have the record yet.
        assert wait_until(lambda checked=token: two.reason(checked) is Reason.ALLOWED)
        end(asked.operator, session.id)
        assert asked.reason(token) is Reason.SESSION_ENDED
        assert wait_until(lambda checked=token: two.reason(checked) is Reason.SESSION_ENDED)
        assert one.reason(token) is Reason.SESSION_ENDED


def status_of(server: ClusterServer, session_id: bytes) -> int:
    """Return a session's status as a server's own folder has it."""
    request = sessions.GetSessionRequest(session_id=session_id)
    return int(server.operator.call("SessionService/GetSession", request).session.status)


def test_uses_are_counted_once_for_all_hosts(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """A call that costs something is decided by the leader, whichever server is asked."""
    one, two = pair
    session = open_session(one.operator)
    token = mint(one.operator, session.id, "read:files/** needs uses(3)").token
    assert wait_until(lambda: two.control.writer.head().revision >= session.revision)
    given = [server.reason(token) for server in (two, one, two, one, two)]
    assert given == [Reason.ALLOWED] * 3 + [Reason.USES_EXHAUSTED] * 2


def test_a_batch_with_costs_is_decided_by_the_leader(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Each of its items, and each by its own needs."""
    two = pair[1]
    session = open_session(two.operator)
    costly = mint(two.operator, session.id, "read:files/** needs uses(1)").token
    free = mint(two.operator, session.id).token
    items = [item(token) for token in (free, costly, costly, free)]
    request = pb.CheckBatchRequest(items=items, audience="gw")
    answer = two.operator.call("AuthorizationService/CheckBatch", request)
    reasons = [Reason(decision.reason) for decision in answer.decisions]
    assert reasons == [Reason.ALLOWED, Reason.ALLOWED, Reason.USES_EXHAUSTED, Reason.ALLOWED]


def test_a_host_that_lags_does_not_say_that_it_is_done(
    pair: tuple[ClusterServer, ClusterServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader made the change, and this host's own checks don't see it: whoever asked asks again."""
    one, two = pair
    session = open_session(two.operator)
    membership = two.control.membership
    assert membership is not None and membership._follower is not None
    monkeypatch.setattr(membership._follower, "wait_for", lambda number, timeout_ms: False)
    with pytest.raises(RpcError) as refused:
        end(two.operator, session.id)
    assert refused.value.word == "OUTCOME_UNKNOWN"
    assert status_of(one, session.id) == record.SESSION_STATUS_ENDED


@NEEDS_OPENSSL
def test_a_caller_with_a_certificate_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader knows neither the certificate nor a key of that caller: the other server states it."""
    engine = OneEngine()
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.sign("server", "IP:127.0.0.1")
    ca = str(authority.certificate)
    tls = {"certificate": str(certificate), "private_key": str(key), "server_ca": ca}
    identity = {"name": "bo", "role": "issuer", "uri": "spiffe://t/bo"}
    checked = {"tls": {**tls, "client_ca": ca}, "identities": [identity]}
    with two_servers(tmp_path, ENGINE, {"tls": tls}, checked) as (one, two):
        pem, secret = authority.sign("bo", "URI:spiffe://t/bo")
        credentials = grpc.ssl_channel_credentials(
            authority.certificate.read_bytes(), secret.read_bytes(), pem.read_bytes()
        )
        caller = Caller(two.config.tcp.address, channel_credentials=credentials)
        session = open_session(caller, ("read:files/**",))
        caller.close()
        stored = one.control.writer.get_session(session.id)
    assert stored is not None and stored.owner == "bo"
