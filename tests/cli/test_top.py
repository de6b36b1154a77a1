"""``sessauth top``: the most denied sessions of a real server, once, as lines of JSON, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.cli.commands.top import lines
from sessauth.client import Activity, HostUsage, SessionActivity
from sessauth.model.session import EndCause
from tests.support.observations import AT
from tests.support.service import wait_until
from tests.support.usage_example import session as example

from .conftest import COMMAND, Service, invoke, start_service, stop_service


@pytest.fixture(scope="module")
def counting() -> Iterator[Service]:
    """A server whose verifiers report their calls."""
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        home = Path(folder) / "home"
        assert invoke("--home", home, "init").code == 0
        settings = home / "sessauth.toml"
        settings.write_text(settings.read_text().replace("# census = false", "census = true"))
        running = start_service(home)
        yield running
        stop_service(running)


@pytest.fixture
def denied(counting: Service, tmp_path: Path) -> str:
    """The id of a session with one allowed and two denied calls that the server knows of."""
    token = tmp_path / "t.token"
    terms = ("--subject", "agent:topmost", "--ceiling", "read:**", "--audience", "gateway")
    opened = counting("session", "open", *terms, "--mint", token, "--json")
    for action in ("write", "write", "read"):
        counting("check", token, action, "files/a", "--audience", "gateway")
    session = str(opened.json["id"])

    def known() -> bool:
        rows = counting("top", "--once", "--json", session).json["sessions"]
        return [sum(row["denied"]) + sum(row["allowed"]) for row in rows] == [3]

    assert wait_until(known)
    return session


def test_a_server_that_counts_nothing_says_so(service: Service) -> None:
    """The line names the settings."""
    shown = service("top", "--once", "nobody's").out

    assert "NOT COUNTED: set usage.census or audit.enabled" in shown.splitlines()[0]
    assert service("top", "--once", "--json").json["since_ms"] == 0


def test_once_it_is_one_table(counting: Service, denied: str) -> None:
    """A row has counts, rate and a bar for the present minute; words that fit nothing give no row."""
    shown = counting("top", "--once", "TOPMOST")
    header, row = shown.out.splitlines()[1:]
    document = counting("top", "--once", "--json", denied[:6]).json

    assert header.split()[:3] == ["ID", "STATUS", "SUBJECT"]
    assert row.split()[:3] == [denied[:8], "ACTIVE", "agent:topmost"]
    assert row.split()[-5:-2] == ["2", "1", "0.1"]
    assert row.split()[-2].endswith("█")
    assert document["sessions"][0]["session"]["id"] == denied
    assert sum(document["denied"]) >= 2
    assert counting("top", "--once", "nobody's").out.splitlines()[1:] == ["no calls"]


def test_a_lapsed_lease_and_what_is_not_counted_stand_out() -> None:
    """So do hosts whose calls are missing, and a count that began lately; texts are cut, minutes are bars."""
    session = replace(example(), end_cause=EndCause.LEASE_LAPSED, subject="s" * 200)
    row = SessionActivity(session, (0,) * 10, (0, 0, 1, 2, 4, 8, 0, 0, 0, 0))
    hosts = (HostUsage("edge-1", 0, 0, 0, False), HostUsage("edge-2", 0, 0, 0, False, removed_at_ms=1))
    title, _, shown = lines(Activity((row,), (0,) * 10, row.denied, 30_000, AT, hosts), "denied", AT + 90_000)

    assert title.endswith("counted for 1m 30s · WITHOUT edge-1")
    assert shown.split()[1:3] == ["LAPSED", "s" * 23 + "…"]
    assert "··▁▂▄█····" in shown


def test_on_a_terminal_it_takes_the_screen_and_gives_it_back(counting: Service, denied: str) -> None:
    """A key sorts by calls, another one ends it; the terminal is as it was."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, "--home", str(counting.home), "top", denied],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    shown = b""

    def until(part: bytes) -> None:
        nonlocal shown
        while part not in shown:
            shown += os.read(ours, 65_536)

    until(b"d: denied first")
    os.write(ours, b"c")
    until(b"\x1b[H\x1b[2Jcalls of the last ten minutes")
    os.write(ours, b"q")
    until(b"\x1b[?1049l")
    os.close(theirs)

    assert running.wait(60) == 0
    assert shown.startswith(b"\x1b[?1049h")
    assert b"agent:topmost" in shown
    os.close(ours)


def test_elsewhere_it_prints_until_it_is_interrupted(counting: Service, denied: str) -> None:
    """Each table is a line of JSON; the interrupt is no error of its own."""
    running = subprocess.Popen(
        [*COMMAND, "--home", str(counting.home), "top", denied, "--json", "--every", "10ms"],
        stdout=subprocess.PIPE,
    )
    assert running.stdout is not None
    lines = [json.loads(running.stdout.readline()) for _ in range(3)]
    running.send_signal(signal.SIGINT)

    assert {each["session"]["id"] for line in lines for each in line["sessions"]} == {denied}
    assert running.wait(60) == 130
    running.stdout.close()
