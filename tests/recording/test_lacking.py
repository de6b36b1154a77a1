"""Findings about a state that went back: changes that the audit log has and the state lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessauth.audit.recording.change_follower import ChangeFollower
from sessauth.audit.write.stream import AuditStream
from sessauth.model.change import end_session
from sessauth.state.backup import backup, restore
from sessauth.state.lmdb.feed import ChangeLog
from sessauth.state.writer.state_writer import StateWriter
from tests.cli.conftest import Ran, invoke
from tests.support.changes import opening

ID = b"s" * 16
MAP = 8 << 20


@contextmanager
def recorded(folder: Path) -> Iterator[StateWriter]:
    """A writer whose changes are recorded when it is done, in a stream of its own."""
    with StateWriter.open(folder / "state", create=not (folder / "state").exists(), map_size=MAP) as writer:
        head = writer.head()
        follower = ChangeFollower(ChangeLog(writer.source()), folder / "audit")
        stream = AuditStream.open_new(
            folder / "audit",
            process="control",
            audience="",
            cluster_id=head.cluster_id,
            incarnation=head.incarnation,
        )
        yield writer
        for bodies in follower.bodies(writer.now_ms()):
            stream.append(bodies)
        follower.store_position(follower.seq)
        stream.close()


def files(folder: Path) -> dict[Path, bytes]:
    """Return what the state folder holds, its anchor too."""
    return {path: path.read_bytes() for path in (folder / "state").iterdir()}


def verified(folder: Path, *more: object) -> Ran:
    """Verify the audit folder against the state folder."""
    where = ("--dir", folder / "audit", "--state", folder / "state")
    return invoke("--home", folder, "audit", "verify", *where, "--json", *more)


@pytest.fixture
def home(tmp_path: Path) -> tuple[Path, dict[Path, bytes]]:
    """A state whose session ended, its log, and the whole state folder of before the end."""
    (tmp_path / "audit").mkdir(0o750)
    with recorded(tmp_path) as writer:
        assert writer.submit(opening("open", ID)).result().applied
    before = files(tmp_path)
    with recorded(tmp_path) as writer:
        assert writer.submit(end_session("end", ID)).result().applied
    ran = verified(tmp_path)
    assert ran.code == 0 and ran.json["compared_with_changes"] and ran.json["findings"] == []
    return tmp_path, before


def put(before: dict[Path, bytes]) -> None:
    """Put files back as they were."""
    for path, data in before.items():
        path.write_bytes(data)


def test_a_folder_that_went_back_is_told_by_its_log(home: tuple[Path, dict[Path, bytes]]) -> None:
    """It looks whole with its anchor: the log names the change that it lacks, and the exit code is 1."""
    folder, before = home
    put(before)
    ran = verified(folder)
    (finding,) = [each for each in ran.json["findings"] if not each["note"]]
    assert (ran.code, finding["kind"]) == (1, "ROLLED_BACK")
    assert "change 2 and 0 more" in finding["words"] and finding["line"] > 0


def test_a_folder_that_went_back_and_on_is_told_by_its_log(home: tuple[Path, dict[Path, bytes]]) -> None:
    """Another change under a recorded number is not that change."""
    folder, before = home
    put(before)
    with StateWriter.open(folder / "state", map_size=MAP) as writer:
        for number in range(4):
            assert writer.submit(opening(f"other {number}")).result().applied
    ran = verified(folder)
    assert ran.code == 1 and "change 2 and 0 more" in ran.json["findings"][-1]["words"]


def test_an_old_file_is_told_too(home: tuple[Path, dict[Path, bytes]]) -> None:
    """A state that is refused for its anchor is a finding of the log that belongs to it."""
    folder, before = home
    put({path: data for path, data in before.items() if path.name == "data.mdb"})
    ran = verified(folder)
    assert ran.code == 1 and ran.json["findings"][-1]["kind"] == "ROLLED_BACK"


def test_a_folder_of_before_a_restore_is_told(home: tuple[Path, dict[Path, bytes]]) -> None:
    """Its incarnation was followed by another in the log; after the restore itself nothing is found."""
    folder, _ = home
    backup(folder / "state", folder / "backup")
    old = files(folder)
    restore(folder / "backup", folder / "state", map_size=MAP)
    assert verified(folder).code == 0
    with recorded(folder) as writer:
        assert writer.submit(opening("more")).result().applied
    ran = verified(folder)
    assert (ran.code, ran.json["findings"]) == (0, [])
    put(old)
    ran = verified(folder)
    assert ran.code == 1 and "was recorded after it" in ran.json["findings"][-1]["words"]


def test_without_a_state_the_log_is_verified_alone(home: tuple[Path, dict[Path, bytes]]) -> None:
    """A folder that was copied elsewhere has no state beside it; one that was asked for has to be there."""
    folder, before = home
    put(before)
    alone = invoke("--home", folder, "audit", "verify", "--dir", folder / "audit", "--json")
    assert alone.code == 0 and not alone.json["compared_with_changes"]
    default = invoke("--home", folder, "audit", "verify", "--json")
    assert default.code == 1 and default.json["findings"][-1]["kind"] == "ROLLED_BACK"
    assert not verified(folder, "--state", folder / "nowhere").json["compared_with_changes"]
