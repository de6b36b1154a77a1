"""The anchor and the names while a writer is there: lost, cut, replaced, and what it does about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from sessauth.errors import StateUnusable
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.integrity import anchor
from sessauth.state.writer import committer
from sessauth.state.writer import opening as opening_
from sessauth.state.writer.state_writer import StateWriter
from tests.state.test_anchor import MAP, accepted, made, refused
from tests.support.changes import opening


@pytest.mark.parametrize("lost", ["nothing", "the anchor", "both"])
def test_a_restore_says_when_it_cannot_know_how_far_the_state_was(
    state_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    """Without an anchor revision and seq may have been used before; with one they only go up."""
    made(state_dir)
    backup(state_dir, tmp_path / "saved")
    if lost != "nothing":
        (state_dir / layout.ANCHOR_FILE).unlink()
    if lost == "both":
        (state_dir / layout.DATA_FILE).unlink()
    restore(tmp_path / "saved", state_dir, map_size=MAP)
    events = [getattr(each, "event", "") for each in caplog.records]
    assert events == ([] if lost == "nothing" else ["restored_without_anchor"])


def cut(path: Path, _: bytes) -> None:
    """Empty the file that is there."""
    os.truncate(path, 0)


def put_under_the_name(path: Path, older: bytes) -> None:
    """Give the name to an older one."""
    path.with_name("other").write_bytes(older)
    path.with_name("other").rename(path)


LOST: dict[str, Callable[[Path, bytes], object]] = {
    "removed": lambda path, _: path.unlink(),
    "cut": cut,
    "overwritten": lambda path, older: path.write_bytes(older),
    "replaced": put_under_the_name,
}


@pytest.mark.parametrize("when", ["before a commit", "before a look", "before the end"])
@pytest.mark.parametrize("how", LOST)
def test_a_lost_anchor_is_written_anew(
    state_dir: Path, caplog: pytest.LogCaptureFixture, how: str, when: str
) -> None:
    """The running writer notices, says so once and puts it back, so that the state goes on being believed."""
    before = made(state_dir)
    path = state_dir / layout.ANCHOR_FILE
    older = path.read_bytes()
    with StateWriter.open(state_dir, map_size=MAP) as writer:
        assert writer.submit(opening("more")).result().applied
        writer.check_files()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(committer, "NAMES_NS", -1)
            LOST[how](path, older)
            if when == "before a commit":
                assert writer.submit(opening("later")).result().applied
            elif when == "before a look":
                writer.check_files()
        if when != "before the end":
            assert path.stat().st_mode & 0o777 == layout.DATA_MODE
            now = anchor.read(state_dir)
            assert now is not None and now.seq == writer.head().seq
        assert not writer.braked
        head = writer.head()
    left = anchor.read(state_dir)
    assert left is not None and (left.seq, left.digest) == (head.seq, head.digest)
    assert [getattr(each, "event", "") for each in caplog.records] == ["anchor_renewed"]
    assert caplog.records[0].levelname == "WARNING"
    assert accepted(state_dir) == head
    before.put_back(state_dir)
    assert "older" in refused(state_dir)


def test_an_anchor_that_cannot_be_written_costs_no_change(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Durable changes are acknowledged, the cause is logged once, and the next check writes the anchor."""
    made(state_dir)
    with StateWriter.open(state_dir, map_size=MAP) as writer:
        with pytest.MonkeyPatch.context() as patch:

            def fails(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(anchor.Anchor, "store", fails)
            # Between two changes of a busy machine the files may be due for a look, which renews the anchor.
            patch.setattr(committer, "NAMES_NS", 1 << 62)
            for number in range(2):
                assert writer.submit(opening(f"more {number}")).result().applied
        assert [getattr(each, "event", "") for each in caplog.records] == ["anchor_not_written"]
        writer.check_files()
        head, left = writer.head(), anchor.read(state_dir)
        assert left is not None and left.seq == head.seq
    assert accepted(state_dir) == head


@pytest.mark.parametrize("field", ["count", "revision", "seq", "commit"])
def test_no_number_of_an_anchor_is_too_large_to_go_on(state_dir: Path, field: str) -> None:
    """A slot that no writer gets to is as good as none: the folder is refused by its word, and restored."""
    made(state_dir)
    backup(state_dir, state_dir.parent / "backup")
    path = state_dir / layout.ANCHOR_FILE
    left = anchor.read(state_dir)
    assert left is not None
    most = (1 << 64) - 1
    count = most if field == "count" else 9
    slot = anchor._encoded(count, left if field == "count" else left._replace(**{field: most}))
    path.write_bytes(b"".join(slot.ljust(2048, b"\0") for _ in anchor.SLOT_AT))
    assert "damaged" in refused(state_dir)
    restore(state_dir.parent / "backup", state_dir, map_size=MAP)
    accepted(state_dir)


@pytest.mark.parametrize("size", [2000, 2100, 5000])
def test_a_file_of_another_size_keeps_its_slot_through_a_crash(state_dir: Path, size: int) -> None:
    """It is replaced in one step: whenever a start ends, the folder is opened as it was before."""
    made(state_dir)
    path = state_dir / layout.ANCHOR_FILE
    page = bytearray(path.read_bytes())
    slots = [anchor._newest(bytes(page[at : at + 2048].rjust(2048 + at, b"\0"))) for at in anchor.SLOT_AT]
    assert slots[1] is not None and anchor.read(state_dir) is not None
    # The latest one lies in the first half.
    page[:136] = anchor._encoded(slots[1][0] + 1, anchor.read(state_dir) or slots[1][1])
    path.write_bytes(page)
    os.truncate(path, size)
    cut_off = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:

        def ends(*_: object) -> None:
            raise OSError(5, "it ended here")

        patch.setattr(Path, "rename", ends)
        with pytest.raises(StateUnusable):
            anchor.Anchor(state_dir)
    assert path.read_bytes() == cut_off
    assert accepted(state_dir).seq == 2 and path.stat().st_size == anchor.PAGE_BYTES


@pytest.mark.parametrize("name", [layout.DATA_FILE, layout.LOCK_FILE])
def test_a_file_that_is_replaced_while_a_writer_opens_is_noticed(state_dir: Path, name: str) -> None:
    """It is refused before anything is acknowledged: the writer would write what nobody else reads."""
    made(state_dir)
    held = opening_.open_environment

    def replaced(folder: Path, *, readonly: bool, map_size: int) -> lmdb.Environment:
        env = held(folder, readonly=readonly, map_size=map_size)
        copy = folder / "copy"
        copy.write_bytes((folder / name).read_bytes())
        copy.chmod((folder / name).stat().st_mode & 0o777)
        copy.rename(folder / name)
        return env

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening_, "open_environment", replaced)
        with pytest.raises(StateUnusable) as caught:
            StateWriter.open(state_dir, map_size=MAP)
    assert caught.value.problem == "SWAPPED"
    assert accepted(state_dir).seq == 2
