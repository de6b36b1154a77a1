"""The story of one session over the audit logs of several hosts, and the records that contradict its end.

An operator has collected the hosts' audit folders. Times are the hosts' own wall clocks, but a change has the
leader's time on every host. So a decision by the state after a change shows a lower bound of the time by
which its host's clock is behind the leader's.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ...errors import StateUnusable
from ...model.change import Change, ChangeKind
from .. import layout
from .query import Entry, FolderReader, Query, find

AUDIT: Final = "audit"
STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class AuditHost:
    """One host's audit folder, and its state folder if that lies beside it.

    The name is the one in its records, else that of the folder.
    """

    name: str
    folder: Path
    state_dir: Path | None = None


def audit_hosts(folders: Sequence[Path]) -> list[AuditHost]:
    """Return the hosts of folders, by name.

    A folder holds streams itself, or it is a home with ``audit`` and ``state`` in it, or it holds such
    folders, one for each host: then each of its folders counts, also one without a stream. If two folders
    have one name, the folder's path is appended. Raises StateUnusable MISSING if a folder can't be read.
    """
    try:
        found = [host for folder in folders for host in _hosts_in(folder)]
    except OSError as error:
        raise StateUnusable(layout.unreadable(error, error.filename), "MISSING") from None
    found = list({host.folder.resolve(): host for host in found}.values())
    names = Counter(host.name for host in found)
    return sorted(
        (
            replace(host, name=f"{host.name} ({host.folder})") if names[host.name] > 1 else host
            for host in found
        ),
        key=lambda host: host.name,
    )


def _hosts_in(folder: Path) -> list[AuditHost]:
    own = _host_of(folder)
    if own is not None:
        return [own]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    # One without a stream is one whose log was removed, or that recorded nothing: not to be passed over.
    return [_host_of(path) or AuditHost(path.name, path) for path in inside] or [
        AuditHost(folder.name, folder)
    ]


def _host_of(folder: Path) -> AuditHost | None:
    """Return the host of a folder with streams, or of a home; None for another folder."""
    if any(folder.glob("*.jsonl")):
        named = folder.parent if folder.name == AUDIT else folder
        return AuditHost(_name(folder, named.name), folder)
    if not (folder / AUDIT).is_dir():
        return None
    state = folder / STATE
    return AuditHost(_name(folder / AUDIT, folder.name), folder / AUDIT, state if state.is_dir() else None)


def _name(folder: Path, default: str) -> str:
    """Return the name of the host in the records of a folder."""
    for files in layout.files(folder).values():
        with min(files.items())[1].open("rb") as file:
            begin = layout.parse(file.readline(65_536)) or {}
        name = begin.get("host")
        if isinstance(name, str) and name:
            return name
    return default


# Hosts of a cluster whose clocks differ by more allow nothing.
CLOCK_MS: Final = 2_000
_APPLIED: Final = "APPLIED"
_ENDS: Final = (ChangeKind.END_SESSION.value, ChangeKind.NEW_INCARNATION.value)


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The change that ended a session: its number, the revision after it, and its time at the leader in ms.

    ``session`` is the ended one, hex: an ancestor ends with all that descends from it.
    """

    seq: int
    revision: int
    at_ms: int
    change: str
    session: str


@dataclass(slots=True)
class HostStory:
    """One host's part: its calls of the session, and how far its clock is off at least, in ms.

    ``behind_ms``: it decided by a change before the change was made. ``ahead_ms``: it decided without a
    change longer than the bound after that was made; then its clock is ahead, or it decided late.
    """

    host: AuditHost
    allowed: int = 0
    denied: int = 0
    last_allow_ms: int = 0
    latest_ms: int = 0
    lost: int = 0
    behind_ms: int = 0
    ahead_ms: int = 0
    passed_over: int = 0


@dataclass(slots=True)
class SessionStory:
    """The records of a session over all hosts by time, and the allows that its end does not admit.

    ``end`` is None if no log holds it.
    """

    session_id: bytes
    entries: list[Entry] = field(default_factory=list)
    hosts: list[HostStory] = field(default_factory=list)
    end: SessionEnd | None = None
    survived: list[Entry] = field(default_factory=list)
    # Allowed within the bound after the end.
    within: int = 0


