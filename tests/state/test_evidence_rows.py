"""Rows that ends are proven by: kept, purged, verified; raised from format 2, and restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import StateUnusable
from sessauth.model.change import Head, end_session, purge_session
from sessauth.model.receipt import RegistrationRecord
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.host import brake
from sessauth.state.host.processes import is_gone, started
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb import cluster_rows
from sessauth.state.lmdb.environment import open_environment
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import NOW, opening
from tests.support.receipts import CLOSED

ID = CLOSED.session_id
MAP = 8 << 20
GATEWAY = RegistrationRecord("gw-1", "gw", b"i" * 16, 7, 8, 5_000, 1, NOW)


def opened(folder: Path, *, create: bool = False) -> StateWriter:
    """Open a folder for writing."""
    return StateWriter.open(folder, create=create, map_size=MAP, clock=FixedClock(NOW))


def since_ms(writer: StateWriter) -> int:
    """Return the time before which registrations are not known."""
    with writer.source().rows() as rows:
        return cluster_rows.since_ms(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a session that ended, its receipt, and a verifier that is registered."""
    path = tmp_path / "state"
    with opened(path, create=True) as writer:
        assert writer.submit(opening("o", ID)).result().applied
        assert writer.submit(end_session("e", ID)).result().applied
        writer.run(lambda group: cluster_rows.store_registration(group, GATEWAY))
        writer.run(lambda group: cluster_rows.store_receipt(group, CLOSED))
    return path


@pytest.fixture
def writer(folder: Path) -> Iterator[StateWriter]:
    """A writer of it."""
    with opened(folder) as found:
        yield found


def test_they_are_there_after_a_restart(writer: StateWriter) -> None:
    """And no change of the log has anything to do with them."""
    assert writer.registrations() == [GATEWAY] and writer.receipt(ID) == CLOSED
    assert since_ms(writer) == 0 and writer.head().seq == 2
    counts = writer.run(lambda group: verify(group.rows))
    assert (counts.registrations, counts.receipts) == (1, 1)


def test_an_enrolment_is_removed_by_its_own_instance(writer: StateWriter) -> None:
    """A name that another instance has by now stays."""
    other = replace(GATEWAY, instance=b"j" * 16)
    writer.run(lambda group: cluster_rows.drop_registration(group, other))
    assert writer.registrations() == [GATEWAY]

    writer.run(lambda group: cluster_rows.store_registration(group, other))
    writer.run(lambda group: cluster_rows.drop_registration(group, GATEWAY))
    assert writer.registrations() == [other]

    writer.run(lambda group: cluster_rows.drop_registration(group, other))
    assert writer.registrations() == []


def test_an_enrolment_of_before_takes_none_of_today_with_it(writer: StateWriter) -> None:
    """An instance that was forgotten and came back has a row of its own, whichever is written last."""
    later = replace(GATEWAY, registered_at_ms=GATEWAY.registered_at_ms + 1)
    writer.run(lambda group: cluster_rows.store_registration(group, later))
    writer.run(lambda group: cluster_rows.drop_registration(group, GATEWAY))

    assert writer.registrations() == [later]


def test_a_receipt_goes_with_its_session(writer: StateWriter) -> None:
    """A purged session has none, and is given none."""
    assert writer.submit(purge_session("p", ID)).result().applied
    writer.run(lambda group: cluster_rows.store_receipt(group, CLOSED))

    assert writer.receipt(ID) is None and writer.registrations() == [GATEWAY]
    assert writer.run(lambda group: verify(group.rows)).receipts == 0


def test_without_room_no_receipt_is_kept(writer: StateWriter) -> None:
    """It can be made again; an end above the mark must find room."""

    def crowded(group: Group) -> None:
        group.full = True
        cluster_rows.store_receipt(group, replace(CLOSED, epoch=9))

    writer.run(crowded)
    assert writer.receipt(ID) == CLOSED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (cluster_rows.RECEIPT + ID, b"\xff"),
        (cluster_rows.RECEIPT + ID, replace(CLOSED, session_id=b"t" * 16).encode()),
        (cluster_rows.RECEIPT + b"t" * 16, replace(CLOSED, session_id=b"t" * 16).encode()),
        (cluster_rows.REGISTRATION + b"gw-1", b"\xff"),
        (cluster_rows.REGISTRATION + b"gw-2", GATEWAY.encode()),
    ],
)
def test_what_is_wrong_is_found(writer: StateWriter, key: bytes, value: bytes) -> None:
    """Bytes that are no row, a row under another's key, a receipt of no session."""

    def damage(group: Group) -> None:
        group.rows.put(layout.EVIDENCE, key, value)
        group.dirty = True

    writer.run(damage)
    with writer.source().rows() as found, pytest.raises(StateUnusable) as caught:
        verify(found)
    assert caught.value.problem == "CORRUPT"


