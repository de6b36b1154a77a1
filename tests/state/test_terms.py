"""The index of sessions by subject, owner and label: it selects what a scan of all sessions does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.clock import FixedClock
from sessauth.errors import StateError, StateUnusable
from sessauth.model.change import Change, end_session, new_incarnation, purge_session, revoke, suspend_session
from sessauth.model.session import Session, SessionSelector, SessionStatus
from sessauth.state import layout
from sessauth.state.backup import backup_source, restore
from sessauth.state.integrity import verify
from sessauth.state.lmdb import terms
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.replication.snapshot import install
from sessauth.state.writer import state_writer
from sessauth.state.writer.group import Group
from sessauth.state.writer.state_writer import StateQueries, StateWriter
from tests.support.carried import begin_cluster
from tests.support.cases import examples
from tests.support.changes import NOW, opening
from tests.support.token_forger import id16

MAP = 16 << 20
IDS = sorted(id16(f"session {number}") for number in range(12))
LONG = "x" * 200
SUBJECTS, OWNERS = ("agent:a", LONG + "1", LONG + "2"), ("", "one", "two")
LABELS: tuple[dict[str, str], ...] = ({}, {"team": "a"}, {"team": "b", "ticket": "7"}, {"tea": "ma"})
SELECTORS = [
    SessionSelector.of(subject, owner, labels)
    for subject, owner, labels in product(("", *SUBJECTS), OWNERS, LABELS)
    if subject or owner or labels
]


def opened(folder: Path, **options: Any) -> StateWriter:
    """Open a folder for writing."""
    return StateWriter.open(folder, map_size=MAP, clock=FixedClock(NOW), **options)


def rows_of(queries: StateQueries) -> list[bytes]:
    """Return the keys of the index."""
    with queries._source.rows() as rows:
        return rows.keys_after(layout.TERMS, b"", 1_000_000)


def scanned(queries: StateQueries) -> list[bytes]:
    """Return the keys that the index must have, from the rows of all sessions."""
    with queries._source.rows() as rows:
        found = [(rows.session(each), rows.get(layout.SESSIONS, each)) for each in rows.session_ids()]
    keys = [key for session, row in found if session and row for key in terms.keys_of(session, row)]
    return sorted([terms.MADE, *keys])


def fits(selector: SessionSelector) -> Callable[[Session], bool]:
    """Return the filter of a selector."""
    return lambda session: selector.fits(session.subject, session.owner, session.labels)


def listed(queries: StateQueries, status: int, selector: SessionSelector, by: SessionSelector) -> list[bytes]:
    """Return the sessions that a selector fits, of those that the index has by ``by``, page by page."""
    ids: list[bytes] = []
    after, more = b"", True
    while more:
        page, after, more = queries.page_of_sessions(after, 2, fits(selector), status, by)
        ids += [session.id for session in page]
    return ids


def selected(queries: StateQueries, selector: SessionSelector, by: SessionSelector) -> list[bytes]:
    """Return the living sessions that a selector fits, of those that the index has by ``by``."""
    ids: list[bytes] = []
    after, more = b"", True
    while more:
        page, after, more = queries.page_of_living(after, 2, fits(selector), by)
        ids += page
    return ids


ANY = SessionSelector(all=True)


def hold(queries: StateQueries, step: int = 1) -> None:
    """Assert that the index is that of the rows, and that each selector selects what a scan does."""
    assert rows_of(queries) == scanned(queries)
    with queries._source.rows() as rows:
        verify.verify(rows)
    for selector in SELECTORS[::step]:
        assert selected(queries, selector, selector) == selected(queries, selector, ANY)
    for selector, status in product(SELECTORS[:: 5 * step], range(4)):
        assert listed(queries, status, selector, selector) == listed(queries, status, selector, ANY)


def open_all(writer: StateWriter) -> None:
    """Open twelve sessions; every third one is a child, two have ended."""
    for number, session_id in enumerate(IDS):
        change = opening(
            f"o{number}",
            session_id,
            subject=SUBJECTS[number % 3],
            owner=OWNERS[number // 2 % 3],
            labels=LABELS[number % 4],
            parent_id=IDS[number - 1] if number % 3 == 2 else b"",
        )
        assert writer.submit(change).result().applied
    for session_id in IDS[3:5]:
        assert writer.submit(end_session(f"e{session_id.hex()}", session_id)).result().applied


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state with these sessions."""
    with opened(tmp_path / "state", create=True) as writer:
        open_all(writer)
    return tmp_path / "state"


