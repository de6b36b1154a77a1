"""A host of an earlier version, as a process: it holds the format back, and stops if it comes late."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sessauth.model.host import FORMAT, OLDEST_FORMAT, CarriedPosition
from sessauth.server.keys.credentials import CredentialFile
from sessauth.state.lmdb.cluster_rows import read_position
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.follower_process import PROGRAM, FollowerProcess
from tests.support.service import home_folder, wait_until

# An earlier version reads, and says that it reads, the oldest format.
EARLIER = "".join(
    f"import sessauth.{module} as module; module.FORMAT = {OLDEST_FORMAT}; "
    for module in ("client._feed", "state.replication.carried_log", "state.writer.opening")
)


def test_a_follower_is_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster writes the later format once it runs the later version, and not before."""
    engine = OneEngine()
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    monkeypatch.setattr("sessauth.state.replication.membership.FORMAT", 0)
    # Servers say nothing before the host is there.
    monkeypatch.setattr("sessauth.server.cluster.cluster_feed.FORMAT", OLDEST_FORMAT)
    with home_folder() as home, two_servers(home, ["127.0.0.1:1"]) as (one, two):
        host = follower(home, one, two)
        host.wait_for("fresh")
        host.stop()
        host.start(program=EARLIER + PROGRAM)
        assert wait_until(lambda: host.log.count('"event": "fresh"') == 2)
        monkeypatch.setattr("sessauth.server.cluster.cluster_feed.FORMAT", FORMAT)
        assert not wait_until(lambda: writes(one) == FORMAT, 3.0)
        assert host.stop() == 0
        host.start()
        assert wait_until(lambda: writes(one) == FORMAT)
        assert host.stop() == 0
        host.start(program=EARLIER + PROGRAM)
        assert host.process.wait(60) != 0
        assert "reads 1; upgrade sessauth on this host" in host.log


def follower(home: Path, one: ClusterServer, two: ClusterServer) -> FollowerProcess:
    """Start a host that follows both."""
    credential = home / "host-1.credential"
    credential.write_text(CredentialFile(one.config.credentials_file).add("host-1", "follower"))
    credential.chmod(0o600)
    shutil.copy(one.config.credentials_file, two.config.credentials_file)
    return FollowerProcess(home / "host-1", [one.config.socket, two.config.socket], credential)


def writes(server: ClusterServer) -> int:
    """Return the format that the cluster writes, by a server's folder."""
    with server.control.writer.source().rows() as rows:
        return (read_position(rows) or CarriedPosition()).writes
