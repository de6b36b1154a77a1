from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessauth.audit import layout
from sessauth.clock import FixedClock
from tests.support.audit_log import SESSION, START_MS, decision, open_stream, write_small

from .conftest import Run

ARGUMENTS = '{"repo":"secret-repo"}'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the audit folder of the home folder, with a log of one denied and some allowed calls."""
    folder = tmp_path / "home" / "audit"
    stream = open_stream(folder, FixedClock(START_MS))
    digest = stream.arguments_key.digest(ARGUMENTS.encode())
    at = {"level": "BLOCK", "index": 0, "scope": 0, "clause": 0, "argument": "repo"}
    denied = decision(
        9, allowed=False, reason="CONDITION_FAILED", stage="SCOPE", matched=None, at=at, arguments=digest
    )
    stream.append(b"".join(layout.body("decision", record) for record in (*map(decision, range(5)), denied)))
    stream.close()
    return folder


def test_verify_says_intact(run: Run, log: Path) -> None:
    """An untouched log exits with 0 and shows its streams."""
    ran = run("audit", "verify", "--json")

    assert ran.code == 0
    assert ran.json["intact"] is True
    assert ran.json["findings"] == []
    (stream,) = ran.json["streams"]
    assert (stream["process"], stream["closed"], stream["lines"]) == ("control", True, stream["signed"])
    assert run("audit", "verify", "--expect-head", stream["head"]).code == 0
    assert run("audit", "verify").out.splitlines()[-1] == "intact"


def test_verify_says_what_and_where(run: Run, log: Path) -> None:
    """A changed line exits with 1 and is named with its file and line."""
    (file,) = log.glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b"CONDITION_FAILED", b"ALLOWED_FAILED__"))

    ran = run("audit", "verify")
    answer = run("audit", "verify", "--json")

    assert (ran.code, answer.code) == (1, 1)
    assert f"CHANGED {file.name}:8 (n 7)" in ran.out
    assert [(each["kind"], each["line"], each["note"]) for each in answer.json["findings"]] == [
        ("CHANGED", 8, False)
    ]


def test_verify_by_a_key_and_heads_kept_elsewhere(run: Run, log: Path, tmp_path: Path) -> None:
    """The key that was printed verifies; another does not, nor a head that is not there."""
    printed = run("audit", "key").out
    (tmp_path / "kept.pub").write_text(printed)
    write_small(tmp_path / "other")

    assert run("audit", "verify", "--public-key", "kept.pub").code == 0
    assert run("audit", "verify", "--public-key", "other/audit.pub").code == 1
    assert run("audit", "verify", "--expect-head", "ab" * 32).code == 1
    assert run("audit", "verify", "--expect-head", "ab").code == 2
    assert [key["public_key"] for key in run("audit", "key", "--json").json["keys"]] == [printed.strip()]


def test_query_finds_by_arguments_without_showing_them(run: Run, log: Path, tmp_path: Path) -> None:
    """Was it these arguments: as such, from a file or stdin; what is printed has only the digest."""
    (tmp_path / "arguments.json").write_text(ARGUMENTS + "\n")
    ran = run("audit", "query", "--arguments", "@arguments.json", "--json")

    assert [int(record["id"], 16) for record in ran.json["records"]] == [9]
    assert "secret-repo" not in ran.out + run("audit", "query").out
    assert run("audit", "query", "--arguments", ARGUMENTS, "--json").json == ran.json
    assert run("audit", "query", "--arguments", "@-", "--json", stdin=ARGUMENTS).json == ran.json
    assert run("audit", "query", "--arguments", "@-", "--json", stdin='{"repo":"x"}').json["records"] == []


def test_a_session_of_the_log_is_found_by_its_first_digits(run: Run, log: Path) -> None:
    """Without a server, of the log alone; what it does not tell of is said to be unknown."""
    whole = run("audit", "query", "--session", SESSION.hex(), "--json").json
    assert len(whole["records"]) > 0

    assert run("audit", "query", "--session", SESSION.hex()[:6], "--json").json == whole
    assert run("audit", "export", "--session", SESSION.hex()[:6]).code == 0
    assert run("audit", "replay", "--session", "abcd").code == 3
    unknown = run("audit", "query", "--session", "abcd")
    assert (unknown.code, "abcd" in unknown.err) == (3, True)


def test_query_takes_a_forgotten_at_for_no_arguments(run: Run, log: Path) -> None:
    """A text that is no JSON object is refused, and the refusal says how a file is named."""
    refused = run("audit", "query", "--arguments", "arguments.json")

    assert refused.code == 2
    assert "@FILE" in refused.err


def test_query_shows_the_newest_by_time(run: Run, log: Path) -> None:
    """The limit keeps the newest records and says how many there are."""
    ran = run("audit", "query", "--session", SESSION.hex(), "--limit", 2, "--json")

    assert [int(record["id"], 16) for record in ran.json["records"]] == [4, 9]
    assert ran.json["found"] == 6
    text = run("audit", "query", "--limit", 2).out
    assert "the newest 2 of 6" in text
    assert "denied   CONDITION_FAILED  scope" in text


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--answer", "denied"], 1),
        (["--answer", "allowed"], 5),
        (["--reason", "condition_failed"], 1),
        (["--stage", "scope", "--action", "read"], 1),
        (["--resource", "mcp/github/*", "--since", "2026-01-01T00:00:00Z"], 6),
        (["--until", "2026-01-01T00:00:00Z"], 0),
        (["--block", "aa" * 32], 6),
        (["--decision", f"{3:032x}"], 1),
        (["--change", "end_session"], 0),
        (["--actor", "ops"], 0),
    ],
    ids=str,
)
def test_query_filters(run: Run, log: Path, options: list[str], count: int) -> None:
    """Each option reaches the query."""
    assert run("audit", "query", *options, "--json").json["found"] == count


def test_query_refuses_words_that_there_are_not(run: Run, log: Path) -> None:
    """A misspelt reason would find nothing, which is no answer: exit code 2."""
    for option, word in (("--reason", "DENY"), ("--stage", "scopes"), ("--change", "END")):
        ran = run("audit", "query", option, word)
        assert (ran.code, ran.out) == (2, "")
        assert word in ran.err


def test_export_writes_events(run: Run, log: Path, tmp_path: Path) -> None:
    """One event a line, on stdout or to a new file."""
    events = [json.loads(line) for line in run("audit", "export").out.splitlines()]
    ran = run("audit", "export", "--answer", "denied", "--out", "events.jsonl", "--json")

    assert [event["class_uid"] for event in events] == [6003] * 6
    assert {event["metadata"]["log_provider"] for event in events} == {"control"}
    assert {event["metadata"]["tenant_uid"] for event in events} == {(b"c" * 16).hex()}
    assert ran.json == {"out": "events.jsonl", "events": 1}
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1
    assert run("audit", "export", "--out", "events.jsonl").code == 2


def test_decision_show_tells_why(run: Run, log: Path) -> None:
    """The answer, what its reason means, and where it was judged; as text and as JSON."""
    ran = run("decision", "show", f"{9:032x}")
    answer = run("decision", "show", f"{9:032x}", "--json")

    assert ran.code == 0
    assert ran.out.startswith("DENIED at stage scope: CONDITION_FAILED\n  means: action and resource matched")
    assert "condition 0 on argument `repo` does not hold" in ran.out
    assert answer.json["decision"]["reason"] == "CONDITION_FAILED"
    assert answer.json["line"] == 8
    assert "secret-repo" not in ran.out + answer.out


def test_what_is_not_there(run: Run, log: Path, tmp_path: Path) -> None:
    """An unknown decision is refused with 3, a folder that is none with 5, another id with 2."""
    assert run("decision", "show", "ff" * 16).code == 3
    assert run("decision", "show", "00").code == 2
    for command in (["audit", "verify"], ["audit", "query"], ["audit", "export"], ["audit", "key"]):
        ran = run(*command, "--dir", tmp_path / "nothing", "--json")
        assert ran.code == 5, command
        assert json.loads(ran.err)["error"]["kind"] in ("StateUnusable", "KeyFolderError")
