"""A host that ``sessauth follow`` feeds: its verifiers see what a leader acknowledged, or deny."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from sessauth.errors import ConfigError
from sessauth.model.host import SignedGroup, record_digest
from sessauth.reasons import Reason
from sessauth.server.cluster import joining
from sessauth.server.cluster.joining import join, open_source
from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import CredentialFile
from sessauth.state.replication.carrier import LogHead
from sessauth.verifier.verifier import Verifier
from tests.support.carried import OneEngine
from tests.support.cluster_servers import two_servers
from tests.support.feeding import Cluster, Listening, cluster
from tests.support.follower_process import FollowerProcess, expect_reason, reason
from tests.support.issuer import CLIENT, SERVER, Issued
from tests.support.service import home_folder, wait_until
from tests.support.watching import end, mint, open_session

# Of the bound; a busy machine may be later by this.
STALENESS_MS = "1000"
SLACK_SECONDS = 1.0
HOST_URI = "spiffe://example.org/follower/host-1"


@pytest.fixture
def host(fed: Cluster) -> Iterator[FollowerProcess]:
    """A host that follows it."""
    started = FollowerProcess.of(fed, staleness_ms=STALENESS_MS)
    yield started
    started.process.kill()
    started.process.wait()


def test_an_end_reaches_the_host(fed: Cluster, host: FollowerProcess) -> None:
    """Opened and ended at the leader: allowed and denied in the host's folder, a moment later."""
    with host.verifier() as verifier:
        late = []
        for _ in range(20):
            session_id, token = fed.open()
            expect_reason(verifier, token, Reason.ALLOWED)
            fed.end(session_id)
            began = time.monotonic()
            while reason(verifier, token) is not Reason.SESSION_ENDED:
                assert time.monotonic() - began < 5
            late.append(time.monotonic() - began)
        assert sorted(late)[10] < 0.5


def test_a_host_without_its_follower_denies(fed: Cluster, host: FollowerProcess) -> None:
    """Killed: no call is allowed once the bound has passed. Started again: it goes on from its number."""
    _, token = fed.open()
    with host.verifier() as verifier:
        expect_reason(verifier, token, Reason.ALLOWED)
        host.stop(signal.SIGKILL)
        killed = time.monotonic()
        expect_reason(verifier, token, Reason.STALE_STATE)
        assert time.monotonic() - killed < int(STALENESS_MS) / 1000 + SLACK_SECONDS
        other, ended = fed.open()
        fed.end(other)
        host.start()
        expect_reason(verifier, token, Reason.ALLOWED)
        assert reason(verifier, ended) is Reason.SESSION_ENDED
        assert host.log.count('"event": "joined"') == 1
        assert host.stop() == 0


def test_an_engine_without_a_majority_denies(fed: Cluster, host: FollowerProcess) -> None:
    """A server that gets no barrier can still send records; they prove nothing."""
    _, token = fed.open()
    with host.verifier() as verifier:
        expect_reason(verifier, token, Reason.ALLOWED)
        fed.engine.silent = True
        expect_reason(verifier, token, Reason.STALE_STATE)
        fed.engine.silent = False
        expect_reason(verifier, token, Reason.ALLOWED)


def test_a_host_whose_records_are_gone_takes_a_snapshot(fed: Cluster, host: FollowerProcess) -> None:
    """Away while the log was trimmed: its verifier stays open and sees the later state."""
    _, token = fed.open()
    with host.verifier() as verifier:
        expect_reason(verifier, token, Reason.ALLOWED)
        assert host.stop() == 0
        session_id, ended = fed.open()
        fed.end(session_id)
        fed.engine.trim(fed.engine.head.number - 1)
        # A server that was there before has the records in memory.
        fed.servers[0].close()
        fed.servers[0] = fed.listen(fed.leader)
        host.start()
        expect_reason(verifier, ended, Reason.SESSION_ENDED)
        assert reason(verifier, token) is Reason.ALLOWED
        assert '"event": "snapshot_installed"' in host.log


def _append(engine: OneEngine, record: bytes) -> None:
    """Put a record behind the last one, past the leader."""
    with engine.changed:
        number = engine.head.number + 1
        engine.records[number] = record
        engine.head = LogHead(number, record_digest(record))
        engine.changed.notify_all()


def test_an_altered_record_raises_the_alarm(fed: Cluster, host: FollowerProcess) -> None:
    """Nothing of it is applied, and every call is denied from then on."""
    _, token = fed.open()
    with host.verifier() as verifier:
        expect_reason(verifier, token, Reason.ALLOWED)
        signed = SignedGroup.decode(fed.engine.records[fed.engine.head.number])
        payload = dataclasses.replace(signed.record(), number=fed.engine.head.number + 1).encode()
        _append(fed.engine, dataclasses.replace(signed, payload=payload).encode())
        host.wait_for("cluster_alarm")
        assert '"problem": "ALTERED"' in host.log
        expect_reason(verifier, token, Reason.STALE_STATE)
        time.sleep(0.7)
        assert reason(verifier, token) is Reason.STALE_STATE


