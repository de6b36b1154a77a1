"""``sessauth demo --cluster`` is a promise: what it shows is what happens, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessauth.cli.demo.cluster.interruption import NUMBERS, Interruption
from tests.support.etcd_cluster import program
from tests.support.service import wait_until

DEMO = [sys.executable, "-m", "sessauth.cli.main", "demo", "--cluster"]
FOLDER = "/tmp/sessauth-demo-"


def _of_demo(pid: int) -> set[str]:
    """Return the folders that the children of a demo work in."""
    folders = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        paths = [word.partition("=")[2] if word.startswith("--") else word for word in words]
        folders |= {"/".join(path.split("/")[:3]) for path in paths if path.startswith(FOLDER)}
    return folders


def _left(folder: str) -> list[str]:
    """Return the command lines of processes that name a folder."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().decode(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return [line for line in lines if folder in line]


@contextmanager
def _demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo; it ends its processes by itself, also where the test fails before."""
    program()
    with subprocess.Popen(
        [*DEMO, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        try:
            yield demo
        finally:
            demo.terminate()


@pytest.mark.timeout(240)
def test_the_demo_of_a_cluster_plays_to_its_end() -> None:
    """Every line is as expected, and nothing is on stderr."""
    with _demo("--json") as demo:
        shown, errors = demo.communicate(timeout=200)

    assert shown, errors
    report = json.loads(shown)
    assert [step for step in report["steps"] if not step["as_expected"]] == []
    assert (demo.returncode, errors) == (0, "")
    assert len({step["chapter"] for step in report["steps"]}) == 7
    stale = [step["ms"] for step in report["steps"] if "STALE_STATE" in step["text"]]
    assert len(stale) == 3
    assert sum("SESSION_ENDED, after" in step["text"] for step in report["steps"]) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(number: int) -> None:
    """Interrupted while all its processes run: they end, and the folder is gone."""
    with _demo() as demo:
        assert demo.stdout is not None
        assert any("(c)" in line for line in demo.stdout), demo.communicate()
        (folder,) = _of_demo(demo.pid)
        # Chapter (c) begins by killing a member of etcd.
        assert len(_left(folder)) in (6, 7)
        demo.send_signal(number)
        began = time.monotonic()
        assert demo.wait(30) == 130
    assert time.monotonic() - began < 15
    assert wait_until(lambda: not _left(folder), 5), _left(folder)
    assert not Path(folder).exists()


def test_a_signal_that_a_destructor_swallows_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next check raises it, and the handlers are restored behind the block."""
    swallowed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: swallowed.append(lost.exc_type))

    class Closing:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    before = [signal.getsignal(number) for number in NUMBERS]
    with Interruption() as interruption:
        interruption.check()
        Closing()
        assert swallowed == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        interruption.ignore()
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_without_etcd_one_line_says_how_to_get_it() -> None:
    """It is a usage error, and nothing has started."""
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    answer = subprocess.run(DEMO, capture_output=True, text=True, timeout=60, env=environment)

    assert answer.returncode == 2
    assert answer.stdout == ""
    assert len(answer.stderr.splitlines()) == 1
    assert "apt-get install etcd-server" in answer.stderr
