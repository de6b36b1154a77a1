"""An older data file is not believed: its writer, its readers and their verifiers refuse it by name."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sessauth.errors import OutcomeUnknown, StateError, StateUnusable
from sessauth.model.change import Head, end_session
from sessauth.model.session import SessionStatus
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.integrity import anchor
from sessauth.state.lmdb.environment import open_environment
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier
from tests.support.changes import opening
from tests.support.old_file import OldFile

ID = b"s" * 16
MAP = 8 << 20


def made(folder: Path) -> OldFile:
    """Make a folder whose session has ended; returns the file of before the end."""
    with StateWriter.open(folder, create=True, map_size=MAP) as writer:
        assert writer.submit(opening("open", ID)).result().applied
    before = OldFile.of(folder)
    with StateWriter.open(folder, map_size=MAP) as writer:
        assert writer.submit(end_session("end", ID)).result().applied
    return before


def refused(folder: Path) -> str:
    """Return with which words all who open a folder refuse it, each by the same word of the state."""
    words = set()
    for attempt in (
        lambda: StateReader.open(folder),
        lambda: Verifier.embedded(folder, audience="gw"),
        lambda: StateWriter.open(folder, map_size=MAP),
    ):
        with pytest.raises(StateUnusable) as caught:
            attempt()
        assert caught.value.problem == "ROLLED_BACK"
        words.add(str(caught.value))
    assert len(words) == 1
    return words.pop()


def accepted(folder: Path) -> Head:
    """Return the head of a folder that reader and writer open."""
    reader = StateReader.open(folder)
    reader.close()
    with StateWriter.open(folder, map_size=MAP) as writer:
        return writer.head()


def from_before_a_restore(folder: Path) -> None:
    """Restore a folder, and bring back what was there before."""
    backup(folder, folder.parent / "backup")
    before = OldFile.of(folder)
    restore(folder.parent / "backup", folder, map_size=MAP)
    before.put_back(folder)


def of_a_restore_elsewhere(folder: Path) -> None:
    """Put the file of a folder that the same backup was restored into in this one's place."""
    backup(folder, folder.parent / "backup")
    restore(folder.parent / "backup", folder.parent / "other", map_size=MAP)
    OldFile.of(folder.parent / "other").put_back(folder)


def of_another_history(folder: Path) -> None:
    """Put a file back that went on elsewhere, without the end, until it was ahead."""
    other = folder.parent / "other"
    folder.rename(folder.parent / "flush_and_record")
    (folder.parent / "flush_and_record").rename(other)
    folder.mkdir(0o750)
    for path in other.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / path.name).chmod(path.stat().st_mode & 0o777)
    with StateWriter.open(folder, map_size=MAP) as writer:
        assert writer.submit(opening("here", b"h" * 16)).result().applied
    with StateWriter.open(other, map_size=MAP) as writer:
        for number in range(5):
            assert writer.submit(opening(f"there {number}")).result().applied
    OldFile.of(other).put_back(folder)


def of_another_cluster(folder: Path) -> None:
    """Put another cluster's file in the place."""
    made(folder.parent / "other")
    OldFile.of(folder.parent / "other").put_back(folder)


