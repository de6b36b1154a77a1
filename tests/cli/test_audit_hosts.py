"""The audit commands over the logs of several hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.audit.write.stream import AuditStream
from sessauth.clock import FixedClock
from sessauth.model.change import end_session
from tests.support.audit_log import SESSION, START_MS, change, decision

from .conftest import Run

END_MS = 10_000
NAMES = ("edge-1", "server/one", "server/two")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The closed logs of three hosts; each allowed a call, denied one after the end, and has the end."""
    folder = tmp_path / "collected"
    for number, name in enumerate(NAMES):
        add_log(folder, name, number)
    return folder


def add_log(folder: Path, name: str, number: int, *more: bytes) -> None:
    """Write the log of one host."""
    stream = AuditStream.open_new(
        folder / str(number) / "audit",
        process="control",
        audience="mcp",
        cluster_id=b"c" * 16,
        incarnation=b"i" * 16,
        clock=FixedClock(START_MS + 2 * END_MS),
        host=name,
    )
    ended = change(END_MS, end_session("e", SESSION), 8)
    late = decision(END_MS + 20 + number, allowed=False, reason="SESSION_ENDED", revision=8)
    records = (("decision", decision(number)), ("change", ended), ("decision", late))
    stream.append(b"".join(layout.body(kind, record) for kind, record in records) + b"".join(more))
    stream.close()


def test_verify_takes_a_folder_of_hosts(run: Run, logs: Path) -> None:
    """Each log for itself; one that is not intact fails them all, and is named."""
    ran = run("audit", "verify", "--dir", logs, "--json")
    assert ran.code == 0
    assert [(each["host"], each["intact"]) for each in ran.json["hosts"]] == [(name, True) for name in NAMES]
    head = ran.json["hosts"][2]["streams"][0]["head"]
    ran = run("audit", "verify", "--dir", logs, "--expect-head", head)
    assert ran.out.splitlines()[-1] == "intact: 3 hosts"
    assert run("audit", "verify", "--dir", logs, "--expect-head", "ab" * 32).code == 1
    assert run("audit", "verify", "--dir", logs, "--state", logs).code == 2

    (logs / "3").mkdir()
    ran = run("audit", "verify", "--dir", logs)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "NOT INTACT: 1 of 4 hosts")
    assert "NO_STREAM" in ran.out


def test_verify_takes_folders_one_by_one(run: Run, logs: Path) -> None:
    """Homes and audit folders alike; of one the answer is as ever."""
    two = run("audit", "verify", "--dir", logs / "0", "--dir", logs / "1" / "audit", "--json")
    assert [each["host"] for each in two.json["hosts"]] == ["edge-1", "server/one"]
    one = run("audit", "verify", "--dir", logs / "0", "--json").json
    assert (one["intact"], one["dir"]) == (True, str(logs / "0" / "audit"))


def test_query_and_replay_read_all_hosts(run: Run, logs: Path) -> None:
    """Records come by time, with their hosts; a replay takes the changes of all."""
    found = run("audit", "query", "--dir", logs, "--session", SESSION.hex()[:6], "--json").json
    assert [record["host"] for record in found["records"] if record["kind"] == "decision"] == [*NAMES, *NAMES]
    assert "server/two" in run("audit", "query", "--dir", logs).out
    replayed = run("audit", "replay", "--dir", logs, "--json").json
    assert (replayed["decisions"], replayed["changes"]) == (6, 1)
    assert [each["host"] for each in replayed["hosts"]] == list(NAMES)


def test_a_story_proves_that_nothing_outlived_a_session(run: Run, logs: Path) -> None:
    """All hosts' records by time, with the end once, and the result."""
    ran = run("audit", "story", SESSION.hex()[:6], "--dir", logs)
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "nothing outlived the session: 3 hosts"
    assert ran.out.count("end_session") == 1
    answer = run("audit", "story", SESSION.hex(), "--dir", logs, "--json").json
    assert (answer["proved"], answer["problems"], len(answer["records"])) == (True, [], 7)
    assert [each["last_allow_ms"] for each in answer["hosts"]] == [START_MS + number for number in range(3)]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (layout.body("decision", decision(END_MS + 60_000)), "edge-9: allowed"),
        (layout.body("lost", {"at_ms": START_MS, "count": 3, "since_ms": 0, "why": "full"}), "1 losses"),
    ],
    ids=("allowed", "lost"),
)
def test_a_story_lists_late_allows_and_losses(run: Run, logs: Path, more: bytes, problem: str) -> None:
    """An allow long after the end, and records that were lost."""
    add_log(logs, "edge-9", 9, more)
    ran = run("audit", "story", SESSION.hex(), "--dir", logs)
    assert ran.code == 1
    assert f"NOT PROVED: {problem}" in ran.out or f"edge-9: {problem}" in ran.out


def test_a_story_needs_logs_that_are_whole(run: Run, logs: Path) -> None:
    """A log that was altered, and one that is open and ends before the end."""
    (file,) = (logs / "0" / "audit").glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b"SESSION_ENDED", b"SESSION_LIVED"))
    AuditStream.open_new(
        logs / "5" / "audit",
        process="control",
        audience="mcp",
        cluster_id=b"c" * 16,
        incarnation=b"i" * 16,
        clock=FixedClock(START_MS),
        host="edge-5",
    )
    problems = run("audit", "story", SESSION.hex(), "--dir", logs, "--json").json["problems"]
    assert [problem.partition(":")[0] for problem in problems] == ["edge-1", "edge-5"]
    assert "does not go beyond the end" in problems[1]


def test_a_session_that_has_not_ended_proves_nothing(run: Run, logs: Path) -> None:
    """It is not known whether it has."""
    other = b"y" * 16
    add_log(logs, "edge-9", 9, layout.body("decision", decision(1, session=other.hex())))
    ran = run("audit", "story", other.hex(), "--dir", logs)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "NOT PROVED: no log holds the end of the session")
