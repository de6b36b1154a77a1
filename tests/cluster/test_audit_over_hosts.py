"""The logs of two servers and a follower: one session, one story, and the proof that nothing outlived it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.audit.read.story import audit_hosts, read_story
from sessauth.audit.replay import replay
from sessauth.cli.render.audit import problems, verify_hosts
from sessauth.reasons import Reason
from sessauth.v1 import evidence_service_pb2 as evidence
from tests.support.carried import OneEngine
from tests.support.cluster_servers import two_servers
from tests.support.follower_host import follower_host
from tests.support.service import wait_until
from tests.support.watching import end, mint, open_session

AUDIT = {"audit": {"enabled": True}}
NAMES = ("f", "server/one", "server/two")


def test_one_story_of_all_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host's records have its name; together they prove the end, by the hosts that the receipt names."""
    engine = OneEngine()
    for module in ("membership", "begin"):
        monkeypatch.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
    with (
        two_servers(tmp_path, ["127.0.0.1:1"], AUDIT, AUDIT) as (one, two),
        follower_host(tmp_path / "f", (one, two), **AUDIT) as follower,
    ):
        session = open_session(one.operator)
        token = mint(one.operator, session.id).token
        for log in (two.control.writer, follower.control.writer):
            assert wait_until(lambda at=log: at.head().revision >= session.revision)  # type: ignore[misc]
        assert (one.reason(token), two.reason(token)) == (Reason.ALLOWED, Reason.ALLOWED)
        end(one.operator, session.id)
        request = evidence.GetReceiptRequest(session_id=session.id)
        ended = one.control.writer.head().revision
        assert wait_until(lambda: two.control.writer.head().revision >= ended)
        assert two.reason(token) is Reason.SESSION_ENDED
        receipt = one.operator.call("EvidenceService/GetReceipt", request).receipt
        assert receipt
    hosts = audit_hosts([tmp_path])
    assert tuple(host.name for host in hosts) == NAMES
    assert all(host.state_dir is not None for host in hosts)

    verified = verify_hosts(hosts)
    story = read_story(hosts, session.id, bound_ms=3_000)
    assert problems(story, verified, NAMES, 3_000) == []
    assert problems(story, verified, ("gone",), 3_000) == [
        "gone: the receipt names it, and no log of it is here"
    ]
    assert all(each.report.intact for each in verified)
    assert story.end is not None
    assert [part.allowed for part in story.hosts] == [0, 1, 1]
    report = replay(*(host.folder for host in hosts))
    assert (report.found, report.decisions) == (0, 3)