def as_format_2(folder: Path) -> None:
    """Make a folder what a writer of format 2 left."""
    env = open_environment(folder, readonly=False, map_size=MAP)
    meta = env.open_db(layout.META.encode(), create=False)
    rows = env.open_db(layout.EVIDENCE.encode(), create=False)
    with env.begin(write=True) as txn:
        txn.drop(rows, delete=True)
        head = Head.decode(bytes(txn.get(layout.HEAD_KEY, db=meta)))
        txn.put(layout.HEAD_KEY, replace(head, format=2).encode(), db=meta)
    env.close()


def test_a_folder_of_format_2_is_raised(folder: Path) -> None:
    """It keeps its rows, and who was registered up to now is not known; readers read it before and after."""
    as_format_2(folder)
    reader = StateReader.open(folder)
    with reader.reading() as txn:
        found = TxnRows(txn, reader.tables)
        assert cluster_rows.registrations(found) == [] and cluster_rows.receipt(found, ID) is None
        assert (verify(found).sessions, verify(found).receipts, found.head().format) == (1, 0, 2)
    reader.close()

    with opened(folder) as writer:
        head = writer.head()
        assert (head.format, head.min_reader_format, head.seq) == (layout.FORMAT, 1, 2)
        session = writer.get_session(ID)
        assert session is not None and since_ms(writer) == head.clock_floor_ms
        assert session.ended_at_ms <= since_ms(writer)
        writer.run(lambda group: cluster_rows.store_registration(group, GATEWAY))
    with opened(folder) as writer:
        assert writer.registrations() == [GATEWAY] and since_ms(writer) == head.clock_floor_ms


def test_an_earlier_program_does_not_write_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would purge sessions and leave their receipts; it may read."""
    monkeypatch.setattr(layout, "FORMAT", 2)
    with pytest.raises(StateUnusable) as caught:
        opened(folder)
    assert caught.value.problem == "NEWER_FORMAT"
    StateReader.open(folder).close()


def test_a_restore_knows_the_folders_own_verifiers(folder: Path, tmp_path: Path) -> None:
    """Receipts come with the backup; of what ended with the restore, or before, nothing else is known."""
    backup(folder, tmp_path / "backup")
    here = replace(GATEWAY, name="gw-2")
    with opened(folder) as writer:
        writer.run(lambda group: cluster_rows.drop_registration(group, GATEWAY))
        writer.run(lambda group: cluster_rows.store_registration(group, here))
    restore(tmp_path / "backup", folder, map_size=MAP, clock=FixedClock(NOW + 1))

    with opened(folder) as writer:
        assert writer.registrations() == [here] and writer.receipt(ID) == CLOSED
        assert since_ms(writer) == NOW + 1
        assert writer.run(lambda group: verify(group.rows)).registrations == 1


def test_the_page_states_what_is_called_for(writer: StateWriter, folder: Path) -> None:
    """The latest revision, and who calls; no reason of the brake reaches that far."""
    page = brake.reader_page(folder / layout.BRAKE_FILE)
    assert brake.called_for(page) == (0, 0)
    writer.call_for(5)
    writer.call_for(3)
    assert brake.called_for(page) == writer.source().called_for() == (0, 5)
    writer.call_anew()
    caller, revision = brake.called_for(page)
    assert caller and revision == 5

    with_reasons = brake.Brake(folder / layout.BRAKE_FILE)
    with_reasons.engage("x" * 5_000)
    with_reasons.engage("y" * 5_000, by_hand=True)
    assert brake.called_for(page) == (caller, 5)
    with_reasons.release()
    with_reasons.release(by_hand=True)
    with_reasons.close()
    page.close()


def test_processes_are_told_apart(tmp_path: Path) -> None:
    """The kernel's data decide: dead, a zombie, another process with the same id, or unknown."""
    assert not is_gone(0, 0) and started(2**22 + 1) == 0
    for state, ticks, began, gone in (
        ("S", 100, 100, False),
        ("Z", 100, 100, True),
        ("S", 101, 100, True),
        ("S", 100, 0, False),
    ):
        stat = tmp_path / "1" / "stat"
        stat.parent.mkdir(exist_ok=True)
        fields = [state, *["0"] * 18, str(ticks), "0"]
        stat.write_text(f"1 (a name) with) {' '.join(fields)}\n")
        assert is_gone(1, began, proc=tmp_path) is gone
        assert started(1, proc=tmp_path) == ticks
    assert not is_gone(1, 100, proc=tmp_path / "nowhere")
