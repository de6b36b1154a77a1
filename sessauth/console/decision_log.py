"""The latest records of this machine's audit, read as they are written; nothing is verified here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

from ..audit import layout
from ..audit.read.query import Entry, FolderReader, LoggedDecision, Query, find
from ..model.change import ChangeKind

# Decisions, and changes of sessions, that are held; older ones are in the log.
HELD: Final = 20_000
# At the beginning the end of each file is read, the newest files first.
FIRST_BYTES: Final = 4 * 1024 * 1024
STEP_BYTES: Final = 1024 * 1024
PAUSE_S: Final = 0.3
_LOG: Final = logging.getLogger("sessauth.console")
_NEEDLES: Final = (b'"kind":"decision"', b'"kind":"change"')
# What calls cost: one change for each call, and no step in the life of a session.
_COSTS: Final = (ChangeKind.CONSUME.value, ChangeKind.SETTLE_PERMIT.value)


@dataclass(frozen=True, slots=True)
class SessionRecords:
    """Decisions and changes of a session, each the newest first.

    None is missing from ``whole_since_ms`` on, ms since 1970. A decision may only claim to be of the session.
    """

    decisions: Sequence[Entry]
    changes: Sequence[Entry]
    whole_since_ms: int


class DecisionLog:
    """Follows the files of an audit folder."""

    def __init__(self, folder: Path) -> None:
        """Follow ``folder``; nothing is read yet."""
        self.folder = folder
        self.entries: deque[Entry] = deque(maxlen=HELD)
        self.changes: deque[Entry] = deque(maxlen=HELD)
        # From then on every decision of the folder is held, and every change; ms since 1970.
        self.whole_since_ms = 0
        self.changes_since_ms = 0
        # The cause of a folder that can't be read; empty if it can.
        self.fault = ""
        self._read_to: dict[Path, int] = {}

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow until cancelled; ``changed`` is called after new decisions."""
        while True:
            if await asyncio.to_thread(self.read):
                changed()
            await asyncio.sleep(PAUSE_S)

    def read(self) -> int:
        """Read the lines written since; return the number of new records."""
        first, fault = not self._read_to, ""
        try:
            files = [path for numbered in layout.files(self.folder).values() for path in numbered.values()]
            if first:
                files.sort(key=_written_ms, reverse=True)
        except OSError as error:
            self.fault = f"can't read {self.folder}: {error.strerror}"
            return 0
        found: list[Entry] = []
        for path in files:
            try:
                found += self._of_file(path, skip=first and len(found) >= HELD)
            except FileNotFoundError:
                # Retention removed it meanwhile.
                continue
            except OSError as error:
                fault = f"can't read {path}: {error.strerror}"
        self.fault = fault
        self._read_to = {path: self._read_to[path] for path in files if path in self._read_to}
        found.sort(key=lambda entry: entry.at_ms)
        decisions = [entry for entry in found if entry.kind == "decision"]
        changes = [entry for entry in found if entry.kind == "change" and _is_step(entry)]
        self.whole_since_ms = max(self.whole_since_ms, _hold(self.entries, decisions))
        self.changes_since_ms = max(self.changes_since_ms, _hold(self.changes, changes))
        return len(decisions) + len(changes)

    def allowed_calls(self, sessions: Collection[str], since_ms: int) -> Iterator[LoggedDecision]:
        """Yield the allowed calls of sessions, by their ids in hex, that are held, of that time on."""
        for entry in tuple(self.entries):
            record = entry.record
            if (
                record.get("session") in sessions
                and record.get("allowed") is True
                and entry.at_ms >= since_ms
            ):
                decision = LoggedDecision.of(record)
                if not decision.token_only:
                    yield decision

    def of_session(self, session: str) -> SessionRecords:
        """Return the records of a session, by its id in hex, that are held."""
        return _records(
            session,
            tuple(self.entries),
            tuple(self.changes),
            max(self.whole_since_ms, self.changes_since_ms),
        )

    def read_session(self, session: str) -> SessionRecords:
        """Return all records of a session; this reads the whole log. Raises StateUnusable."""
        found = sorted(find(FolderReader(self.folder), Query(session=session)), key=lambda entry: entry.at_ms)
        decisions = [entry for entry in found if entry.kind == "decision"]
        return _records(session, decisions, [entry for entry in found if entry.kind == "change"], 0)

    def find(self, query: Query, most: int) -> list[LoggedDecision]:
        """Return the latest decisions that match, the newest first, at most ``most``."""
        found: list[LoggedDecision] = []
        for entry in reversed(tuple(self.entries)):
            if query.matches(entry):
                found.append(LoggedDecision.of(entry.record))
                if len(found) == most:
                    break
        return found

    def _lacks_until(self, at_ms: int) -> None:
        self.whole_since_ms = max(self.whole_since_ms, at_ms + 1)
        self.changes_since_ms = max(self.changes_since_ms, at_ms + 1)

    def _of_file(self, path: Path, *, skip: bool) -> list[Entry]:
        """Return the lines written to a file since; of a file to ``skip`` none that it has now."""
        size = path.stat().st_size
        at = self._read_to.get(path, -1)
        if at < 0 and skip:
            self._lacks_until(_written_ms(path))
            self._read_to[path] = size
            return []
        begin = max(0, size - FIRST_BYTES) if at < 0 else at
        entries = list(self._entries(path, begin))
        if at < 0 and begin:
            self._lacks_until(entries[0].at_ms if entries else _written_ms(path))
        return entries

    def _entries(self, path: Path, at: int) -> Iterator[Entry]:
        stream, _ = layout.parse_name(path.name) or (b"", 0)
        with path.open("rb") as file:
            file.seek(at)
            # A first part that begins within a line has no record in that line.
            while chunk := file.read(STEP_BYTES):
                whole, _, _ = chunk.rpartition(b"\n")
                if not whole:
                    break
                at += len(whole) + 1
                file.seek(at)
                for line in whole.split(b"\n"):
                    if any(each in line for each in _NEEDLES) and (record := layout.parse(line)) is not None:
                        yield Entry(stream, path, 0, record)
        self._read_to[path] = at


def _hold(held: deque[Entry], found: Sequence[Entry]) -> int:
    """Add entries, by time, to those that are held; return from when on none was dropped."""
    dropped = islice(chain(held, found), max(0, len(held) + len(found) - HELD))
    since_ms = max((entry.at_ms for entry in dropped), default=-1) + 1
    held.extend(found)
    return since_ms


def _is_step(entry: Entry) -> bool:
    return entry.record.get("change") not in _COSTS


def _records(
    session: str, decisions: Sequence[Entry], changes: Sequence[Entry], whole_since_ms: int
) -> SessionRecords:
    claims = [
        entry for entry in decisions if session in (entry.record.get("session"), entry.record.get("claimed"))
    ]
    own = [entry for entry in changes if entry.record.get("session") == session and _is_step(entry)]
    return SessionRecords(claims[::-1], own[::-1], whole_since_ms)


def _written_ms(path: Path) -> int:
    return int(path.stat().st_mtime * 1000)
