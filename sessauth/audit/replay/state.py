"""The recorded state of an audit folder: read once, and rebuilt at each revision that a decision used.

:class:`ReplayReader` reads the folder once: its changes, its chains, and the places of its decisions.
:class:`ReplayedState` applies the changes, and tells which parts of the state are known.

Decisions are ordered by the state that they used, not as they were written: a folder has streams of several
processes, and a change may be written after decisions by it. A restored state goes on from an earlier one, so
each incarnation has a history of its own.
"""

from __future__ import annotations

import base64
import binascii
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Final

from ... import limits
from ..._fast._check import WireError
from ...crypto.keys import KeyRecord, KeyStatus
from ...model.change import Change, ChangeKind, Head
from ...state import layout
from ...state.rules.apply import apply
from ...state.rules.effects import Put
from .. import layout as audit_layout
from .report import MemoryRows, ReplayFault, ReplayFinding, ReplayReport, Standing

# Quotes inside a JSON text are escaped, so the later patterns match none.
_KIND: Final = re.compile(rb'\{"n":[0-9]{1,16},"kind":"([a-z_]{1,32})"')
_REVISION: Final = re.compile(rb'"revision":([0-9]{1,16})[,}]')
_BLOCKS: Final = re.compile(rb'"blocks":\[("[0-9a-f",]*")\]')
_TOKEN: Final = re.compile(rb'"token":"([0-9a-f]{32})"')
_OFFSET_BITS: Final = 40
# The decisions of one revision lie in as many files as there are processes.
_OPEN_FILES: Final = 64
UNKNOWN: Final = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class LinePlace:
    """The place of a record: a file, and the offset of its line in bytes."""

    file: int
    offset: int


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """One recorded change: its number, the revision after it, its outcome's word, its bytes.

    Revision 0 and outcome UNKNOWN: the follower did not know the result.
    """

    seq: int
    revision: int
    outcome: str
    body: bytes
    id: str
    at_ms: int
    place: LinePlace

    @property
    def applied(self) -> bool:
        """True unless it is known to be rejected."""
        return self.outcome in ("APPLIED", UNKNOWN)


@dataclass(slots=True)
class History:
    """The changes of one incarnation by number, and its decisions by revision."""

    changes: dict[int, ChangeRecord] = field(default_factory=dict)
    revisions: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q"))

    def decisions(self) -> Iterator[tuple[int, LinePlace]]:
        """Yield revision and place of each decision, the earliest state first."""
        for i in sorted(range(len(self.revisions)), key=self.revisions.__getitem__):
            place = self.places[i]
            yield self.revisions[i], LinePlace(place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1))


