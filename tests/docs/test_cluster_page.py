"""docs/cluster.md, typed on three hosts that have nothing yet, with real members of etcd and TLS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.etcd_cluster import program
from tests.support.page_cluster import STATUS, PageHosts
from tests.support.service import wait_until
from tests.support.tree import ROOT


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[PageHosts]:
    """Three hosts that have nothing yet."""
    program()
    with ExitStack() as opened:
        yield PageHosts(opened, tmp_path)


def test_the_page_makes_a_cluster(hosts: PageHosts) -> None:
    """Two servers and a host that follows, by the page alone; the first server stops, the rest goes on."""
    hosts.begin()

    assert hosts.leads("one", host="two")
    session, token = hosts.mint("one")
    check = f"sessauth check {token} read files/report --audience gw --state {hosts.homes['gateway']}/state"
    assert wait_until(lambda: "ALLOWED" in hosts.run("gateway", f"{check} || true"), 10)
    assert "stale          False" in hosts.run("gateway", "sessauth state check")
    assert "connections  TLS with a client certificate" in hosts.run("gateway", STATUS)

    hosts.typed["one"].close()
    assert wait_until(lambda: hosts.leads("two", host="two"), 30)
    hosts.run("two", f"sessauth session end {session} --reason 'ticket closed'")
    assert wait_until(lambda: "SESSION_ENDED" in hosts.run("gateway", f"{check} || true"), 10)


@pytest.mark.timeout(300)
def test_the_demo_plays_to_its_end() -> None:
    """``make demo-cluster``: each decision comes, and nothing is on stderr."""
    program()
    played = subprocess.run(
        [sys.executable, "-m", "tools.demo_cluster"], cwd=ROOT, capture_output=True, text=True, timeout=280
    )

    assert (played.returncode, played.stderr) == (0, ""), played.stdout + played.stderr
    assert played.stdout.count("STALE_STATE") == 2
    assert played.stdout.count("SESSION_ENDED") == 3


def test_the_demo_names_the_package_of_etcd() -> None:
    """Without etcd it exits with 2 and one line, and starts nothing."""
    answer = subprocess.run(
        [sys.executable, "-m", "tools.demo_cluster"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": str(Path(sys.executable).parent)},
    )

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "apt-get install etcd-server" in answer.stderr
