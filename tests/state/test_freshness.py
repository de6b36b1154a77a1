"""The freshness bound of a folder: for every process that opened it, and for a forked child."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.clock import SystemClock
from sessauth.reasons import Reason
from sessauth.state import layout
from sessauth.state.host.brake import Brake
from sessauth.verifier.verifier import AsyncVerifier, Verifier
from tests.support.state_fixture import StateFixture
from tests.vectors.world import AUDIENCE, NOW, root, token

VALID = token(root("read:files/**"))

OTHER_PROCESS = """
import sys
from sessauth.verifier.verifier import Verifier
verifier = Verifier.embedded(sys.argv[1], audience=sys.argv[2])
for line in sys.stdin:
    decision = verifier._check(bytes.fromhex(sys.argv[3]), "read", "files/a", now_ms=int(sys.argv[4]))
    print(decision.reason.name, flush=True)
"""
FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")
from sessauth.state.host.brake import is_stale
from sessauth.verifier.verifier import Verifier
verifier = Verifier.embedded(sys.argv[1], audience=sys.argv[2])
def reason():
    return verifier._check(bytes.fromhex(sys.argv[3]), "read", "files/a", now_ms=int(sys.argv[4])).reason.name
print(reason(), flush=True)
if os.fork() == 0:
    print(reason(), verifier.view.braked, flush=True)
    os._exit(0)
os.wait()
print(reason(), flush=True)
"""


@pytest.fixture
def follower(state: StateFixture, tmp_path: Path) -> Iterator[Brake]:
    """The folder's page, as its follower holds it."""
    made = Brake(tmp_path / "state" / layout.BRAKE_FILE)
    yield made
    made.close()


def ahead(ms: int = 30_000) -> int:
    """A steady time that is so far ahead."""
    return SystemClock().steady_ms() + ms


def arguments(tmp_path: Path, script: str) -> list[str]:
    """The command of another process that checks the token."""
    return [sys.executable, "-c", script, str(tmp_path / "state"), AUDIENCE, VALID.hex(), str(NOW)]


def test_a_folder_without_a_follower_has_no_bound(state: StateFixture, tmp_path: Path) -> None:
    """Its page has zeros there, as that of an older folder, and the writer sets none."""
    assert state.reason(VALID) is Reason.ALLOWED
    page = (tmp_path / "state" / layout.BRAKE_FILE).read_bytes()
    assert (page[4048:4056], page[4080:]) == (bytes(8), bytes(16))


def test_every_process_of_the_host_obeys(state: StateFixture, follower: Brake, tmp_path: Path) -> None:
    """The writer's own verifier and one of another process, which get no message and renew nothing."""
    command = arguments(tmp_path, OTHER_PROCESS)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None

        def reasons() -> tuple[str, str]:
            other.stdin.write("\n")  # type: ignore[union-attr]
            other.stdin.flush()  # type: ignore[union-attr]
            return other.stdout.readline().strip(), state.reason(VALID).name  # type: ignore[union-attr]

        assert reasons() == ("ALLOWED",) * 2
        bound = ahead(1_000)
        follower.fresh_until(bound)
        assert reasons() == ("ALLOWED",) * 2
        while ahead(0) < bound:
            pass
        assert reasons() == ("STALE_STATE",) * 2
        follower.fresh_until(ahead())
        assert reasons() == ("ALLOWED",) * 2
        follower.deny_now()
        assert reasons() == ("STALE_STATE",) * 2
        other.stdin.close()


def test_verifiers_that_are_opened_later_obey(state: StateFixture, follower: Brake, tmp_path: Path) -> None:
    """One whose follower is gone denies from its first check on, the awaited one too."""
    state.close()
    follower.deny_now()
    with Verifier.embedded(tmp_path / "state", audience=AUDIENCE) as verifier:
        assert verifier._check(VALID, "read", "files/a", now_ms=NOW).reason is Reason.STALE_STATE
        assert verifier.check(VALID, "read", "files/a").reason is Reason.STALE_STATE
        assert verifier.stands(VALID).reason is Reason.STALE_STATE
        assert verifier.list_allowed(VALID, [("read", "files/a")]).reason is Reason.STALE_STATE
        awaited = AsyncVerifier.embedded(tmp_path / "state", audience=AUDIENCE).local
        assert awaited.check(VALID, "read", "files/a").reason is Reason.STALE_STATE
        follower.fresh_until(ahead())
        assert verifier._check(VALID, "read", "files/a", now_ms=NOW)
        awaited.close()


def test_a_forked_child_denies_though_the_host_is_fresh(
    state: StateFixture, follower: Brake, tmp_path: Path
) -> None:
    """Its own copy of the page is braked; the bound is no reason to allow."""
    follower.fresh_until(ahead())
    ran = subprocess.run(arguments(tmp_path, FORKED), capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["ALLOWED", "INTERNAL_ERROR", "True", "ALLOWED"]