class Crash(Exception):
    """The end of a group before its commit."""


STEP = st.tuples(
    st.sampled_from(["open", "child", "end", "suspend", "revoke", "purge", "incarnation", "crash", "again"]),
    st.sampled_from(IDS),
    st.sampled_from(IDS),
    st.fixed_dictionaries(
        {
            "subject": st.sampled_from(SUBJECTS),
            "owner": st.sampled_from(OWNERS),
            "labels": st.sampled_from(LABELS),
        }
    ),
)


def change_of(
    kind: str, number: int, session_id: bytes, parent_id: bytes, given_terms: dict[str, Any]
) -> Change:
    """Return the change of a step."""
    name = f"{kind}{number}"
    match kind:
        case "open":
            return opening(name, session_id, **given_terms)
        case "child":
            return opening(name, session_id, parent_id=parent_id, **given_terms)
        case "end":
            return end_session(name, session_id)
        case "suspend":
            return suspend_session(name, session_id)
        case "revoke":
            return revoke(name, session_id, [number.to_bytes(32, "big")])
        case "purge":
            return purge_session(name, session_id)
    return new_incarnation(name, bytes([number]) * 16, NOW, "restored")


@settings(max_examples=examples(160), deadline=None)
@given(st.lists(STEP, max_size=25))
def test_it_is_that_of_a_scan(steps: list[tuple[str, bytes, bytes, dict[str, Any]]]) -> None:
    """The index is that of the rows, whatever changes, failed groups and new starts came before."""
    with tempfile.TemporaryDirectory() as place:
        writer = opened(Path(place) / "state", create=True)
        try:
            for number, (kind, session_id, parent_id, given_terms) in enumerate(steps):
                if kind == "again":
                    writer.close()
                    writer = opened(Path(place) / "state")
                elif kind == "crash":
                    with suppress(StateError):
                        writer.run(partial(crash, session_id=session_id))
                else:
                    writer.submit(change_of(kind, number, session_id, parent_id, given_terms)).result()
            assert rows_of(writer) == scanned(writer)
            hold(writer, 9)
        finally:
            writer.close()


def crash(group: Group, session_id: bytes) -> None:
    """End a session and open another one in a group that is never committed."""
    group.submit(end_session("never ended", session_id))
    group.submit(opening("never opened", id16("never")))
    raise Crash


def test_selections_are_those_of_a_scan(folder: Path) -> None:
    """One, several and long terms select the sessions that a scan of all does."""
    with opened(folder) as writer:
        hold(writer)
        assert selected(writer, SELECTORS[0], SELECTORS[0])