class AuditFolder:
    """The open files of audit folders, as a context manager; processes may be writing there."""

    def __init__(self, *folders: Path) -> None:
        """List the files. Raises OSError if a folder can't be read."""
        self.paths = [
            path
            for folder in folders
            for files in audit_layout.files(folder).values()
            for path in files.values()
        ]
        # With several folders the name of a file does not say where it lies.
        self._name_of = str if len(folders) > 1 else attrgetter("name")
        self._open: dict[int, BinaryIO] = {}

    def line(self, place: LinePlace) -> bytes:
        """Return the line that begins at a place. Raises OSError."""
        file = self._file(place.file)
        file.seek(place.offset)
        return file.readline()

    def line_number(self, place: LinePlace) -> int:
        """Return the number of that line in its file, from 1. Raises OSError."""
        file = self._file(place.file)
        file.seek(0)
        return file.read(place.offset).count(b"\n") + 1

    def lines(self, file: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of each whole line of a file. Raises OSError."""
        offset = 0
        with self.paths[file].open("rb") as lines:
            for line in lines:
                # A killed process may leave half a line.
                if line.endswith(b"\n"):
                    yield offset, line
                offset += len(line)

    def finding(self, place: LinePlace, kind: Standing | ReplayFault, why: str, **rest: Any) -> ReplayFinding:
        """Return a finding about the record at a place; ``rest`` are its other fields. Raises OSError."""
        numbered = audit_layout.NUMBERED.match(self.line(place))
        return ReplayFinding(
            kind=kind,
            file=self._name_of(self.paths[place.file]),
            line=self.line_number(place),
            n=-1 if numbered is None else int(numbered[1]),
            why=why,
            **rest,
        )

    def _file(self, number: int) -> BinaryIO:
        file = self._open.get(number)
        if file is None:
            if len(self._open) >= _OPEN_FILES:
                self._close()
            file = self._open[number] = self.paths[number].open("rb")
        return file

    def _close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def __enter__(self) -> AuditFolder:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._close()


class ReplayReader:
    """Reads a folder once; then has its histories, its chains by their ids, and the chain of each token."""

    def __init__(self, folder: AuditFolder, report: ReplayReport, session_id: bytes = b"") -> None:
        """Read the decisions of one session, or of all."""
        self.folder = folder
        self.histories: dict[tuple[str, str], History] = {}
        self.chains: dict[str, tuple[bytes, ...]] = {}
        self.chain_places: dict[str, LinePlace] = {}
        self.tokens: dict[bytes, str] = {}
        self._other_chains: list[tuple[bytes, str]] = []
        self._report = report
        session = session_id.hex().encode()
        self._wanted = re.compile(rb'"(?:session|claimed)":"' + session) if session else None
        of_stream: dict[str, History] = {}
        for number, path in enumerate(folder.paths):
            stream = path.name.partition("-")[0]
            of_stream[stream] = self._read_file(number, of_stream.get(stream))
        for token, name in self._other_chains:
            # A token has one chain: the recorded one.
            if self.tokens[token] not in self.chains and name in self.chains:
                self.tokens[token] = name

    def _read_file(self, file: int, history: History | None) -> History:
        """Read one file; ``history`` is that of its stream's files before it."""
        history = history if history is not None else self._history("", "")
        for offset, line in self.folder.lines(file):
            match = _KIND.match(line)
            if match is None:
                self._report.unreadable += 1
                continue
            kind = match[1]
            if kind == b"decision":
                self._add_decision(history, line, file, offset)
            elif kind in (b"begin", b"chain", b"change"):
                record = audit_layout.parse(line)
                try:
                    if record is None:
                        raise ValueError("no record")
                    if kind == b"begin":
                        history = self._history(str(record["cluster"]), str(record["incarnation"]))
                    elif kind == b"chain":
                        self._add_chain(record, LinePlace(file, offset))
                    else:
                        self._add_change(history, record, LinePlace(file, offset))
                except (KeyError, TypeError, ValueError):
                    self._report.unreadable += 1
        return history

    def _history(self, cluster: str, incarnation: str) -> History:
        return self.histories.setdefault((cluster, incarnation), History())

    def _add_decision(self, history: History, line: bytes, file: int, offset: int) -> None:
        token, blocks = _TOKEN.search(line), _BLOCKS.search(line)
        if token is not None and blocks is not None:
            name = blocks[1].replace(b'"', b"").decode()
            if self.tokens.setdefault(token[1], name) != name:
                self._other_chains.append((token[1], name))
        if self._wanted is not None and self._wanted.search(line) is None:
            return
        revision = _REVISION.search(line)
        history.revisions.append(int(revision[1]) if revision is not None else 0)
        history.places.append(file << _OFFSET_BITS | offset)

    def _add_chain(self, record: dict[str, Any], place: LinePlace) -> None:
        blocks = record["blocks"]
        name = ",".join(block["id"] for block in blocks)
        payloads = tuple(_base64(block["payload"]) for block in blocks)
        if self.chains.setdefault(name, payloads) != payloads:
            why = "another chain of these ids comes before it"
            self._contradiction(ReplayFault.TWO_CHAINS, record, place, name, why)
            return
        self.chain_places.setdefault(name, place)

    def _add_change(self, history: History, record: dict[str, Any], place: LinePlace) -> None:
        change = ChangeRecord(
            int(record["seq"]),
            int(record["revision"]),
            str(record["outcome"]),
            _base64(record["body"]),
            str(record["id"]),
            int(record["at_ms"]),
            place,
        )
        known = history.changes.setdefault(change.seq, change)
        if known.body != change.body:
            why = f"another change {change.seq} comes before it"
            self._contradiction(ReplayFault.TWO_CHANGES, record, place, change.id, why)
        elif not known.revision:
            history.changes[change.seq] = change

    def _contradiction(
        self, kind: ReplayFault, record: dict[str, Any], place: LinePlace, record_id: str, why: str
    ) -> None:
        at_ms, session = int(record.get("at_ms", 0)), str(record.get("session", ""))
        self._report.add(self.folder.finding(place, kind, why, id=record_id, at_ms=at_ms, session=session))


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error


_OF_KEYS = (ChangeKind.ADD_KEY, ChangeKind.SET_KEY_STATUS)
# No decision depends on them.
_OF_NO_DECISION = (
    ChangeKind.ADD_CREDENTIAL,
    ChangeKind.REMOVE_CREDENTIAL,
    ChangeKind.BAN_SESSIONS,
    ChangeKind.CUT_LOGINS,
)
# Called with the record of a change whose result differs, and the result.
Complaint = Callable[[ChangeRecord, str], None]


class ReplayedState:
    """A state that advances from revision to revision.

    A log that is complete from its first change gives the whole state. One that begins later, or has a gap,
    gives the sessions that were opened since; the others are unknown.
    """

    def __init__(self, history: History, complain: Complaint) -> None:
        """Begin before the first change of a history."""
        self._changes = _with_revisions([history.changes[seq] for seq in sorted(history.changes)])
        self._at = 0
        self._complain = complain
        # The parent of each session that was opened, or nothing.
        self._opened: dict[bytes, bytes] = {}
        self._doubtful: set[bytes] = set()
        # Changes without a recorded revision.
        self._guessed = {change.seq for change in history.changes.values() if not change.revision}
        first = self._changes[0] if self._changes else None
        self.whole = first is not None and first.seq == 1
        self.keys_known = self.whole
        self.last_revision = max((change.revision for change in self._changes), default=0)
        head = Head(
            layout.FORMAT,
            layout.MIN_READER_FORMAT,
            bytes(16),
            # Any incarnation; a change that begins the history's own may be among these.
            bytes(16),
            # Without changes no revision matches.
            revision=limits.MAX_TIME_MS if first is None else first.revision - first.applied,
            seq=0 if first is None else first.seq - 1,
            digest=bytes(32),
        )
        self.rows = MemoryRows(head)

    def stands_at(self, revision: int) -> bool:
        """Return True if it is at just this revision: the log has the changes up to it."""
        return self.rows.current.revision == revision

    def knows(self, session_id: bytes) -> bool:
        """Return True if a session and its ancestors are as the log says, or known not to exist."""
        if self.whole and not self._doubtful:
            return True
        for _ in range(limits.MAX_ANCESTORS + 2):
            if session_id in self._doubtful:
                return False
            parent_id = self._opened.get(session_id)
            if not parent_id:
                return self.whole or parent_id is not None
            session_id = parent_id
        return False

    def has(self, session_id: bytes) -> bool:
        """Return True if there is such a session."""
        return self.rows.get(layout.SESSIONS, session_id) is not None

    def advance(self, revision: int) -> None:
        """Apply every change up to a revision, which is not before the current one."""
        while self._at < len(self._changes) and self._changes[self._at].revision <= revision:
            record = self._changes[self._at]
            self._at += 1
            if record.seq != self.rows.current.seq + 1:
                self._forget(record.seq - 1, record.revision - record.applied)
            self._apply(record)

    def _forget(self, seq: int, revision: int) -> None:
        """Drop everything and go on: any row may have changed."""
        self.whole = self.keys_known = False
        self._opened.clear()
        self.rows.forget()
        head = self.rows.current
        # A view must read its keys again.
        generation = head.keys_generation + 1
        self.rows.move(replace(head, seq=seq, revision=revision, keys_generation=generation))

    def _apply(self, record: ChangeRecord) -> None:
        try:
            change = Change.decode(record.body)
        except WireError as error:
            self._complain(record, f"no change of this version: {error}")
            self._doubt(record, None)
            return
        if not self._can_evaluate(change):
            self._follow(record)
            return
        if not self.whole and change.kind is ChangeKind.SET_KEY_STATUS and record.applied:
            self._assume_key(change)
        applied = apply(self.rows, change)
        word = applied.outcome.rejection or "APPLIED"
        same = record.outcome in (word, UNKNOWN) and applied.head.revision == record.revision
        if not same and not self.whole and change.kind in (*_OF_KEYS, *_OF_NO_DECISION):
            # The key, the credential or the ban is older than the log.
            self._follow(record)
            return
        if not same:
            if record.seq not in self._guessed:
                self._complain(record, f"{word} at revision {applied.head.revision}")
            self._doubt(record, change)
            return
        self.rows.perform(applied.writes)
        self.rows.move(applied.head)
        if change.kind is ChangeKind.OPEN_SESSION and record.applied:
            self._opened[change.session_id] = _parent_of(change)

    def _can_evaluate(self, change: Change) -> bool:
        """Return True if everything that a change depends on is known."""
        if self.whole:
            return change.session_id not in self._doubtful
        if change.kind is ChangeKind.OPEN_SESSION:
            parent_id = _parent_of(change)
            return not parent_id or self.knows(parent_id)
        return not change.session_id or self.knows(change.session_id)

    def _assume_key(self, change: Change) -> None:
        """Add a row for a key older than the log: its owner is unknown, its status is known from now on."""
        key_id = change.body.get("key_id", b"")
        if isinstance(key_id, bytes) and len(key_id) == 32 and self.rows.key(key_id) is None:
            key = KeyRecord(key_id, bytes(32), KeyStatus.PREPARED)
            self.rows.perform((Put(layout.KEYS, key_id, key.encode()),))

    def _follow(self, record: ChangeRecord) -> None:
        """Move to a change's revision without its effects."""
        self.rows.move(replace(self.rows.current, seq=record.seq, revision=record.revision))

    def _doubt(self, record: ChangeRecord, change: Change | None) -> None:
        """Mark the subject of a change as unknown."""
        if change is None or not (
            change.session_id or change.kind in _OF_KEYS or change.kind in _OF_NO_DECISION
        ):
            self._forget(record.seq, record.revision)
            return
        if change.session_id:
            self._doubtful.add(change.session_id)
        elif change.kind in _OF_KEYS:
            self.keys_known = False
        self._follow(record)


def _with_revisions(changes: list[ChangeRecord]) -> list[ChangeRecord]:
    """Return changes with unknown revisions filled in from their neighbours."""
    filled = list(changes)
    for i, change in enumerate(filled):
        before = filled[i - 1] if i else None
        if not change.revision and before is not None and before.revision and before.seq == change.seq - 1:
            filled[i] = replace(change, revision=before.revision + change.applied)
    for i in range(len(filled) - 2, -1, -1):
        following = filled[i + 1]
        if not filled[i].revision and following.revision and following.seq == filled[i].seq + 1:
            filled[i] = replace(filled[i], revision=following.revision - following.applied)
    return filled


def _parent_of(change: Change) -> bytes:
    parent_id = change.body.get("parent_id", b"")
    return parent_id if isinstance(parent_id, bytes) else b""