def read_story(hosts: Sequence[AuditHost], session_id: bytes, bound_ms: int) -> SessionStory:
    """Read the story of a session (16 bytes) out of the logs of its hosts.

    A host may allow for ``bound_ms`` after the end, and its clock may differ by :data:`CLOCK_MS`; an allow
    later than that, or by the state after the end, survived. Raises StateUnusable if a folder can't be read.
    """
    story = SessionStory(session_id)
    changes = _Changes()
    for host in hosts:
        part = HostStory(host)
        reading = FolderReader(host.folder, host.name)
        for entry in find(reading, Query(session=session_id.hex())):
            story.entries.append(entry)
            _count(part, entry, session_id)
        for entry in reading.entries(b'"kind":"lost"'):
            part.lost += 1
            part.latest_ms = max(part.latest_ms, entry.at_ms)
        for entry in reading.entries(b'"kind":"change"'):
            changes.add(entry.record)
        part.passed_over = reading.passed_over
        story.hosts.append(part)
    story.entries = _once(sorted(story.entries, key=lambda entry: (entry.at_ms, entry.host)))
    story.end = changes.end_of(session_id.hex())
    by_name = {part.host.name: part for part in story.hosts}
    for entry in story.entries:
        if entry.kind == "decision" and entry.record.get("session") == session_id.hex():
            _compare(story, by_name[entry.host], entry, changes, bound_ms)
    return story


def _count(part: HostStory, entry: Entry, session_id: bytes) -> None:
    if entry.kind != "decision" or entry.record.get("session") != session_id.hex():
        return
    if entry.record.get("allowed") is True:
        part.allowed += 1
        part.last_allow_ms = max(part.last_allow_ms, entry.at_ms)
    else:
        part.denied += 1


def _once(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with each change once: every host's control process records it."""
    changes: set[tuple[object, object]] = set()
    found = []
    for entry in entries:
        if entry.kind == "change":
            change = entry.record.get("seq"), entry.record.get("id")
            if change in changes:
                continue
            changes.add(change)
        found.append(entry)
    return found


def _compare(story: SessionStory, part: HostStory, entry: Entry, changes: _Changes, bound_ms: int) -> None:
    """Compare a decision with the end and with the changes around its revision."""
    revision = _number(entry.record.get("revision"))
    made_ms, next_ms = changes.at_ms.get(revision, 0), changes.at_ms.get(revision + 1, 0)
    if made_ms:
        part.behind_ms = max(part.behind_ms, made_ms - entry.at_ms)
    if next_ms:
        part.ahead_ms = max(part.ahead_ms, entry.at_ms - next_ms - bound_ms)
    if story.end is None or entry.record.get("allowed") is not True:
        return
    if revision >= story.end.revision or entry.at_ms > story.end.at_ms + bound_ms + CLOCK_MS:
        story.survived.append(entry)
    elif entry.at_ms > story.end.at_ms:
        story.within += 1


class _Changes:
    """Ends, ancestors and times, by the changes of all hosts."""

    def __init__(self) -> None:
        # The time of the change that led to a revision.
        self.at_ms: dict[int, int] = {}
        self._parents: dict[str, str] = {}
        self._opened: dict[str, int] = {}
        self._ends: dict[str, SessionEnd] = {}
        self._restored: list[SessionEnd] = []

    def add(self, record: dict[str, Any]) -> None:
        if record.get("outcome") != _APPLIED:
            return
        revision, seq = _number(record.get("revision")), _number(record.get("seq"))
        at_ms = _number(record.get("changed_ms")) or _number(record.get("at_ms"))
        if revision:
            self.at_ms[revision] = at_ms
        change, session = str(record.get("change")), str(record.get("session"))
        if change == ChangeKind.OPEN_SESSION.value:
            self._opened[session] = seq
            self._parents[session] = _parent(str(record.get("body")))
        elif change in _ENDS:
            end = SessionEnd(seq, revision, at_ms, change, session)
            if change == ChangeKind.END_SESSION.value:
                self._ends.setdefault(session, end)
            else:
                self._restored.append(end)

    def end_of(self, session: str) -> SessionEnd | None:
        """Return the first change that ended a session, by itself or with an ancestor."""
        opened = self._opened.get(session, 0)
        found = [end for end in self._restored if end.seq > opened]
        members: set[str] = set()
        while session and session not in members:
            members.add(session)
            if session in self._ends:
                found.append(self._ends[session])
            session = self._parents.get(session, "")
        return min(found, key=lambda end: end.seq, default=None)


def _parent(body: str) -> str:
    """Return the parent in the recorded body of an opening, hex; empty if it has none, or can't be read."""
    try:
        parent = Change.decode(base64.b64decode(body, validate=True)).body.get("parent_id", b"")
    except ValueError:
        return ""
    return parent.hex() if isinstance(parent, bytes) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
