from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from sessauth.errors import ConfigError
from sessauth.server.keys.credentials import RELOAD_SECONDS, SECRET_CHARS, CredentialFile
from sessauth.server.rpc import access
from sessauth.server.rpc.access import ANYONE, RULES, require_rules
from sessauth.v1 import event_service_pb2 as events
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.service import RPCS, SHORT, Caller, RpcError, Service, running, wait_until

ROLES = ("operator", "issuer", "gateway", "auditor", "approver", "follower", "security-events")
REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

# Written by hand, not read from the table: what each role may call.
READS = {"SessionService/GetSession", "SessionService/ListSessions", "TokenService/Inspect"}
READS |= {"KeyService/ListKeys", "KeyService/GetJwks", "Health/Check", "Health/Watch", "Health/List"}
PUBLIC = {"Health/Check", "KeyService/ListVerifierKeys"}
READS |= {"TokenService/GetTransactionKeys"}
CHECKS = {"TokenService/Exchange"} | {
    f"AuthorizationService/{name}"
    for name in ("Check", "CheckBatch", "CheckStream", "Commit", "Release", "ListAllowed")
}
OPENS = {
    f"SessionService/{name}"
    for name in (
        "OpenSession",
        "KeepAlive",
        "NarrowSession",
        "UpdateFacts",
        "SuspendSession",
        "ResumeSession",
        "EndSession",
    )
} | {"CutOffService/EndSessions"}
MINTS = {"TokenService/Mint", "TokenService/Attenuate", "TokenService/Revoke"}
KEYS = {f"KeyService/{name}" for name in ("AddKey", "ActivateKey", "RetireKey", "DistrustKey", "AdmitServer")}
EVENTS = {"EventService/WatchSessions"}
TELLS = {"UsageService/ReportObservations"}
REPORTS = {"UsageService/GetReport"}
USES = REPORTS | {"UsageService/GetCensus"}
WAITS = {"ApprovalService/ListApprovals", "ApprovalService/GetApproval"}
ANSWERS = {"ApprovalService/GrantApproval", "ApprovalService/DenyApproval"}
REGISTERS = {"EvidenceService/RegisterVerifier"}
PROVES = {"EvidenceService/GetReceipt"}
VERIFIERS = {"EvidenceService/ListVerifiers"}
FEEDS = {f"FeedService/{name}" for name in ("Follow", "Barrier", "Snapshot", "RegisterHost")}
FEEDS |= {"UsageService/ReportHostUsage"}
HOSTS = {"FeedService/RemoveHost"}
CUTS = {f"CutOffService/{name}" for name in ("Freeze", "Thaw", "LiftBan")} | {"IdentityService/CutLogins"}
SIGNALS = {"IdentityService/ReportSignal", "IdentityService/AskStream"}
FROZEN = {"CutOffService/ListBans", "CutOffService/GetFreeze"}
STANDING = {"ClusterService/GetStanding", "StatusService/GetStatus", "IdentityService/GetIdentityStatus"}
CALLERS = {f"CredentialService/{name}Credential" for name in ("Add", "Remove")}
CALLERS |= {"CredentialService/ListCredentials"}
ACTIVITY = {"UsageService/ListActivity"}
EVIDENCE = REGISTERS | PROVES | VERIFIERS
MAY = {
    "operator": PUBLIC
    | READS
    | CHECKS
    | OPENS
    | MINTS
    | KEYS
    | WAITS
    | ANSWERS
    | USES
    | ACTIVITY
    | EVENTS
    | EVIDENCE
    | HOSTS
    | STANDING
    | CUTS
    | SIGNALS
    | FROZEN
    | CALLERS,
    "issuer": PUBLIC | READS | OPENS | MINTS | REPORTS | ACTIVITY | EVENTS | PROVES,
    "gateway": PUBLIC | READS | CHECKS | WAITS | TELLS | EVENTS | REGISTERS,
    "auditor": PUBLIC | READS | WAITS | USES | ACTIVITY | EVENTS | PROVES | VERIFIERS | STANDING | FROZEN,
    "approver": PUBLIC | WAITS | ANSWERS | {"SessionService/GetSession"},
    "security-events": PUBLIC | SIGNALS,
    "follower": PUBLIC | FEEDS | {"KeyService/SignVerifierKey"},
    "": PUBLIC,
}


@pytest.fixture(scope="module")
def callers() -> Iterator[dict[str, Caller]]:
    """A caller for each role, one without a credential, one with a wrong one."""
    with running() as service:
        found = {role: service.add(f"a-{role}", role, ("gw",)) for role in ROLES}
        yield {**found, "": service.caller(), "wrong": service.caller(_wrong(service))}


