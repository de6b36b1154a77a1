"""Statements of a follower's host: what its key is good for, also for somebody who took the host over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import grpc
import pytest

from sessauth.crypto.keys import MessageKey
from sessauth.model.change import add_credential, remove_credential
from sessauth.model.host import CallerStatement, HostKey, ItemProof, item_bits, new_statement_id
from sessauth.reasons import Reason
from sessauth.server.cluster.begin import server_key
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.sections import ROLES
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import evidence_service_pb2 as evidence
from sessauth.v1 import forward_service_pb2 as forwards
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import usage_service_pb2 as usage
from tests.support.cluster_hosts import CHECK, ClusterHosts, check_request
from tests.support.service import Caller, RpcError, wait_until
from tests.support.stated import send_statement

ONCE = "read:files/** needs uses(1)"


@pytest.fixture(params=["one", "two"])
def server(request: pytest.FixtureRequest, hosts: ClusterHosts) -> Iterator[Caller]:
    """The leader, and a server that hands on."""
    caller = Caller(getattr(hosts, request.param).config.tcp.address)
    yield caller
    caller.close()


def key_of(hosts: ClusterHosts) -> HostKey:
    """Return the follower's key, as somebody in its process has it."""
    return hosts.follower.part._source.key


def statement(hosts: ClusterHosts, rpc: str, request: Any, **fields: Any) -> CallerStatement:
    """Return the follower's statement of a gateway."""
    part = hosts.one.control.membership
    assert part is not None and part.carried.present is not None
    good = CallerStatement(
        hosts.one.control.writer.head().cluster_id,
        "f",
        part.carried.present.term,
        f"/sessauth.v1.{rpc}",
        blake2b(request.SerializeToString(), digest_size=32).digest(),
        "gw-9",
        "gateway",
        ("gw",),
        hosts.one.control.writer.now_ms(),
        new_statement_id(),
    )
    return replace(good, **fields)


def refusal(caller: Caller, rpc: str, request: Any, stated: CallerStatement, key: MessageKey) -> RpcError:
    """Return the refusal of a statement."""
    with pytest.raises(RpcError) as refused:
        send_statement(caller, rpc, request, stated.signed_by(key).encode())
    return refused.value


def test_it_states_gateways_and_their_proofs(hosts: ClusterHosts, server: Caller) -> None:
    """At the leader, and through another server, which passes it on as it came; each once."""
    token = hosts.bound("read:files/** needs uses(2)")
    request = check_request(token)
    proven = item_bits([ItemProof.PROVEN], ItemProof.PROVEN)
    reasons = []
    for _ in range(3):
        stated = statement(hosts, CHECK, request, proven=proven).signed_by(key_of(hosts)).encode()
        reasons.append(Reason(send_statement(server, CHECK, request, stated).decision.reason))
        with pytest.raises(RpcError) as again:
            send_statement(server, CHECK, request, stated)
        assert again.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert reasons == [Reason.ALLOWED, Reason.ALLOWED, Reason.USES_EXHAUSTED]


def test_a_statement_counts_once_whichever_server_has_it(hosts: ClusterHosts) -> None:
    """Captured on its way through one server, it is used up at the leader too."""
    request = check_request(hosts.bound(ONCE))
    proven = item_bits([ItemProof.PROVEN], ItemProof.PROVEN)
    stated = statement(hosts, CHECK, request, proven=proven).signed_by(key_of(hosts)).encode()
    two, one = (Caller(server.config.tcp.address) for server in (hosts.two, hosts.one))
    assert send_statement(two, CHECK, request, stated).decision.allowed
    with pytest.raises(RpcError):
        send_statement(one, CHECK, request, stated)
    two.close()
    one.close()


def test_items_that_it_does_not_state_are_not_proven(hosts: ClusterHosts, server: Caller) -> None:
    """Each bit is for its item; used before is good for a retry of what was allowed alone."""
    token = hosts.bound("read:files/** needs uses(9)")
    other = item_bits([ItemProof.NOT_JUDGED, ItemProof.PROVEN], ItemProof.PROVEN)
    used = item_bits([ItemProof.REPLAYED], ItemProof.REPLAYED)
    given = []
    for fields, item in (
        ({}, {}),
        ({"proven": other}, {}),
        ({"replayed": used}, {}),
        ({"replayed": used}, {"retry_id": os.urandom(8)}),
    ):
        request = check_request(token, **item)
        stated = statement(hosts, CHECK, request, **fields).signed_by(key_of(hosts)).encode()
        given.append(Reason(send_statement(server, CHECK, request, stated).decision.reason))
    assert given == [Reason.PROOF_REQUIRED] * 3 + [Reason.REPLAYED]


