"""Callers of a cluster: added and removed at any server, known at each, and what a host's own file adds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessauth.errors import ConfigError
from sessauth.model.change import Change, ChangeKind
from sessauth.model.host import credential_digest
from sessauth.reasons import Reason
from sessauth.server.cluster import begin as beginning
from sessauth.server.cluster.begin import carried_credentials, leave
from sessauth.server.keys.credentials import CredentialFile, new_credential
from sessauth.server.process.init import initialise
from sessauth.state import layout
from sessauth.state.replication.snapshot import install
from sessauth.state.writer.state_writer import StateWriter
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import credential_service_pb2 as pb
from sessauth.v1 import event_service_pb2 as events
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, settings, two_servers
from tests.support.service import Caller, RpcError, home_folder, wait_until
from tests.support.stated import UNAUTHENTICATED, Stating
from tests.support.watching import item, mint, open_session

LIST = "SessionService/ListSessions"


@dataclass
class Pair:
    """Two servers; the first one leads."""

    one: ClusterServer
    two: ClusterServer
    engine: OneEngine

    def add(self, server: ClusterServer, name: str, role: str, audiences: tuple[str, ...] = ()) -> str:
        """Add a caller at a server; return its credential once both servers know it."""
        text, secret_hash = new_credential(name)
        request = pb.AddCredentialRequest(name=name, role=role, audiences=audiences, secret_hash=secret_hash)
        server.operator.call("CredentialService/AddCredential", request)
        assert accepts(server, text)
        for other in (self.one, self.two):
            assert wait_until(lambda at=other: accepts(at, text))  # type: ignore[misc]
        return text


def accepts(server: ClusterServer, credential: str) -> bool:
    """Return True if a server knows the caller: one who may not list gets that far."""
    caller = Caller(f"unix:{server.config.socket}", credential)
    try:
        caller.call(LIST, sessions.ListSessionsRequest())
    except RpcError as refused:
        return refused.code is not UNAUTHENTICATED
    finally:
        caller.close()
    return True


def remove(server: ClusterServer, name: str) -> None:
    """Remove a caller at a server."""
    server.operator.call("CredentialService/RemoveCredential", pb.RemoveCredentialRequest(name=name))


def listed(server: ClusterServer) -> dict[str, pb.Credential]:
    """Return what a server lists, by name."""
    answer = server.operator.call("CredentialService/ListCredentials", pb.ListCredentialsRequest())
    return {each.name: each for each in answer.credentials}


def refusal(server: ClusterServer, rpc: str, request: object) -> str:
    """Return the word that a call is refused with."""
    with pytest.raises(RpcError) as refused:
        server.operator.call(f"CredentialService/{rpc}", request)
    return refused.value.word


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers over an engine in memory."""
    engine = OneEngine()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("membership", "begin"):
            patch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
        with two_servers(tmp_path_factory.mktemp("pair"), ["127.0.0.1:1"]) as (one, two):
            yield Pair(one, two, engine)


def test_a_caller_is_known_and_refused_on_each_host(pair: Pair) -> None:
    """Whichever server was asked, and by an operator that init made at the first one."""
    for asked in (pair.one, pair.two):
        text = pair.add(asked, "ann", "auditor")
        shown = listed(asked)["ann"]
        assert (shown.role, shown.added_by, shown.local) == ("auditor", "operator", False)
        assert shown.added_at_ms
        remove(asked, "ann")
        assert not accepts(asked, text) and not accepts(pair.one, text)
        assert wait_until(lambda credential=text: not accepts(pair.two, credential))  # type: ignore[misc]
        assert "ann" not in listed(asked)


def test_a_check_that_was_answered_on_the_loop_is_refused(pair: Pair) -> None:
    """The connection is the one on which the caller was accepted a moment ago, without a thread."""
    caller = Caller(f"unix:{pair.two.config.socket}", pair.add(pair.one, "gw-1", "gateway", ("gw",)))
    token = mint(pair.two.operator, open_session(pair.two.operator).id).token
    request = checks.CheckRequest(item=item(token), audience="gw")

    def reason() -> Reason:
        return Reason(caller.call("AuthorizationService/Check", request).decision.reason)

    def direct_calls() -> int:
        return int(pair.two.control.serving.loop.answered)

    assert wait_until(lambda: reason() is Reason.ALLOWED)
    before = direct_calls()
    assert [reason() for _ in range(5)] == [Reason.ALLOWED] * 5 and direct_calls() > before
    # A commit that changes no caller forgets none.
    revision = open_session(pair.two.operator).revision
    assert wait_until(lambda: pair.two.control.writer.head().revision >= revision)
    before = direct_calls()
    assert [reason() for _ in range(5)] == [Reason.ALLOWED] * 5 and direct_calls() == before + 5

    remove(pair.two, "gw-1")

    with pytest.raises(RpcError) as refused:
        reason()
    assert refused.value.code is UNAUTHENTICATED
    caller.close()


