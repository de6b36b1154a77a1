"""The power goes, or the disk fails: what was acknowledged is there, and the state is that of one commit.

Files are made as a disk may leave them: all that was synced, and any sectors of what was not.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.errors import StateUnusable
from sessauth.model.change import end_session
from sessauth.model.session import SessionStatus
from sessauth.state import layout
from sessauth.state.integrity.verify import verify
from sessauth.state.writer.state_writer import StateWriter
from tests.state.conftest import SMALL_MAP
from tests.state.test_kill9 import hold
from tests.support import fault_disk
from tests.support.changes import opening
from tests.support.procs.failing_disk import SESSION

IMAGES = int(os.environ.get("SESSAUTH_POWER_IMAGES", "60"))
CHANGES = 30


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk, compiled."""
    return fault_disk.built(tmp_path_factory.mktemp("fault_disk"))


def journal_of(state_dir: Path, tmp_path: Path, library: Path, count: int) -> list[fault_disk.DiskRequest]:
    """Let a writer's callers make so many changes each; returns what was asked of its disk.

    The first is the file as it was before.
    """
    base, journal = (state_dir / layout.DATA_FILE).read_bytes(), tmp_path / "journal"
    subprocess.run(
        [sys.executable, "-m", "tests.support.procs.power_writer", str(state_dir), "p", str(count)],
        env=fault_disk.environment(library, **{fault_disk.JOURNAL: journal}),
        check=True,
    )
    return [fault_disk.DiskRequest("S", 0, base), *fault_disk.read_journal(journal)]


@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_a_loss_of_power(
    state_dir: Path, tmp_path: Path, library: Path
) -> None:
    """At each of many moments of a writer's life, and whatever of its unsynced writes reached the disk."""
    StateWriter.open(state_dir, create=True, map_size=SMALL_MAP).close()
    anchor = (state_dir / layout.ANCHOR_FILE).read_bytes()
    (first, *asked), rng = journal_of(state_dir, tmp_path, library, CHANGES), random.Random(11)
    letters = "".join(each.letter for each in asked)
    assert letters.count("A") > CHANGES and letters.count("S") > 10 and letters.count("D") > 10
    assert letters.count("w") > 10

    between = 0
    for number in range(IMAGES):
        # Right behind an acknowledgement, and anywhere.
        acknowledged = [at + 1 for at, letter in enumerate(letters) if letter == "A"]
        at = rng.choice(acknowledged) if number % 2 else rng.randrange(1, len(asked))
        image = tmp_path / f"image-{number}"
        shutil.copytree(state_dir, image, ignore=shutil.ignore_patterns(layout.DATA_FILE))
        fault_disk.leave(image / layout.DATA_FILE, first.data, asked[:at], rng)
        fault_disk.leave(image / layout.ANCHOR_FILE, anchor, asked[:at], rng)
        told = [each.data.decode().split() for each in asked[:at] if each.letter == "A"]
        with StateWriter.open(image, map_size=SMALL_MAP) as writer:
            counts = writer.run(lambda group: verify(group.rows))
            hold(writer, told)
            assert counts.changes >= len(told) and writer.head().seq == counts.changes
            between += counts.changes > len(told)
            assert writer.submit(opening(f"again-{number}")).result().applied
        shutil.rmtree(image)
    # Some moments lay between a commit and its acknowledgements.
    assert between


class Never(random.Random):
    """Nothing reaches the disk but what must."""

    def random(self) -> float:
        """Return what is above every share."""
        return 1.0


