"""Results of logged changes, which are stored beside the log as long as the changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import Rejected
from sessauth.model.change import end_session, revoke, suspend_session
from sessauth.state import layout
from sessauth.state.backup import backup, restore
from sessauth.state.integrity.verify import verify
from sessauth.state.lmdb.feed import ChangeLog, LogEntry
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.writer.group import Retention
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening
from tests.support.costs import spending, use

PARENT, CHILD = b"p" * 16, b"c" * 16
WEEK = 7 * 24 * 3_600_000


def _entries(writer: StateWriter, since: int = 0) -> list[LogEntry]:
    return ChangeLog(writer.source()).entries(since)


def _rows(writer: StateWriter) -> list[bytes]:
    """Return the keys of all results and traces."""
    with writer.source().reading() as txn:
        return TxnRows(txn, writer.source().tables).keys_after(layout.RESULTS, b"", 10_000)


def test_each_change_has_its_outcome(writer: StateWriter) -> None:
    """Applied or not, with the revision that its caller was told, and of whose session it is."""
    outcomes = [
        writer.submit(change).result()
        for change in (
            opening("o", PARENT, purpose="p", owner="w"),
            opening("c", CHILD, parent_id=PARENT),
            suspend_session("s", PARENT),
            suspend_session("again", PARENT),
            end_session("e", PARENT),
        )
    ]
    found = _entries(writer)
    results = [each.result for each in found if each.result is not None]

    assert [each.seq for each in found] == [1, 2, 3, 4, 5]
    assert [(each.revision, each.rejection) for each in results] == [
        (each.revision, each.rejection) for each in outcomes
    ]
    assert [each.epoch for each in results] == [1, 1, 2, 0, 3]
    assert [each.change.kind.name if each.change else "" for each in found] == [
        *("OPEN_SESSION", "OPEN_SESSION", "SUSPEND_SESSION", "", "END_SESSION"),
    ]
    assert found[0].owner == ("agent", "p", "w", ())
    assert found[1].owner == ("agent", "", "", (PARENT,))


def test_what_changes_no_session_s_life_has_a_revision_alone(writer: StateWriter) -> None:
    """A consumption moves the revision and is no event; nor is a revocation of what is revoked."""
    writer.submit(opening("o", PARENT)).result()
    spent = writer.decide(lambda group: group.submit(spending(PARENT, uses=[use(1)])), 512).result()
    for name in ("r", "again"):
        writer.submit(revoke(name, PARENT, [b"b" * 32])).result()
    found = _entries(writer)

    assert [each.change is not None for each in found] == [True, False, True, False]
    assert found[1].result is not None and found[1].result.revision == spent.revision


def test_a_purged_session_leaves_a_trace_as_long_as_its_purge(state_dir: Path, clock: FixedClock) -> None:
    """Owner and ancestors are still known; compaction takes results and trace with the changes."""
    with StateWriter.open(state_dir, create=True, clock=clock, retention=Retention(changes=6)) as writer:
        writer.submit(opening("o", PARENT, owner="w")).result()
        writer.submit(opening("c", CHILD, owner="long" * 100, parent_id=PARENT)).result()
        for _ in range(3):
            clock.advance(WEEK + 3_600_000)
            while writer.sweep().more:
                continue
        found = _entries(writer)
        traced = [each.owner for each in found if each.change is not None]
        kept = [key for key in _rows(writer) if key[:1] == layout.TRACE_PREFIX]
        for n in range(6):
            writer.submit(opening(f"later{n}")).result()
        assert writer.run(lambda group: verify(group.rows)).changes == 6
        assert [int.from_bytes(key, "big") for key in _rows(writer)] == [
            each.seq for each in _entries(writer, 6)
        ]

    assert len(found) == 6
    assert {(each.owner, each.ancestor_ids) for each in traced if each} == {("w", ()), ("", (PARENT,))}
    assert sorted(kept) == [layout.TRACE_PREFIX + CHILD, layout.TRACE_PREFIX + PARENT]


def test_the_place_of_each_revision_is_found(state_dir: Path, clock: FixedClock) -> None:
    """Exactly the later changes follow it; compacted and future revisions raise."""
    with StateWriter.open(state_dir, create=True, clock=clock, retention=Retention(changes=20)) as writer:
        feed = ChangeLog(writer.source())
        assert feed.seq_at(0) == 0
        for n in range(20):
            # Every third is refused.
            writer.submit(end_session(f"e{n}", PARENT) if n % 3 == 1 else opening(f"o{n}")).result()
        revisions = [each.result.revision for each in feed.entries(0) if each.result and each.change]
        for revision in range(feed.head().revision + 1):
            behind = feed.entries(feed.seq_at(revision))
            assert [each.result.revision for each in behind if each.result and each.change] == [
                each for each in revisions if each > revision
            ]
        for n in range(6):
            writer.submit(opening(f"m{n}")).result()
        oldest = next(each.result for each in feed.entries(6) if each.result)
        # The change behind it was refused.
        assert feed.seq_at(oldest.revision) == 8
        # The first change that is kept was applied, so nothing is missing behind the revision before it.
        assert feed.seq_at(oldest.revision - 1) == 6
        for revision, word in ((oldest.revision - 2, "COMPACTED"), (feed.head().revision + 1, "INVALID")):
            with pytest.raises(Rejected) as caught:
                feed.seq_at(revision)
            assert caught.value.word == word


def test_a_restored_log_has_no_results_of_another(state_dir: Path, tmp_path: Path) -> None:
    """Nothing of both histories is left but the new incarnation."""
    with StateWriter.open(state_dir, create=True) as writer:
        writer.submit(opening("o", PARENT)).result()
    backup(state_dir, tmp_path / "backup")
    with StateWriter.open(state_dir) as writer:
        writer.submit(opening("later")).result()
    head = restore(tmp_path / "backup", state_dir)
    with StateWriter.open(state_dir) as writer:
        (only,) = _entries(writer, head.seq - 1)
        assert len(_rows(writer)) == 1
        feed = ChangeLog(writer.source())
        with pytest.raises(Rejected, match="COMPACTED"):
            feed.seq_at(head.revision - 2)
        assert feed.seq_at(head.revision - 1) == head.seq - 1

    assert only.result is not None
    assert (only.result.incarnation, only.result.revision) == (head.incarnation, head.revision)