def test_whole_servers_feed_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed through ``Control``: one server ends in order, at once, and the host goes on to the other."""
    engine = OneEngine()
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    with home_folder() as home, two_servers(home, ["127.0.0.1:1"]) as (one, two):
        credential = home / "host-1.credential"
        credential.write_text(CredentialFile(one.config.credentials_file).add("host-1", "follower"))
        credential.chmod(0o600)
        shutil.copy(one.config.credentials_file, two.config.credentials_file)
        host = FollowerProcess(home / "host-1", [one.config.socket, two.config.socket], credential)
        session = open_session(one.operator)
        token = mint(one.operator, session.id).token
        with host.verifier() as verifier:
            assert wait_until(lambda: allows(verifier, token))
            began = time.monotonic()
            one.stop()
            assert time.monotonic() - began < 4
            assert wait_until(lambda: two.leads)
            end(two.operator, session.id)
            assert wait_until(lambda: not allows(verifier, token))
            assert wait_until(lambda: verifier.view.current)
        assert host.stop() == 0


def test_a_host_follows_over_tls_by_its_certificate(fed: Cluster) -> None:
    """A client certificate is enough in place of an API key; without one a host gets nothing."""
    ca = Issued.ca("ca")
    server = ca.issue("localhost", [x509.DNSName("localhost")], usage=SERVER)
    client = ca.issue("host-1", [x509.UniformResourceIdentifier(HOST_URI)], usage=CLIENT)
    files = {"ca": ca.pem, "server": server.pem, "server_key": server.key_pem}
    for name, data in {**files, "client": client.pem, "client_key": client.key_pem}.items():
        (fed.home / name).write_bytes(data)
        (fed.home / name).chmod(0o600)
    path = {name: str(fed.home / name) for name in (*files, "client", "client_key")}
    fed.servers[0].close()
    fed.servers[0] = fed.listen(
        fed.leader,
        tcp={
            "address": "localhost:0",
            "certificate": path["server"],
            "private_key": path["server_key"],
            "client_ca": path["ca"],
        },
        identities=[{"name": "by-certificate", "role": "follower", "uri": HOST_URI}],
    )
    targets = [f"localhost:{fed.servers[0].port}"]
    stated = {"certificate": path["client"], "private_key": path["client_key"], "server_ca": path["ca"]}
    host = FollowerProcess(fed.home / "host-1", targets, **{key: f'"{file}"' for key, file in stated.items()})
    stranger = FollowerProcess(fed.home / "stranger", targets, server_ca=f'"{path["ca"]}"')
    _, token = fed.open()
    with host.verifier() as verifier:
        expect_reason(verifier, token, Reason.ALLOWED)
    stranger.wait_for("no_snapshot")
    assert [each.stop() for each in (host, stranger)] == [0, 0]
    assert not stranger.state.exists()


def test_a_snapshot_of_another_cluster_raises_the_alarm(fed: Cluster, host: FollowerProcess) -> None:
    """A host whose records are gone takes no state but its own cluster's."""
    _, token = fed.open()
    with host.verifier() as verifier, cluster() as other:
        expect_reason(verifier, token, Reason.ALLOWED)
        host.stop()
        for _ in range(9):
            other.open()
        other.engine.trim(other.engine.head.number - 1)
        other.servers[0].close()
        fed.servers[0].close()
        fed.servers[0] = Listening(
            other.engine,
            other.leader,
            fed.home / "members" / "one",
            fed.home / "at-one",
            other.register,
        )
        host.start()
        host.wait_for("cluster_alarm")
        assert '"problem": "FOREIGN"' in host.log or '"problem": "UNKNOWN_KEY"' in host.log
        expect_reason(verifier, token, Reason.STALE_STATE)


def allows(verifier: Verifier, token: str) -> bool:
    """Return True if a verifier of the folder allows what the token is for."""
    return bool(verifier.check(token, "read", "files/a", audience="gw"))


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["credential", "role"])
def test_a_join_that_every_server_refuses_ends(fed: Cluster, tmp_path: Path, wrong: str) -> None:
    """It names the setting, and makes no folder."""
    file = tmp_path / "wrong.credential"
    if wrong == "role":
        key = CredentialFile(fed.home / "members" / "one" / "credentials.toml").add(
            "a-gateway", "gateway", ("gw",)
        )
    else:
        key = "sessauth_key_nobody_" + "A" * 43
    file.write_text(key)
    file.chmod(0o600)
    socket = str(fed.servers[0].socket)
    config = from_dict(
        {"home": str(tmp_path), "follow": {"servers": [socket], "credential": str(file), "host_name": "h"}}
    )
    source = open_source(config)
    with closing(source), pytest.raises(ConfigError, match=r"^follow\.credential: .*"):
        join(config, source, threading.Event())
    assert not config.state_dir.exists()


def test_a_join_with_a_silent_server_goes_on(
    fed: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that refuses is not all: the other may be the one that knows the credential."""
    monkeypatch.setattr(joining, "PAUSE_SECONDS", (0.01, 0.02))
    file = tmp_path / "wrong.credential"
    file.write_text("sessauth_key_nobody_" + "A" * 43)
    file.chmod(0o600)
    servers = [str(fed.servers[0].socket), str(tmp_path / "nobody.sock")]
    config = from_dict(
        {"home": str(tmp_path), "follow": {"servers": servers, "credential": str(file), "host_name": "h"}}
    )
    stopping, fetched = threading.Event(), []
    with closing(open_source(config)) as source:
        snapshot = source.snapshot

        def counted(folder: Path, most: int) -> object:
            fetched.append(source.server)
            if len(fetched) == 4:
                stopping.set()
            return snapshot(folder, most)

        source.snapshot = counted  # type: ignore[method-assign, assignment]
        join(config, source, stopping)
    assert set(fetched) == source.servers