def test_without_its_syncs_a_writer_would_be_found_out(
    state_dir: Path, tmp_path: Path, library: Path
) -> None:
    """The images lose what they may: were the syncs not done, acknowledged changes would be missing."""
    StateWriter.open(state_dir, create=True, map_size=SMALL_MAP).close()
    asked = journal_of(state_dir, tmp_path, library, 10)
    data = state_dir / layout.DATA_FILE
    base, told = asked[0].data, [each.data.decode().split() for each in asked if each.letter == "A"]
    unsynced = [replace(each, letter="W") for each in asked[1:] if each.letter in "WD"]

    fault_disk.leave(data, base, asked[1:], Never())
    with StateWriter.open(state_dir, map_size=SMALL_MAP) as writer:
        hold(writer, told)
    fault_disk.leave(data, base, unsynced, Never())
    # The anchor says that there was more.
    with pytest.raises(StateUnusable) as caught:
        StateWriter.open(state_dir, map_size=SMALL_MAP)
    assert caught.value.problem == "ROLLED_BACK"
    with (
        StateWriter.open(state_dir, restoring=True, map_size=SMALL_MAP) as writer,
        pytest.raises(AssertionError),
    ):
        hold(writer, told)


@pytest.mark.parametrize("goes_on", [True, False], ids=["brake-cleared", "started-again"])
def test_a_sync_that_fails_stops_everything(
    state_dir: Path, tmp_path: Path, library: Path, goes_on: bool
) -> None:
    """The caller hears that it is unknown, checks deny, no change is taken; later the end can be retried."""
    StateWriter.open(state_dir, create=True, map_size=SMALL_MAP).close()
    command = [
        sys.executable,
        "-m",
        "tests.support.procs.failing_disk",
        str(state_dir),
        *(["clear"] * goes_on),
    ]
    answer = subprocess.run(
        command,
        env=fault_disk.environment(library, **{fault_disk.FAILS: tmp_path / "fails"}),
        check=True,
        capture_output=True,
    )
    seen = json.loads(answer.stdout)

    assert seen["opened"] == "applied"
    assert seen["end"] == "OutcomeUnknown" and "Input/output error" in seen["why"]
    assert seen["braked"] and seen["view_braked"]
    assert seen["later"] == "StateError"
    assert seen["cleared_too_early"] == "OutcomeUnknown"
    assert seen.get("again") == ("applied" if goes_on else None)
    with StateWriter.open(state_dir, map_size=SMALL_MAP) as writer:
        assert not writer.braked
        writer.run(lambda group: verify(group.rows))
        again = writer.submit(end_session("end", SESSION)).result()
        ended = writer.get_session(SESSION)
        assert again.applied and ended is not None and ended.status is SessionStatus.ENDED
        assert writer.outcome("later") is None


def test_an_anchor_ahead_of_its_commits_would_be_found_out(
    state_dir: Path, tmp_path: Path, library: Path
) -> None:
    """Were the anchor written before the commit that it notes, an honest state would be refused somewhere."""
    StateWriter.open(state_dir, create=True, map_size=SMALL_MAP).close()
    anchor = (state_dir / layout.ANCHOR_FILE).read_bytes()
    first, *asked = journal_of(state_dir, tmp_path, library, 5)
    noted = [at for at, each in enumerate(asked) if each.letter == "w"]
    last = noted[-1]
    fault_disk.leave(state_dir / layout.ANCHOR_FILE, anchor, asked[: last + 1], Always())
    # Behind the sync before the last commit's meta page, which states the commit.
    meta = max(at for at, each in enumerate(asked[:last]) if each.letter == "D")
    fault_disk.leave(state_dir / layout.DATA_FILE, first.data, asked[:meta], Always())
    with pytest.raises(StateUnusable) as caught:
        StateWriter.open(state_dir, map_size=SMALL_MAP)
    assert caught.value.problem == "ROLLED_BACK"


def test_a_state_is_durable_before_its_anchor_is(state_dir: Path, tmp_path: Path, library: Path) -> None:
    """The state found at a start may be in the page cache only: it is synced before it is anchored."""
    StateWriter.open(state_dir, create=True, map_size=SMALL_MAP).close()
    _, *asked = journal_of(state_dir, tmp_path, library, 1)
    letters = "".join(each.letter for each in asked)
    assert "S" in letters[: letters.index("w")]


class Always(random.Random):
    """Everything reaches the disk."""

    def random(self) -> float:
        """Return what is below every share."""
        return 0.0
