"""The file of removed hosts: one that can't be read makes reports incomplete."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.server.usage import cluster_usage
from sessauth.v1 import usage_service_pb2 as pb
from tests.support.usage_hosts import UsageWorld

ONE, TWO = "server/one", "server/two"


@pytest.mark.parametrize(
    "content",
    [
        *("not JSON", "[" * 100_000, "[]", "{}", '{"present": "ab", "removed": {}}'),
        *('{"present": [1], "removed": {}}', '{"present": [], "removed": {"host/a": "soon"}}'),
        *('{"present": [], "removed": {"host/a": true}}', '{"present": [], "removed": [["host/a", 1]]}'),
        '{"present": [], "removed": {}, "forgotten_until": -1}',
    ],
)
def test_a_file_that_is_none_is_not_believed(tmp_path: Path, content: str) -> None:
    """Hosts may have been removed that nobody knows of: reports of sessions from before are not complete."""
    world = UsageWorld(tmp_path, ONE, TWO)
    world.lead(ONE)
    world.settle()
    session_id = world.open()
    world.hosts[TWO].folder.mkdir(exist_ok=True)
    (world.hosts[TWO].folder / "hosts.json").write_text(content)
    world.hosts[TWO].restart()
    leader = world.lead(TWO)
    assert list(leader.report(session_id).missing) == [pb.MISSING_HOST]
    world.settle()
    assert list(leader.report(session_id).missing) == [pb.MISSING_HOST]
    assert not leader.report(world.open(2)).missing

    world.hosts[TWO].restart()
    leader = world.lead(TWO)
    world.settle()
    assert list(leader.report(session_id).missing) == [pb.MISSING_HOST]


def test_a_full_disk_is_logged_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts are noted again each second, onto the same disk as the log mostly."""
    world = UsageWorld(tmp_path, ONE, TWO)
    host, lines = world.hosts[ONE], list[str]()

    def refuse(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(cluster_usage, "event", lambda level, name, **fields: lines.append(name))
    monkeypatch.setattr(cluster_usage, "put_file", refuse)
    for _ in range(5):
        host.cluster.poll()
        world.clock.advance(1_000)
    assert lines == ["usage_not_written"]

    world.clock.advance(60_000)
    host.cluster.poll()
    assert lines == ["usage_not_written"] * 2