def test_no_other_session_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection reads sessions that live and have the rarest term, a list of the living too."""
    with opened(folder) as writer:
        for number in range(20):
            ended, other = id16(f"ended {number}"), id16(f"other {number}")
            writer.submit(opening(f"x{number}", ended, subject="agent:rare", owner="one")).result()
            writer.submit(end_session(f"y{number}", ended)).result()
            writer.submit(opening(f"z{number}", other, subject="agent:often", owner="one")).result()
        rare = id16("rare")
        writer.submit(opening("rare", rare, subject="agent:rare", owner="one")).result()
        read: list[bytes] = []
        find = state_writer.effective_status

        def counted(rows: TxnRows, session_id: bytes, now_ms: int) -> object:
            read.append(session_id)
            return find(rows, session_id, now_ms)

        monkeypatch.setattr(state_writer, "effective_status", counted)
        selector = SessionSelector.of("agent:rare", "one")
        assert selected(writer, selector, selector) == read == [rare]
        read.clear()
        assert listed(writer, SessionStatus.ACTIVE, selector, selector) == read == [rare]


def of_before(folder: Path, *, table: bool, damaged: bytes = b"") -> None:
    """Make it a folder of before the index, or one whose index is half made."""
    with opened(folder) as writer:
        source = writer.source()
        with source.env.begin(write=True) as txn:
            if table:
                txn.delete(terms.MADE, db=source.tables[layout.TERMS])
                txn.delete(scanned(writer)[0], db=source.tables[layout.TERMS])
                return
            txn.drop(source.tables[layout.TERMS], delete=True)
            head = replace(source.head(), format=layout.TERMS_FORMAT - 1)
            txn.put(layout.HEAD_KEY, head.encode(), db=source.tables[layout.META])
            if damaged:
                txn.put(damaged, b"\xff", db=source.tables[layout.SESSIONS])


@pytest.mark.parametrize("table", [False, True])
def test_a_folder_of_before_gets_it(folder: Path, table: bool) -> None:
    """A reader of a folder without the whole index scans; a writer that opens it makes the index."""
    of_before(folder, table=table)
    reader = StateReader.open(folder)
    queries = StateQueries(reader)
    for selector in SELECTORS:
        assert selected(queries, selector, selector) == selected(queries, selector, ANY)
    reader.close()
    with opened(folder) as writer:
        hold(writer)
        assert writer.head().format == layout.FORMAT


def test_a_restore_has_it(folder: Path, tmp_path: Path) -> None:
    """Restored from a backup, the sessions of the backup are in the index and no others."""
    with opened(folder) as writer:
        backup_source(writer.source(), tmp_path / "backup")
        writer.submit(opening("later", id16("later"), subject="agent:a")).result()
    restore(tmp_path / "backup", folder, map_size=MAP, clock=FixedClock(NOW))
    with opened(folder) as writer:
        assert id16("later") not in [session.id for session in writer.list_sessions()]
        hold(writer)


def test_a_damaged_folder_of_before(folder: Path, tmp_path: Path) -> None:
    """A session that can't be read keeps the folder from being opened, and not a backup from replacing it."""
    with opened(folder) as writer:
        backup_source(writer.source(), tmp_path / "backup")
    of_before(folder, table=False, damaged=IDS[0])
    with pytest.raises(StateUnusable) as refused, opened(folder):
        pass
    assert refused.value.problem == "CORRUPT" and IDS[0].hex() in str(refused.value)
    restore(tmp_path / "backup", folder, force=True, map_size=MAP, clock=FixedClock(NOW))
    with opened(folder) as writer:
        hold(writer, 9)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_snapshot_brings_it(tmp_path: Path, earlier: bool) -> None:
    """A host that joins has the index of the sessions, by a snapshot of an earlier build too."""
    _, (one, two) = begin_cluster(tmp_path, FixedClock(NOW), ("one", "two"))
    open_all(one.writer)
    with one.writer.source().rows() as rows:
        if earlier:
            rows.tables = {name: handle for name, handle in rows.tables.items() if name != layout.TERMS}
        two.writer.run(lambda group: install(group, rows))
    hold(two.writer, 9)
    assert rows_of(two.writer) == rows_of(one.writer)
    one.writer.close()
    two.writer.close()


DAMAGES: dict[str, Callable[[TxnRows], None]] = {
    "missing": lambda rows: rows.delete(layout.TERMS, rows.keys_after(layout.TERMS, b"", 9)[2]),
    "another life": lambda rows: rows.put(
        layout.TERMS, terms.terms_of(SUBJECTS[0], "", {})[0] + terms.ENDED + IDS[0], b""
    ),
    "another term": lambda rows: rows.put(layout.TERMS, bytes(16) + terms.LIVING + IDS[0], b""),
    "no session": lambda rows: rows.put(layout.TERMS, b"\xff" * 33, b""),
    "no key": lambda rows: rows.put(layout.TERMS, b"x", b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("step", [3, 512])
def test_a_wrong_row_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str, step: int) -> None:
    """A row that is missing, and one that no session has, are found, in one read and in steps."""
    monkeypatch.setattr(verify, "TERMS_A_STEP", step)
    with opened(folder) as writer:
        source = writer.source()
        checked = verify.Verification(source)
        assert checked.work(60.0)
        with source.env.begin(write=True) as txn:
            DAMAGES[damage](TxnRows(txn, source.tables))
        with source.rows() as rows, pytest.raises(StateUnusable, match="index"):
            verify.verify(rows)
        with pytest.raises(StateUnusable, match="index"):
            verify.Verification(source).work(60.0)
