"""A follower's own sockets: what it answers by its folder, and what it hands on to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from sessauth._fast._check import x25519_public
from sessauth.clock import SystemClock
from sessauth.crypto.keys import VerifierKey
from sessauth.reasons import Reason
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import evidence_service_pb2 as evidence
from sessauth.v1 import feed_service_pb2 as feed
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import receipt_pb2
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.follower_host import FollowerHost, follower_host
from tests.support.service import Caller, RpcError, home_folder, wait_until
from tests.support.watching import end, item, mint, open_session, stream


@dataclass
class Hosts:
    """Two servers, of which the first one leads, and a follower of the second one."""

    one: ClusterServer
    two: ClusterServer
    follower: FollowerHost
    engine: OneEngine


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Servers over an engine in memory, and their follower."""
    engine = OneEngine()
    with pytest.MonkeyPatch.context() as patched, home_folder() as home:
        for module in ("membership", "begin"):
            patched.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
        with (
            two_servers(home, ["127.0.0.1:1"]) as (one, two),
            follower_host(home / "f", (two, one)) as follower,
        ):
            yield Hosts(one, two, follower, engine)


def checked(caller: Caller, token: str) -> Reason:
    """Return the reason of a check."""
    request = pb.CheckRequest(item=item(token), audience="gw")
    return Reason(caller.call("AuthorizationService/Check", request).decision.reason)


def session_with(hosts: Hosts, scope: str = "read:files/**") -> tuple[bytes, str]:
    """Open a session at the leader, and wait until the follower has it; return its id and a token."""
    session = open_session(hosts.one.operator)
    token = mint(hosts.one.operator, session.id, scope).token
    log = hosts.follower.control.writer
    assert wait_until(lambda: log.head().revision >= session.revision)
    return session.id, token


def test_checks_and_reads_are_answered_by_the_followers_folder(hosts: Hosts) -> None:
    """A server answers them alike; an end at the leader counts there."""
    operator = hosts.follower.operator
    session_id, token = session_with(hosts)
    listed = operator.call("SessionService/ListSessions", sessions.ListSessionsRequest())
    assert session_id in {each.id for each in listed.sessions}
    assert checked(hosts.follower.gateway(), token) is Reason.ALLOWED
    end(hosts.one.operator, session_id)
    assert wait_until(lambda: checked(operator, token) is Reason.SESSION_ENDED)


def test_streams_and_lists_are_answered_there_too(hosts: Hosts) -> None:
    """A watched call is withdrawn when the end reaches the host."""
    session_id, token = session_with(hosts)
    gateway = hosts.follower.gateway("gateway-3")
    candidates = [pb.Candidate(action=b"read", resource=name) for name in (b"files/a", b"other/b")]
    request = pb.ListAllowedRequest(token=item(token).token, audience="gw", candidates=candidates)
    listed = gateway.call("AuthorizationService/ListAllowed", request)
    assert list(listed.verdicts) == [pb.VERDICT_YES, pb.VERDICT_NO]
    with stream(gateway) as opened:
        opened.allow(1, item(token))
        end(hosts.one.operator, session_id)
        assert opened.withdrawn() == (1, Reason.SESSION_ENDED)


@pytest.mark.parametrize(
    ("rpc", "request_of"),
    [
        (
            "SessionService/OpenSession",
            lambda _: sessions.OpenSessionRequest(request_id="o", subject="a", ceiling=["read:**"]),
        ),
        (
            "SessionService/EndSession",
            lambda session_id: sessions.EndSessionRequest(request_id="e", session_id=session_id),
        ),
        (
            "TokenService/Mint",
            lambda session_id: tokens.MintRequest(
                session_id=session_id, scopes=["read:files/**"], audience=["gw"]
            ),
        ),
        ("KeyService/AddKey", lambda _: keys.AddKeyRequest(request_id="k")),
        ("FeedService/RemoveHost", lambda _: feed.RemoveHostRequest(host="f")),
    ],
)
def test_an_operator_is_told_to_ask_a_server(
    hosts: Hosts, rpc: str, request_of: Callable[[bytes], object]
) -> None:
    """A follower's host can make no change, and sign nothing, whoever asks."""
    session_id, _ = session_with(hosts)
    with pytest.raises(RpcError) as refused:
        hosts.follower.operator.call(rpc, request_of(session_id))
    assert refused.value.word == "NOT_LEADER"
    assert hosts.two.config.tcp.address in refused.value.message
    assert not hosts.follower.config.keys_dir.exists()