@pytest.fixture
def service_of_its_own() -> Iterator[Service]:
    """A server whose credentials a test may change."""
    with running() as service:
        yield service


def _wrong(service: Service) -> str:
    right = service.made.credential_file.read_text().strip()
    return right[:-2] + ("A" if right[-2] != "A" else "B") + right[-1]


def _refusal(caller: Caller, rpc: str) -> grpc.StatusCode | None:
    """Call ``rpc`` with an empty message; return its refusal for who calls, or None if it got further."""
    method = RPCS[rpc]
    request = message_factory.GetMessageClass(method.input_type)()
    short = rpc.rpartition(".")[2]
    try:
        if method.server_streaming:
            # An empty message ends a check stream (it has no item) and answers a watch once.
            next(caller.stream(short, iter([request]), timeout=5.0), None)
        else:
            caller.call(short, request)
    except RpcError as error:
        return error.code if error.code in REFUSALS else None
    return None


@pytest.mark.parametrize("rpc", sorted(RPCS))
@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_what_it_may_and_nothing_else(
    callers: dict[str, Caller], role: str, rpc: str
) -> None:
    """A role is refused PERMISSION_DENIED exactly where the design doesn't list it."""
    expected = None if rpc.rpartition(".")[2] in MAY[role] else grpc.StatusCode.PERMISSION_DENIED

    assert _refusal(callers[role], rpc) == expected


@pytest.mark.parametrize("rpc", sorted(RPCS))
@pytest.mark.parametrize("who", ["", "wrong"])
def test_strangers_reach_nothing_but_what_is_public(callers: dict[str, Caller], who: str, rpc: str) -> None:
    """Without a credential, or with a wrong one, only the health and the host's public keys are told."""
    expected = None if rpc.rpartition(".")[2] in MAY[""] else grpc.StatusCode.UNAUTHENTICATED

    assert _refusal(callers[who], rpc) == expected


def test_refusals_say_nothing_about_what_exists(callers: dict[str, Caller]) -> None:
    """No credential, an unknown name and a wrong secret are told the same."""
    unknown = Caller(callers[""].target, "sessauth_key_nobody_" + "A" * 43)
    messages = set()
    for caller in (callers[""], callers["wrong"], unknown):
        with pytest.raises(RpcError) as refused:
            caller.call("SessionService/GetSession", sessions.GetSessionRequest(session_id=bytes(16)))
        messages.add((refused.value.code, refused.value.word, refused.value.message))
    unknown.close()

    assert len(messages) == 1


def test_two_authorization_entries_are_refused(callers: dict[str, Caller]) -> None:
    """A call with two credentials is UNAUTHENTICATED, even if both are right."""
    with pytest.raises(RpcError) as refused:
        callers["operator"].call(
            "KeyService/ListKeys", keys.ListKeysRequest(), metadata=callers["operator"].metadata * 2
        )

    assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_the_table_lists_every_rpc_that_is_served() -> None:
    """The table and the services name the same RPCs; one without a rule stops the server."""
    assert set(RULES) == set(RPCS)
    with pytest.raises(ConfigError, match="NewService/NewCall"):
        require_rules([*RULES, "/sessauth.v1.NewService/NewCall"])


def test_taking_authority_away_has_the_reserved_pool() -> None:
    """Ends, cuts, Freeze, Revoke, Suspend, Distrust and RemoveCredential share no pool with anything else."""
    reserved = {name.rpartition("/")[2] for name, rule in RULES.items() if rule.pool == access.pools.RESERVED}

    ends = {"EndSession", "Revoke", "SuspendSession", "DistrustKey"}
    assert reserved == {*ends, "EndSessions", "Freeze", "RemoveCredential", "CutLogins", "ReportSignal"}
    anyone = {name.rpartition(".")[2] for name, rule in RULES.items() if ANYONE in rule.roles}
    assert anyone == PUBLIC


