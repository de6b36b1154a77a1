"""Removes old files of an audit folder, and records each in the audit before it goes.

Only files with a signed end go, the oldest of a stream first. A record names the file's stream, its number,
its lines and the chain of the last one, so that verification can tell the removal from an unrecorded one.
The signature of the end is verified before: else a forged end would make the log sign another's removal.
Records that verification still needs are carried into the newest stream before their file goes.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..._fast import _codec as codec
from ...crypto.pem import sync_path
from .. import layout
from ..layout import AuditKey, checkpoint_fault
from ..verify.lines import FindingKind, VerificationFinding
from ..verify.stream import StreamCheck
from .stream import AuditStream, last_line

KIND: Final = "expired"
DAY_MS: Final = 86_400_000
CHECK_MS: Final = 60_000
# Files that one pass removes: later ones go with the next pass.
MAX_FILES: Final = 64
# Has the end of a file and its checkpoint.
_TAIL_BYTES: Final = 4_096
# The chain in a line, without a line feed.
_CHAIN: Final = slice(-66, -2)
# Fields that a line adds to its body.
_OF_LINES: Final = ("n", "kind", "chain")
_CARRIED: Final = (f',"kind":"{KIND}",'.encode(), b',"kind":"stream",')
# The kind follows the number, which has 16 digits at most.
_KIND_WITHIN: Final = 48
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """A file that is never written again: its place, its size, and its last line.

    ``count`` is the number of lines of the stream up to its end, ``head`` the chain of the last one, ``last``
    True for the last file of a stream.
    """

    path: Path
    stream: bytes
    number: int
    size: int
    at_ms: int
    count: int
    head: str
    last: bool

    def body(self, now_ms: int, why: str) -> bytes:
        """Return the body of the record of its removal."""
        return layout.body(
            KIND,
            {
                "at_ms": now_ms,
                "stream": self.stream.hex(),
                "file": self.number,
                "count": self.count,
                "head": self.head,
                "last": self.last,
                "bytes": self.size,
                "ended_ms": self.at_ms,
                "why": why,
            },
        )


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """The limits of a folder; 0: none. A file goes when any of them is exceeded."""

    days: int = 0
    total_bytes: int = 0
    files: int = 0

    def __bool__(self) -> bool:
        """Return True if there is a limit."""
        return bool(self.days or self.total_bytes or self.files)


class AuditRetention:
    """Applies limits to an audit folder. Used by the thread of the stream that records the removals."""

    def __init__(
        self, folder: Path, limits: RetentionLimits, keys: Mapping[bytes, bytes] | None = None
    ) -> None:
        """Remove nothing yet. ``keys`` are those that signed the log before, by id; they may grow."""
        self._folder = folder
        self._limits = limits
        self._keys = {} if keys is None else keys
        self._next_ms: int | None = None
        # Closed files don't change.
        self._known: dict[Path, ClosedFile] = {}

    def apply(self, stream: AuditStream, now_ms: int, steady_ms: int) -> None:
        """Once a minute, record in ``stream`` the files that are due, and remove them.

        Raises OSError if they can't be recorded; then none is removed.
        """
        if not self._limits or (self._next_ms is not None and steady_ms < self._next_ms):
            return
        self._next_ms = steady_ms + CHECK_MS
        due = list(self.due(now_ms))[:MAX_FILES]
        bodies, going = self._records(due, stream.key, now_ms)
        if not going:
            return
        # Signed and on the disk before a file goes.
        stream.append_signed(bodies, now_ms)
        for file in going:
            try:
                file.path.unlink(missing_ok=True)
            except OSError as error:
                # It is recorded and removed again by a later pass. The later ones stay.
                _log.warning("audit: %s was not removed: %s", file.path, error.strerror)
                return
            self._known.pop(file.path, None)
        with contextlib.suppress(OSError):
            sync_path(self._folder)

    def _records(
        self, due: Sequence[tuple[ClosedFile, str]], key: AuditKey, now_ms: int
    ) -> tuple[bytes, list[ClosedFile]]:
        """Return the records for files that go, those that they carry included, and the files."""
        bodies: list[bytes] = []
        going: list[ClosedFile] = []
        damaged: set[bytes] = set()
        first = {stream: min(files) for stream, files in layout.files(self._folder).items()}
        keys = {**self._keys, key.key_id: key.public_key}
        for file, why in due:
            if file.stream in damaged:
                continue
            carried = _carried(file, keys, first, now_ms) if _is_ended(file, keys) else None
            if carried is None:
                # Its removal, or data copied from it, would be signed. And the file is evidence.
                damaged.add(file.stream)
                _log.error("audit: %s is not what was written, so it is not removed", file.path)
                continue
            going.append(file)
            bodies += [file.body(now_ms, why), *carried]
        return b"".join(bodies), going

    def due(self, now_ms: int) -> Iterator[tuple[ClosedFile, str]]:
        """Yield files to remove, the oldest first, each with the setting that it exceeds. Raises OSError."""
        streams = layout.files(self._folder)
        sizes = {path: path.stat().st_size for files in streams.values() for path in files.values()}
        total, number = sum(sizes.values()), len(sizes)
        first = {stream: list(files) for stream, files in streams.items()}
        for file in sorted(self._closed(streams, sizes), key=lambda file: (file.at_ms, file.number)):
            why = self._exceeded(file, now_ms, total, number)
            # A stream is removed from its beginning.
            if not why or first[file.stream][0] != file.number:
                continue
            first[file.stream].pop(0)
            total, number = total - file.size, number - 1
            yield file, why

    def _exceeded(self, file: ClosedFile, now_ms: int, total: int, number: int) -> str:
        limits = self._limits
        if limits.days and file.at_ms < now_ms - limits.days * DAY_MS:
            return "audit.keep_days"
        if limits.total_bytes and total > limits.total_bytes:
            return "audit.keep_bytes"
        return "audit.keep_files" if limits.files and number > limits.files else ""

    def _closed(self, streams: dict[bytes, dict[int, Path]], sizes: dict[Path, int]) -> Iterator[ClosedFile]:
        for stream, files in streams.items():
            newest = max(files)
            for number, path in files.items():
                known = self._known.get(path)
                if known is None or known.size != sizes[path]:
                    known = _closed_file(stream, number, path, sizes[path], newest=number == newest)
                if known is not None:
                    self._known[path] = known
                    yield known


def _closed_file(stream: bytes, number: int, path: Path, size: int, *, newest: bool) -> ClosedFile | None:
    """Return a file that has its signed end; None for any other."""
    try:
        records = _last_records(path)
        head = last_line(number, path)
    except OSError:
        return None
    if head is None or len(records) < 2 or records[-1].get("kind") != "checkpoint":
        return None
    following = records[-2].get("next")
    if records[-2].get("kind") != "end" or not isinstance(following, int) or newest != (following == -1):
        return None
    at_ms = records[-1].get("at_ms")
    if not isinstance(at_ms, int):
        return None
    return ClosedFile(path, stream, number, size, at_ms, head.count, head.chain, newest)


def _is_ended(file: ClosedFile, keys: Mapping[bytes, bytes]) -> bool:
    """Return True if the last lines of a file are its end and a signature of it. Raises OSError."""
    with file.path.open("rb") as opened:
        opened.seek(max(0, file.size - _TAIL_BYTES))
        before, *ending = opened.read().split(b"\n")[-4:-1]
    records = [layout.parse(line) or {} for line in ending]
    try:
        previous, head = (bytes.fromhex(line[_CHAIN].decode("ascii")) for line in (before, ending[0]))
        following = file.number + 1 if not file.last else -1
        return (
            (records[0]["n"], records[0]["kind"], records[0]["next"]) == (file.count - 2, "end", following)
            and codec.link(ending[0][: -layout.TAIL_BYTES], previous) == head
            and not checkpoint_fault(records[1], file.stream, file.count - 1, head, keys)
            and (records[1]["at_ms"], records[1]["chain"]) == (file.at_ms, file.head)
            and codec.link(ending[1][: -layout.TAIL_BYTES], head).hex() == file.head
        )
    except (ValueError, KeyError, IndexError):
        return False


def _carried(
    file: ClosedFile, keys: Mapping[bytes, bytes], first: Mapping[bytes, int], now_ms: int
) -> list[bytes] | None:
    """Return the records in a file that verification still needs, dated ``now_ms``.

    They are ends of streams that are still there, removals of whole streams, and removals of the file before
    a stream's first one, whose number ``first`` has. None if there are such records and the file was changed.
    """
    data = file.path.read_bytes()
    lines = [line for line in data.split(b"\n") if any(mark in line[:_KIND_WITHIN] for mark in _CARRIED)]
    if not lines:
        return []
    check = StreamCheck(file.stream, {file.number: file.path}, keys, sys.maxsize)
    for _ in check.run():
        pass
    faults = [finding for finding in check.findings if not finding.is_note and not _is_cut(finding, file)]
    if faults or check.state.head != file.head:
        return None
    # Of a stream's recorded ends the last one covers the most.
    needed: dict[tuple[object, ...], dict[str, object]] = {}
    for record in filter(None, map(layout.parse, lines)):
        place = _needed_as(record, first)
        if place:
            needed[place] = {name: value for name, value in record.items() if name not in _OF_LINES}
    return [layout.body(str(place[0]), {**fields, "at_ms": now_ms}) for place, fields in needed.items()]


def _needed_as(record: Mapping[str, object], first: Mapping[bytes, int]) -> tuple[object, ...]:
    """Return the kind and the subject of a record that is still needed; empty for any other."""
    kind, stream = record.get("kind"), bytes.fromhex(str(record.get("stream", "")))
    if kind == "stream":
        return (kind, stream) if stream in first else ()
    number = record.get("file")
    if kind == KIND and (record.get("last") is True or first.get(stream, 0) - 1 == number):
        return (kind, stream, number)
    return ()


def _is_cut(finding: VerificationFinding, file: ClosedFile) -> bool:
    """Return True for the finding that the next file is missing: this one is verified alone."""
    return finding.kind is FindingKind.MISSING_FILE and not file.last and finding.n == file.count


def _last_records(path: Path) -> Sequence[dict[str, object]]:
    """Return the last records of a file, as many as are short. Raises OSError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    if lines.pop():
        # A line that was not finished.
        return []
    return [record for record in map(layout.parse, lines[-2:]) if record is not None]