def test_receipts_name_the_follower_and_are_the_servers(hosts: Hosts) -> None:
    """Made by the leader; closed once the follower's host has the end."""
    session_id, _ = session_with(hosts)
    end(hosts.one.operator, session_id)
    request = evidence.GetReceiptRequest(session_id=session_id)

    def is_closed() -> bool:
        signed = hosts.one.operator.call("EvidenceService/GetReceipt", request).receipt
        receipt = receipt_pb2.Receipt.FromString(signed.payload)
        assert {host.name for host in receipt.hosts} >= {"f"}
        return receipt.state == receipt_pb2.RECEIPT_STATE_CLOSED

    assert wait_until(is_closed)
    assert wait_until(lambda: hosts.follower.control.writer.receipt(session_id) is not None)
    with pytest.raises(RpcError) as refused:
        hosts.follower.operator.call("EvidenceService/GetReceipt", request)
    assert refused.value.word == "NOT_LEADER"


def test_a_follower_feeds_nobody(hosts: Hosts) -> None:
    """It says who does."""
    caller = hosts.follower.caller(hosts.follower.config.path("host.credential").read_text())
    with pytest.raises(RpcError) as refused:
        caller.call(
            "FeedService/Barrier", feed.BarrierRequest(host="g", instance=bytes(16), staleness_ms=3_000)
        )
    assert refused.value.word == "NOT_IN_CLUSTER"


def test_its_proof_keys_need_a_servers_signature(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed ones are told again without a server; a key that no server signs is not told."""
    operator, rotator = hosts.follower.operator, hosts.follower.control.host_keys
    listed = operator.call("KeyService/ListVerifierKeys", keys.ListVerifierKeysRequest()).keys
    assert len(listed) == 1
    monkeypatch.setattr(hosts.two.control.keyring, "newest_active", lambda *_: None)
    again = operator.call("KeyService/ListVerifierKeys", keys.ListVerifierKeysRequest()).keys
    assert list(again) == list(listed)
    rotator._signed.clear()
    with pytest.raises(RpcError) as refused:
        operator.call("KeyService/ListVerifierKeys", keys.ListVerifierKeysRequest())
    assert refused.value.word == "NO_ISSUER_KEY"


def test_only_followers_have_keys_signed(hosts: Hosts) -> None:
    """And only for this cluster."""
    head, now = hosts.two.control.writer.head(), SystemClock().now_ms()
    key = VerifierKey(b"v" * 16, x25519_public(b"s" * 32), now, now + 60_000, head.cluster_id)
    caller = Caller(hosts.two.config.tcp.address, hosts.follower.config.path("host.credential").read_text())
    request = keys.SignVerifierKeyRequest(payload=key.encode())
    signed = caller.call("KeyService/SignVerifierKey", request).key
    assert signed.payload == key.encode()
    foreign = keys.SignVerifierKeyRequest(payload=replace(key, cluster_id=b"c" * 16).encode())
    for asked, wanted, word in (
        (caller, foreign, "INVALID_ARGUMENT"),
        (hosts.two.operator, request, "PERMISSION_DENIED"),
        (hosts.follower.caller(caller.credential), request, "NOT_LEADER"),
    ):
        with pytest.raises(RpcError) as refused:
            asked.call("KeyService/SignVerifierKey", wanted)
        assert refused.value.word == word
    caller.close()
