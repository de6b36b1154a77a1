"""The other streams of a folder, as one stream names them: then their removal leaves a trace.

What is named is how many lines a stream has and the chain of the last of them. It is read from the files,
twice: what a writer takes back because the disk was full is seen at most once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import layout

# The last line of nearly every file; where it is not, more is read.
_FIRST_READ: Final = 65_536
_BEGIN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class StreamHead:
    """The end of a stream, as far as it is written whole: its last file's number, how many lines, their head.

    ``line_at`` is where the last line begins in that file.
    """

    file: int
    line_at: int
    line: bytes

    @property
    def count(self) -> int:
        """How many lines the stream has."""
        found = layout.NUMBERED.match(self.line)
        return 0 if found is None else int(found[1]) + 1

    @property
    def head(self) -> str:
        """The chain that the last line states, 64 hex digits."""
        return self.line[-66:-2].decode("ascii", "replace")


class StreamIndex:
    """Looks at a folder and tells what is new of streams other than its own."""

    __slots__ = ("_folder", "_own", "_pending", "_processes", "_seen", "_sizes", "_told")

    def __init__(self, folder: Path, own: bytes) -> None:
        """Watch a folder for the stream ``own`` (16 bytes)."""
        self._folder = folder
        self._own = own
        self._sizes: dict[bytes, tuple[int, int]] = {}
        self._seen: dict[bytes, StreamHead] = {}
        self._told: dict[bytes, StreamHead] = {}
        self._pending: dict[bytes, StreamHead] = {}
        self._processes: dict[bytes, str] = {}

    def look(self, now_ms: int) -> bytes:
        """Return bodies of ``stream`` records for what was seen twice and not told; "" if nothing is new.

        What can't be read now is left for the next time.
        """
        bodies = []
        self._pending = {}
        try:
            found = layout.files(self._folder)
        except OSError:
            return b""
        for stream, numbered in found.items():
            if stream == self._own:
                continue
            number, path = max(numbered.items())
            try:
                seen = self._seen_twice(stream, number, path)
            except OSError:
                continue
            if seen is not None and seen != self._told.get(stream):
                self._pending[stream] = seen
                bodies.append(self._body(stream, numbered, seen, now_ms))
        return b"".join(bodies)

    def told(self) -> None:
        """Note that what the last look gave was written."""
        self._told |= self._pending
        self._pending = {}

    def _seen_twice(self, stream: bytes, number: int, path: Path) -> StreamHead | None:
        size = path.stat().st_size
        before = self._seen.get(stream)
        stands = before is not None and _still_there(before, number, path)
        if not stands or self._sizes.get(stream) != (number, size):
            seen = _last_line(number, path)
            if seen is not None:
                self._seen[stream] = seen
            self._sizes[stream] = (number, size)
        return before if stands else None

    def _body(self, stream: bytes, numbered: dict[int, Path], seen: StreamHead, now_ms: int) -> bytes:
        if stream not in self._processes:
            self._processes[stream] = _process(min(numbered.items())[1])
        return layout.body(
            "stream",
            {
                "at_ms": now_ms,
                "stream": stream.hex(),
                "process": self._processes[stream],
                "file": seen.file,
                "count": seen.count,
                "head": seen.head,
            },
        )


def _still_there(seen: StreamHead, number: int, path: Path) -> bool:
    if number != seen.file:
        # A next file was begun: what stood in the one before it is no longer taken back.
        path = path.with_name(layout.file_name(bytes.fromhex(path.name[:32]), seen.file))
    try:
        with path.open("rb") as file:
            file.seek(seen.line_at)
            return file.read(len(seen.line)) == seen.line
    except FileNotFoundError:
        return False


def _last_line(number: int, path: Path) -> StreamHead | None:
    """Return the last whole line of a file, None if it has none that is a record."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        reach = _FIRST_READ
        while True:
            start = max(0, end - reach)
            file.seek(start)
            data = file.read(end - start)
            stop = data.rfind(b"\n")
            begin = data.rfind(b"\n", 0, max(stop, 0)) + 1
            if start == 0 or (stop > 0 and begin > 0):
                break
            reach *= 8
    line = data[begin:stop]
    if stop < 0 or not layout.NUMBERED.match(line) or len(line) <= layout.TAIL_BYTES:
        return None
    return StreamHead(number, start + begin, line)


def _process(path: Path) -> str:
    """Return who writes a stream, as the begin of its first file says; "" if that can't be read."""
    try:
        with path.open("rb") as file:
            record = layout.parse(file.read(_BEGIN_BYTES).split(b"\n", 1)[0])
    except OSError:
        return ""
    process = (record or {}).get("process")
    return process if isinstance(process, str) else ""