def test_a_credential_that_was_used_is_forgotten_when_its_entry_changes(service_of_its_own: Service) -> None:
    """Removed, or given another role: each method that knew the caller follows within the reload time."""
    service = service_of_its_own
    caller = service.add("changing", "issuer", ("gw",))
    request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
    for _ in range(3):
        assert caller.call("SessionService/OpenSession", request).session.owner == "changing"
        caller.call("KeyService/ListKeys", keys.ListKeysRequest())
    path = service.made.state_dir / "credentials.toml"
    path.write_text(path.read_text().replace('role = "issuer"', 'role = "auditor"'))
    time.sleep(2 * RELOAD_SECONDS)

    with pytest.raises(RpcError) as refused:
        caller.call("SessionService/OpenSession", request)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    caller.call("KeyService/ListKeys", keys.ListKeysRequest())

    assert CredentialFile(path).remove("changing")
    time.sleep(2 * RELOAD_SECONDS)
    for rpc, message in (
        ("KeyService/ListKeys", keys.ListKeysRequest()),
        ("SessionService/OpenSession", request),
    ):
        with pytest.raises(RpcError) as refused:
            caller.call(rpc, message)
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_who_called_is_known_by_a_digest_alone(service_of_its_own: Service) -> None:
    """Nothing that the router keeps is the credential, or contains its secret."""
    service = service_of_its_own
    caller = service.add("known", "auditor")
    for _ in range(3):
        caller.call("KeyService/ListKeys", keys.ListKeysRequest())
    assert service.control is not None

    routes = service.control.serving._router._routes
    known = routes["/sessauth.v1.KeyService/ListKeys"].plans_by_credential

    secret = caller.credential[-SECRET_CHARS:].encode()
    assert [len(digest) for digest in known] == [32]
    assert not any(secret in digest or digest in caller.credential.encode() for digest in known)


def test_a_credential_has_one_text_on_the_wire(service_of_its_own: Service) -> None:
    """One space stands between ``Bearer`` and the key, nothing around it; the cache has one plan for it."""
    service = service_of_its_own
    caller = service.add("spaced", "auditor")
    for word in ("Bearer", "bearer", "BEARER"):
        metadata = [("authorization", f"{word} {caller.credential}")]
        caller.call("KeyService/ListKeys", keys.ListKeysRequest(), metadata=metadata)
    for text in (f" {caller.credential}", f"   {caller.credential}", f"{caller.credential} ", "", " "):
        with pytest.raises(RpcError) as refused:
            caller.call(
                "KeyService/ListKeys", keys.ListKeysRequest(), metadata=[("authorization", f"Bearer {text}")]
            )
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert service.control is not None

    routes = service.control.serving._router._routes
    assert len(routes["/sessauth.v1.KeyService/ListKeys"].plans_by_credential) == 1


def test_a_second_credential_is_refused_though_the_first_is_known(service_of_its_own: Service) -> None:
    """A caller that is known and sends another ``authorization`` entry as well is UNAUTHENTICATED."""
    caller = service_of_its_own.operator
    for _ in range(3):
        caller.call("KeyService/ListKeys", keys.ListKeysRequest())
    for other in (caller.metadata[0], ("authorization", "Bearer x")):
        with pytest.raises(RpcError) as refused:
            caller.call("KeyService/ListKeys", keys.ListKeysRequest(), metadata=(*caller.metadata, other))
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
    caller.call("KeyService/ListKeys", keys.ListKeysRequest())


@pytest.mark.parametrize("known", [False, True])
def test_who_is_removed_while_a_message_comes_is_refused(service_of_its_own: Service, known: bool) -> None:
    """A call whose headers came before is judged again, a stream's first message too; others go on."""
    service, name = service_of_its_own, f"removed-{known}"
    caller, other = service.add(name, "gateway"), service.add(f"other-{known}", "gateway")
    if known:
        caller.call("KeyService/ListKeys", keys.ListKeysRequest())
    removed = threading.Event()

    def late(request: Any) -> Iterator[bytes]:
        removed.wait(30)
        yield request.SerializeToString()

    def begin(who: Caller, rpc: str, request: Any) -> Any:
        method = who.channel.stream_stream(SHORT[rpc])
        return method(late(request), timeout=30, metadata=who.metadata)

    assert service.control is not None
    receiving = service.control.serving._server._receiving
    calls = [
        begin(who, rpc, request)
        for who in (caller, other)
        for rpc, request in (
            ("KeyService/ListKeys", keys.ListKeysRequest()),
            ("EventService/WatchSessions", events.WatchSessionsRequest(from_now=True)),
        )
    ]
    assert wait_until(lambda: receiving.waiting == len(calls))
    assert CredentialFile(service.made.state_dir / "credentials.toml").remove(name)
    time.sleep(2 * RELOAD_SECONDS)
    removed.set()

    for call in calls[:2]:
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert all(next(call) for call in calls[2:])
    for call in calls:
        call.cancel()