def test_a_stream_ends_with_its_caller(pair: Pair) -> None:
    """Events at the server that was not asked to remove it."""
    caller = Caller(f"unix:{pair.two.config.socket}", pair.add(pair.one, "watcher", "auditor"))
    stream = caller.stream("EventService/WatchSessions", iter([events.WatchSessionsRequest()]), timeout=30.0)
    open_session(pair.two.operator)
    next(stream)
    remove(pair.one, "watcher")
    with pytest.raises(RpcError) as ended:
        list(stream)
    assert ended.value.code is UNAUTHENTICATED
    caller.close()


def test_what_a_cluster_refuses(pair: Pair) -> None:
    """Each by its own word, at either server, and nothing is written."""
    before = pair.one.control.writer.head().revision
    good = {"name": "bo", "role": "gateway", "secret_hash": b"h" * 32}
    for server in (pair.one, pair.two):
        for fields, word in (
            ({"name": "operator"}, "ALREADY_EXISTS"),
            ({"name": "a b"}, "INVALID_ARGUMENT"),
            ({"role": "worker"}, "INVALID_ARGUMENT"),
            ({"role": ""}, "INVALID_ARGUMENT"),
            ({"secret_hash": b"h"}, "INVALID_ARGUMENT"),
            ({"audiences": ["a"] * 65}, "INVALID_ARGUMENT"),
            ({"request_id": "sessauth/x"}, "INVALID_ARGUMENT"),
        ):
            request = pb.AddCredentialRequest(**{**good, **fields})  # type: ignore[arg-type]
            assert refusal(server, "AddCredential", request) == word
        assert refusal(server, "RemoveCredential", pb.RemoveCredentialRequest(name="none")) == "NOT_FOUND"
        last = pb.RemoveCredentialRequest(name="operator")
        assert refusal(server, "RemoveCredential", last) == "LAST_OPERATOR"
    assert pair.one.control.writer.head().revision == before


def test_a_host_has_callers_of_its_own(pair: Pair) -> None:
    """Its file counts on it alone; what such a caller changes is handed on, and its name is taken there."""
    text = CredentialFile(pair.two.config.credentials_file).add("local", "operator")
    assert wait_until(lambda: accepts(pair.two, text))
    assert not accepts(pair.one, text)
    assert listed(pair.two)["local"].local and "local" not in listed(pair.one)
    caller = Caller(f"unix:{pair.two.config.socket}", text)
    assert open_session(caller).id
    caller.close()
    request = pb.AddCredentialRequest(name="local", role="auditor", secret_hash=b"h" * 32)
    assert refusal(pair.two, "AddCredential", request) == "ALREADY_EXISTS"

    carried = pair.add(pair.one, "local", "auditor")

    assert not accepts(pair.two, text) and accepts(pair.two, carried)
    remove(pair.one, "local")
    CredentialFile(pair.two.config.credentials_file).remove("local")


def test_a_host_that_lags_makes_no_change_for_a_removed_caller(pair: Pair) -> None:
    """Its statement says that the caller is one of the cluster, and the leader knows of none."""
    stating = Stating(pair.two, pair.one)
    request = sessions.OpenSessionRequest(subject="agent-7", ceiling=["read:files/**"])
    rpc = "SessionService/OpenSession"
    pair.add(pair.one, "issuer-1", "issuer")
    (known,) = (each for each in pair.two.control.writer.credentials() if each.name == "issuer-1")

    def state(**fields: object) -> object:
        good = {"principal": "issuer-1", "role": "issuer", "credential": credential_digest(known)}
        statement = stating.statement(rpc, request, **{**good, **fields})
        return stating.send(rpc, request, statement)

    def refused(**fields: object) -> bool:
        with pytest.raises(RpcError) as error:
            state(**fields)
        return error.value.code is UNAUTHENTICATED

    assert state()
    assert refused(role="operator") and refused(audiences=("gw",)) and refused(credential=b"d" * 32)
    remove(pair.one, "issuer-1")
    assert refused()
    # Another one of this name has another secret.
    pair.add(pair.one, "issuer-1", "issuer")
    assert refused()
    remove(pair.one, "issuer-1")
    stating.close()