WAYS: dict[str, Callable[[Path, OldFile], object]] = {
    "put back": lambda folder, before: before.put_back(folder),
    "overwritten": lambda folder, before: before.overwrite(folder),
    "from before a restore": lambda folder, _: from_before_a_restore(folder),
    "of a restore elsewhere": lambda folder, _: of_a_restore_elsewhere(folder),
    "of another history": lambda folder, _: of_another_history(folder),
    "of another cluster": lambda folder, _: of_another_cluster(folder),
    "the anchor removed": lambda folder, _: (folder / layout.ANCHOR_FILE).unlink(),
    "the anchor emptied": lambda folder, _: os.truncate(folder / layout.ANCHOR_FILE, 0),
    "the anchor zeroed": lambda folder, _: (folder / layout.ANCHOR_FILE).write_bytes(bytes(4096)),
    "both": lambda folder, before: (before.put_back(folder), (folder / layout.ANCHOR_FILE).unlink()),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_old_file_is_refused(state_dir: Path, way: str) -> None:
    """Writer, reader and embedded verifier refuse it, name the restore, and change nothing."""
    before = made(state_dir)
    WAYS[way](state_dir, before)
    data = OldFile.of(state_dir)
    words = refused(state_dir)
    assert "sessauth state restore" in words
    assert OldFile.of(state_dir) == data and refused(state_dir) == words


@pytest.mark.parametrize("way", WAYS)
def test_a_stated_restore_is_the_way_out(state_dir: Path, tmp_path: Path, way: str) -> None:
    """It goes on behind all that the anchor knew of, with every session ended, and is believed again."""
    before = made(state_dir)
    backup(state_dir, tmp_path / "saved")
    WAYS[way](state_dir, before)
    left = anchor.read(state_dir)
    head = restore(tmp_path / "saved", state_dir, force=way == "of another cluster", map_size=MAP)
    if left is not None:
        assert head.revision > left.revision and head.seq > left.seq
    assert accepted(state_dir) == head
    with StateWriter.open(state_dir, map_size=MAP) as writer:
        session = writer.get_session(ID)
        assert session is not None and session.status is SessionStatus.ENDED
        assert writer.submit(opening("again")).result().applied


def of_no_tables(folder: Path) -> None:
    """Put a data file without tables in the place, as one that is overwritten while its writer writes."""
    other = folder.parent / "other"
    other.mkdir()
    environment = open_environment(other, readonly=False, map_size=MAP)
    with environment.begin(write=True) as txn:
        txn.put(b"key", b"value")
    environment.close()
    os.truncate(other / layout.DATA_FILE, MAP)
    OldFile.of(other).put_back(folder)


def test_a_file_without_tables_is_refused(state_dir: Path, tmp_path: Path) -> None:
    """It can't be restored over, so its words say what can be done, and that does it."""
    made(state_dir)
    backup(state_dir, tmp_path / "saved")
    of_no_tables(state_dir)
    words = refused(state_dir)
    assert "is older than the state that was here, or damaged" in words and "move it away" in words
    with pytest.raises(StateUnusable, match="move it away"):
        restore(tmp_path / "saved", state_dir, map_size=MAP)
    (state_dir / layout.DATA_FILE).rename(tmp_path / "damaged")
    head = restore(tmp_path / "saved", state_dir, map_size=MAP)
    assert accepted(state_dir) == head


def test_a_restore_that_is_cut_off_leaves_the_folder_refused(state_dir: Path, tmp_path: Path) -> None:
    """Opened for a restore that then does nothing, an old file is as refused as before."""
    before = made(state_dir)
    before.put_back(state_dir)
    assert "older" in refused(state_dir)
    for number in range(2):
        with StateWriter.open(state_dir, restoring=True, map_size=MAP) as writer:
            # Changes that are written all the same are not anchored.
            assert writer.submit(opening(f"other {number}")).result().applied
        assert "another history" in refused(state_dir)


@pytest.mark.parametrize("missing", [1, 3])
def test_a_state_ahead_of_its_anchor_is_accepted(state_dir: Path, missing: int) -> None:
    """A crash between commit and anchor leaves it, or a loss of power. The next start anchors it."""
    made(state_dir)
    before = (state_dir / layout.ANCHOR_FILE).read_bytes()
    with StateWriter.open(state_dir, map_size=MAP) as writer:
        for number in range(missing):
            assert writer.submit(opening(f"more {number}")).result().applied
        head = writer.head()
    (state_dir / layout.ANCHOR_FILE).write_bytes(before)
    assert accepted(state_dir) == head
    left = anchor.read(state_dir)
    assert left is not None and (left.seq, left.digest) == (head.seq, head.digest)


def test_a_restore_is_accepted_without_its_anchor(state_dir: Path, tmp_path: Path) -> None:
    """Announced before its commit, a new incarnation is known though the anchor was not written behind it."""
    made(state_dir)
    backup(state_dir, tmp_path / "backup")
    written: list[bytes] = []
    flush = anchor.Anchor.flush

    def flush_and_record(self: anchor.Anchor) -> None:
        flush(self)
        written.append((state_dir / layout.ANCHOR_FILE).read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchor.Anchor, "flush", flush_and_record)
        head = restore(tmp_path / "backup", state_dir, map_size=MAP)
    opened, announced, _ = written[-3:]
    (state_dir / layout.ANCHOR_FILE).write_bytes(announced)
    assert accepted(state_dir) == head
    # Without the announcement it would be taken for another's.
    (state_dir / layout.ANCHOR_FILE).write_bytes(opened)
    assert "incarnation" in refused(state_dir)


@pytest.mark.parametrize("slot", [0, 1])
def test_one_slot_may_be_torn(state_dir: Path, slot: int) -> None:
    """The other slot stays whole, whatever a write leaves. Without a whole slot the state is refused."""
    before = made(state_dir)
    path = state_dir / layout.ANCHOR_FILE
    whole = path.read_bytes()
    counts = [struct.unpack_from("=8x Q", whole, at)[0] for at in anchor.SLOT_AT]
    for cut in (0, 8, 60, 130):
        page = bytearray(whole)
        at = anchor.SLOT_AT[slot] + cut
        page[at : at + 16] = os.urandom(16)
        path.write_bytes(page)
        left = anchor.read(state_dir)
        assert left is not None
        assert (left == anchor._newest(whole)[1]) is (counts[slot] < max(counts))  # type: ignore[index]
    assert accepted(state_dir).seq == 2
    before.put_back(state_dir)
    assert "older" in refused(state_dir)


def test_a_folder_of_an_earlier_format_gets_its_anchor(state_dir: Path) -> None:
    """It is opened once without one; from then on it has to be there."""
    before = made(state_dir)
    env = open_environment(state_dir, readonly=False, map_size=MAP)
    meta = env.open_db(layout.META.encode(), create=False)
    with env.begin(write=True) as txn:
        head = Head.decode(bytes(txn.get(layout.HEAD_KEY, db=meta)))
        old = Head(3, *(getattr(head, name) for name in Head.__slots__[1:]))
        txn.put(layout.HEAD_KEY, old.encode(), db=meta)
    env.close()
    (state_dir / layout.ANCHOR_FILE).unlink()
    reader = StateReader.open(state_dir)
    assert reader.head().format == 3
    reader.close()
    assert accepted(state_dir).format == layout.FORMAT
    before.put_back(state_dir)
    refused(state_dir)


def test_lost_data_is_not_made_anew(state_dir: Path) -> None:
    """Only a restore creates a state where the anchor states that there was one."""
    made(state_dir)
    backup(state_dir, state_dir.parent / "backup")
    (state_dir / layout.DATA_FILE).unlink()
    with pytest.raises(StateUnusable) as caught:
        StateWriter.open(state_dir, create=True, map_size=MAP)
    assert caught.value.problem == "ROLLED_BACK" and not (state_dir / layout.DATA_FILE).exists()
    assert restore(state_dir.parent / "backup", state_dir, map_size=MAP).seq > 2


@pytest.mark.parametrize("how", ["overwritten", "swapped"])
def test_a_writer_stops_at_an_older_file(state_dir: Path, how: str) -> None:
    """It acknowledges nothing more, and the brake denies every check, also after it is gone."""
    before = made(state_dir)
    with StateWriter.open(state_dir, map_size=MAP) as writer:
        (before.overwrite if how == "overwritten" else before.put_back)(state_dir)
        with pytest.raises(OutcomeUnknown):
            writer.submit(opening("later")).result()
        assert "ROLLED_BACK" in writer.braked
        with pytest.raises(StateError):
            writer.submit(opening("even later")).result()
        with pytest.raises(StateUnusable) as caught:
            writer.check_files()
        assert caught.value.problem == "ROLLED_BACK"
    assert "older" in refused(state_dir)


def test_an_idle_writer_notices(state_dir: Path) -> None:
    """A look finds what was overwritten or removed though nothing is written; it sets the brake."""
    before = made(state_dir)
    for name, problem in (("", "ROLLED_BACK"), (layout.LOCK_FILE, "SWAPPED")):
        with StateWriter.open(state_dir, map_size=MAP) as writer:
            writer.check_files()
            latest = OldFile.of(state_dir)
            if name:
                (state_dir / name).unlink()
            else:
                before.overwrite(state_dir)
            with pytest.raises(StateUnusable) as caught:
                writer.check_files()
            assert caught.value.problem == problem and problem in writer.braked
        latest.put_back(state_dir)
        with StateWriter.open(state_dir, map_size=MAP) as writer:
            assert not writer.braked