@pytest.mark.parametrize("role", [*(role for role in ROLES if role != "gateway"), "worker", ""])
def test_it_states_nobody_else(hosts: ClusterHosts, server: Caller, role: str) -> None:
    """A host that was taken over makes no session, no token, no key, and ends nothing."""
    request = sessions.OpenSessionRequest(subject="a", ceiling=["read:**"])
    before = hosts.one.control.writer.head().revision
    stated = statement(hosts, "SessionService/OpenSession", request, role=role, audiences=())
    refused = refusal(server, "SessionService/OpenSession", request, stated, key_of(hosts))
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    assert hosts.one.control.writer.head().revision == before


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("EvidenceService/RegisterVerifier", evidence.RegisterVerifierRequest(name="v", instance=bytes(16))),
        ("UsageService/ReportObservations", usage.ReportObservationsRequest(verifier="v")),
        ("SessionService/ListSessions", sessions.ListSessionsRequest()),
        ("ForwardService/Forward", forwards.ForwardRequest(method="Check", principal="gw-1")),
    ],
)
def test_it_states_them_for_judged_calls_alone(
    hosts: ClusterHosts, server: Caller, rpc: str, request_: Any
) -> None:
    """A gateway may do the first three itself; a host that was taken over may do none of it at a server."""
    refused = refusal(server, rpc, request_, statement(hosts, rpc, request_), key_of(hosts))
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "server/two"},
        {"host": "server/f"},
        {"host": "nobody"},
        {"host": "f" * 65},
        {"cluster_id": bytes(16)},
        {"term": 99},
        {"request_digest": bytes(32)},
        {"method": "/sessauth.v1.AuthorizationService/CheckBatch"},
        {"principal": "sessauth/worker"},
        {"issued_at_ms": 1},
    ],
    ids=str,
)
def test_its_fields_count(hosts: ClusterHosts, server: Caller, fields: dict[str, Any]) -> None:
    """A statement with one field of another value is refused, by the leader and on the way."""
    request = check_request(hosts.bound(ONCE))
    refused = refusal(server, CHECK, request, statement(hosts, CHECK, request, **fields), key_of(hosts))
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED


def test_other_keys_state_nothing_for_it(hosts: ClusterHosts, server: Caller) -> None:
    """A key that no registration names, and a server's key for a follower's name."""
    request = check_request(hosts.bound(ONCE))
    stated = statement(hosts, CHECK, request)
    for key in (HostKey.generate(), server_key(hosts.two.config)):
        assert refusal(server, CHECK, request, stated, key).code is grpc.StatusCode.UNAUTHENTICATED


def test_without_its_credential_it_states_nothing(hosts: ClusterHosts) -> None:
    """An operator who removes the credential takes the host's statements away with it, at once."""
    request = check_request(hosts.bound(ONCE))
    name = "f"
    file = CredentialFile(hosts.one.config.credentials_file)
    text = hosts.one.config.credentials_file.read_bytes()
    file.remove(name)
    caller = Caller(hosts.one.config.tcp.address)

    def refused() -> bool:
        stated = statement(hosts, CHECK, request).signed_by(key_of(hosts)).encode()
        try:
            send_statement(caller, CHECK, request, stated)
        except RpcError as error:
            return error.code is grpc.StatusCode.UNAUTHENTICATED
        return False

    assert wait_until(refused)
    hosts.one.config.credentials_file.write_bytes(text)
    caller.close()


def test_a_credential_of_the_same_name_is_another_one(hosts: ClusterHosts, server: Caller) -> None:
    """A host states nobody once its secret was replaced, until it has the new one."""
    request = check_request(hosts.bound(ONCE))
    log = hosts.one.control.writer
    own = CredentialFile(hosts.one.config.credentials_file).current().entries["f"].secret_hash

    def states() -> bool:
        proven = item_bits([ItemProof.PROVEN], ItemProof.PROVEN)
        stated = statement(hosts, CHECK, request, proven=proven).signed_by(key_of(hosts)).encode()
        try:
            send_statement(server, CHECK, request, stated)
        except RpcError as error:
            return error.code is not grpc.StatusCode.UNAUTHENTICATED
        return True

    for number, (secret_hash, accepted) in enumerate(((b"h" * 32, False), (own, True))):
        change = add_credential(f"add-f-{number}-{server.target}", "f", "follower", secret_hash)
        revision = log.submit(change).result().raise_if_rejected().revision
        assert wait_until(lambda at=revision: hosts.two.control.writer.head().revision >= at)  # type: ignore[misc]
        if accepted:
            assert wait_until(states)
        else:
            assert not states()
        change = remove_credential(f"remove-f-{number}-{server.target}", "f")
        log.submit(change).result().raise_if_rejected()
    # The host's file counts again.
    assert wait_until(states)
    assert wait_until(lambda: not hosts.follower.control.writer.stale)


def test_a_gateway_of_its_is_nobody_elsewhere(hosts: ClusterHosts, server: Caller) -> None:
    """The API key that the follower knows is no key of a server; the follower never sends it."""
    credential = hosts.doors["follower"].caller.credential
    metadata = (("authorization", f"Bearer {credential}"),)
    with pytest.raises(RpcError) as refused:
        server.call(CHECK, pb.CheckRequest(), metadata=metadata)
    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