def test_a_host_that_lags_knows_an_old_secret(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the secret that was replaced under the same name, and the leader does nothing for it."""
    old = pair.add(pair.one, "issuer-2", "issuer")
    source = pair.two.control.serving._router._authenticator.credentials
    loaded = source.current()
    monkeypatch.setattr(source, "current", lambda: loaded)
    monkeypatch.setattr(source, "is_current", lambda: True)
    text, secret_hash = new_credential("issuer-2")
    remove(pair.one, "issuer-2")
    request = pb.AddCredentialRequest(name="issuer-2", role="issuer", secret_hash=secret_hash)
    pair.one.operator.call("CredentialService/AddCredential", request)
    assert accepts(pair.two, old) and accepts(pair.one, text) and not accepts(pair.one, old)
    before = pair.one.control.writer.head().revision
    caller = Caller(f"unix:{pair.two.config.socket}", old)
    with pytest.raises(RpcError) as refused:
        open_session(caller)
    assert refused.value.word == "NOT_LEADER"
    assert pair.one.control.writer.head().revision == before
    caller.close()
    monkeypatch.undo()
    remove(pair.one, "issuer-2")


def test_the_log_says_who_changed_them(pair: Pair) -> None:
    """Each is a change with its actor, and none is a ``local_change`` of a host."""
    pair.add(pair.two, "logged", "auditor")
    remove(pair.two, "logged")
    with pair.one.control.writer.source().rows() as rows:
        seq = rows.head().seq
        changes = [
            Change.decode(rows.get(layout.CHANGES, number.to_bytes(8, "big")) or b"")
            for number in range(1, seq + 1)
        ]
    found = [(each.kind, each.actor) for each in changes if each.body.get("name") == "logged"]
    assert found == [(ChangeKind.ADD_CREDENTIAL, "operator"), (ChangeKind.REMOVE_CREDENTIAL, "operator")]
    local = pair.one.control.subsystems.local
    local.poll()
    assert "logged" not in str(local._last) and "operator" not in local._last["credentials"]


def test_a_snapshot_has_them(pair: Pair, tmp_path: Path) -> None:
    """A host that joins knows them before its first record."""
    pair.add(pair.one, "early", "auditor")
    with StateWriter.open(tmp_path / "state", create=True, map_size=32 << 20) as writer:
        with pair.one.control.writer.source().rows() as rows:
            writer.run(lambda group: install(group, rows))
        assert {record.name for record in writer.credentials()} == {"early", "operator"}
    remove(pair.one, "early")


def test_the_callers_of_a_single_host_become_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its own again when it leaves; nobody needs a new secret."""
    monkeypatch.setattr(beginning, "open_carrier", lambda *_: OneEngine())
    with home_folder() as home:
        made = initialise(home)
        config = settings(home, "one", ["127.0.0.1:1"])
        file = CredentialFile(config.credentials_file)
        text = file.add("gw-1", "gateway", ("gw",))
        assert carried_credentials(config) is None

        beginning.begin(config)

        carried = carried_credentials(config)
        assert carried is not None and [record.name for record in carried] == ["gw-1", "operator"]
        assert carried[0].audiences == ("gw",) and file.list() == []

        leave(config)

        assert carried_credentials(config) is None
        assert [entry.name for entry in file.list()] == ["gw-1", "operator"]
        for credential in (text, made.credential_file.read_text().strip()):
            assert file.authenticate(credential) is not None
        with StateWriter.open(config.state_dir) as writer:
            assert writer.credentials() == []
        # A second cluster takes them again.
        beginning.begin(config)
        assert len(carried_credentials(config) or ()) == 2


def test_a_file_with_too_much_begins_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is named, and nothing is changed."""
    monkeypatch.setattr(beginning, "open_carrier", lambda *_: OneEngine())
    with home_folder() as home:
        initialise(home)
        config = settings(home, "one", ["127.0.0.1:1"])
        CredentialFile(config.credentials_file).add("gw-1", "gateway", [f"a{n}" for n in range(65)])
        with pytest.raises(ConfigError, match="credential gw-1: audiences"):
            beginning.begin(config)
        assert carried_credentials(config) is None
