"""Records the ends of a folder's other streams in one stream, so that their removal leaves a trace.

A record has the number of lines of a stream and the chain of the last of them. They are read from the files,
and recorded if they are there in two polls: lines that a writer takes back because the disk is full are not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import layout

# Has the last line of nearly every file; for a longer one more is read.
_FIRST_READ: Final = 65_536
_BEGIN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class StreamHead:
    """The last whole line of a stream: its file's number, its offset there, and its bytes."""

    file: int
    line_at: int
    line: bytes

    @property
    def count(self) -> int:
        """The number of lines of the stream."""
        match = layout.NUMBERED.match(self.line)
        return 0 if match is None else int(match[1]) + 1

    @property
    def chain(self) -> str:
        """The chain of the last line, 64 hex digits."""
        return self.line[-66:-2].decode("ascii", "replace")


class StreamIndex:
    """Polls a folder for new heads of streams other than its own."""

    __slots__ = ("_folder", "_heads", "_own", "_pending", "_processes", "_recorded", "_sizes")

    def __init__(self, folder: Path, own: bytes) -> None:
        """Poll a folder for the stream ``own`` (16 bytes)."""
        self._folder = folder
        self._own = own
        self._sizes: dict[bytes, tuple[int, int]] = {}
        self._heads: dict[bytes, StreamHead] = {}
        self._recorded: dict[bytes, StreamHead] = {}
        self._pending: dict[bytes, StreamHead] = {}
        self._processes: dict[bytes, str] = {}

    def poll(self, now_ms: int) -> bytes:
        """Return bodies of ``stream`` records for heads that are new since :meth:`acknowledge`; or "".

        A head is returned from the second poll on. Files that can't be read now are left for the next poll.
        """
        bodies = []
        self._pending = {}
        try:
            streams = layout.files(self._folder)
        except OSError:
            return b""
        for stream, numbered in streams.items():
            if stream == self._own:
                continue
            number, path = max(numbered.items())
            try:
                head = self._confirmed_head(stream, number, path)
            except OSError:
                continue
            if head is not None and head != self._recorded.get(stream):
                self._pending[stream] = head
                bodies.append(self._body(stream, numbered, head, now_ms))
        return b"".join(bodies)

    def acknowledge(self) -> None:
        """Confirm that the records of the last poll were written."""
        self._recorded |= self._pending
        self._pending = {}

    def _confirmed_head(self, stream: bytes, number: int, path: Path) -> StreamHead | None:
        size = path.stat().st_size
        before = self._heads.get(stream)
        stands = before is not None and _still_there(before, number, path)
        if not stands or self._sizes.get(stream) != (number, size):
            head = last_line(number, path)
            if head is not None:
                self._heads[stream] = head
            self._sizes[stream] = (number, size)
        return before if stands else None

    def _body(self, stream: bytes, numbered: dict[int, Path], head: StreamHead, now_ms: int) -> bytes:
        if stream not in self._processes:
            self._processes[stream] = _process(min(numbered.items())[1])
        return layout.body(
            "stream",
            {
                "at_ms": now_ms,
                "stream": stream.hex(),
                "process": self._processes[stream],
                "file": head.file,
                "count": head.count,
                "head": head.chain,
            },
        )


def _still_there(head: StreamHead, number: int, path: Path) -> bool:
    if number != head.file:
        # A next file was begun: lines of the one before it are no longer taken back.
        path = path.with_name(layout.file_name(bytes.fromhex(path.name[:32]), head.file))
    try:
        with path.open("rb") as file:
            file.seek(head.line_at)
            return file.read(len(head.line)) == head.line
    except FileNotFoundError:
        return False


def last_line(number: int, path: Path) -> StreamHead | None:
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
    """Return the process in the begin of a stream's first file; "" if that can't be read."""
    try:
        with path.open("rb") as file:
            record = layout.parse(file.read(_BEGIN_BYTES).split(b"\n", 1)[0])
    except OSError:
        return ""
    process = (record or {}).get("process")
    return process if isinstance(process, str) else ""
