"""A stream: what one run of one process writes into an audit folder, in files of chained lines."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ..._fast.record import line_chain
from ...clock import Clock, SystemClock
from ...crypto.pem import sync_folder
from ...errors import StateUnusable, UsageError
from .. import checkpoint, layout
from ..keys import ArgumentsKey, AuditKey
from .stream_file import StreamFile
from .stream_index import StreamIndex

# A file holds its begin and its end at least, and a reader holds a file in memory.
LEAST_ROTATE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is written. Times in ms, sizes in bytes.

    A file is closed when it has reached ``rotate_bytes``. What was written is on the disk ``fsync_ms`` later
    (0: before ``append`` returns) and signed ``checkpoint_ms`` later, if ``tick`` is called that often.
    """

    rotate_bytes: int = 64 << 20
    fsync_ms: int = 1_000
    checkpoint_ms: int = 10_000


class AuditStream:
    """Writes records, numbered and chained, with signed checkpoints. Used by one thread at a time.

    Nothing is half-written: an append that fails leaves the stream as it was, and may be repeated.
    """

    __slots__ = (
        *("_begin", "_clock", "_closed", "_file", "_folder", "_index", "_number", "_options", "_signed"),
        *("_signed_at", "_synced_at", "arguments_key", "count", "durable", "head", "key", "process"),
        "stream_id",
    )

    stream_id: bytes
    """16 random bytes."""
    count: int
    """How many lines it has."""
    head: bytes
    """The chain of the last line, 32 bytes."""
    durable: tuple[int, bytes, int]
    """Number of lines on the disk, the chain of the last of them, and the number of its file."""
    process: str
    key: AuditKey
    arguments_key: ArgumentsKey

    @classmethod
    def open_new(
        cls,
        folder: Path,
        *,
        process: str,
        audience: str,
        cluster_id: bytes,
        incarnation: bytes,
        options: StreamOptions | None = None,
        clock: Clock | None = None,
        index: bool = False,
    ) -> Self:
        """Begin a stream in a folder, which is made if there is none.

        Args:
            folder: the audit folder; several streams may be written there at once.
            process: who writes, such as "control", "worker-0", "embedded".
            audience: whom the decisions are made for, "" if it is not one.
            cluster_id: 16 bytes, of the state that is judged by.
            incarnation: 16 bytes, of that state.
            options: sizes and times.
            clock: gives times for records, and the steady time for intervals.
            index: name the other streams of the folder in this one, as they begin, go on and end; then
                their removal is found. For one process of those that share a folder.

        Raises:
            OSError: if it can't be written.
            KeyFolderError: if a key of the folder can't be read or made.
            StateUnusable: WRONG_MODE, if everybody may write to the folder.
            UsageError: if an option is out of range.
        """
        options = options or StreamOptions()
        if options.rotate_bytes < LEAST_ROTATE_BYTES:
            raise UsageError(f"rotate_bytes must be at least {LEAST_ROTATE_BYTES}")
        if options.fsync_ms < 0 or options.checkpoint_ms < 1:
            raise UsageError("fsync_ms must be 0 or more, checkpoint_ms 1 or more")
        folder.mkdir(mode=layout.DIR_MODE, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o002:
            raise StateUnusable(f"{folder}: everybody may write there; chmod o-w {folder}", "WRONG_MODE")
        begin = {
            "process": process,
            "audience": audience,
            "cluster": cluster_id.hex(),
            "incarnation": incarnation.hex(),
        }
        stream = cls(folder, begin, options, clock or SystemClock(), index)
        stream._next_file()
        stream._note_durable()
        return stream

    def __init__(
        self, folder: Path, begin: dict[str, str], options: StreamOptions, clock: Clock, index: bool
    ) -> None:
        """Take what :meth:`open_new` made; ``begin`` says in each file who writes."""
        self._folder = folder
        self._options = options
        self._clock = clock
        self.key = AuditKey.of_folder(folder)
        self.arguments_key = ArgumentsKey.of_folder(folder)
        self.process = begin["process"]
        self._begin = {
            **begin,
            "audit_key": self.key.key_id.hex(),
            "arguments_key_id": self.arguments_key.key_id.hex(),
            "checkpoint_ms": options.checkpoint_ms,
        }
        self.stream_id = secrets.token_bytes(layout.STREAM_BYTES)
        self.count, self.head = 0, layout.ZEROS
        self._signed = 0
        self._number = -1
        self.durable = 0, layout.ZEROS, 0
        self._file: StreamFile | None = None
        self._closed = False
        self._signed_at = self._synced_at = clock.steady_ms()
        self._index = StreamIndex(folder, self.stream_id) if index else None
        if self._index is not None:
            # Seen once; what still stands at the next look is told.
            self._index.look(clock.now_ms())

    def append(self, bodies: bytes) -> None:
        """Write records: ``{"kind":"…","at_ms":…}`` and a line feed each (see :func:`layout.body`).

        Raises:
            OSError: if they can't be written. Then none of them is, and the next append tries anew. With
                ``fsync_ms`` 0 also if the disk fails; whether it has them is not known then.
            ValueError: for bodies of another form.
            UsageError: if the stream was closed.
        """
        if self._closed:
            raise UsageError("the stream was closed")
        if not bodies:
            return
        if self._file is not None and self._file.size >= self._options.rotate_bytes:
            self._rotate(self._file)
        file = self._file or self._next_file()
        self._put(file, bodies)
        if self._options.fsync_ms == 0:
            self._sync(file)

    def tick(self, now_ms: int) -> None:
        """Sign and sync what is due; call it often. ``now_ms`` is the wall clock's time, in ms since 1970.

        Raises:
            OSError: if that can't be written. The records are kept; the next tick tries anew.
        """
        if self._closed:
            return
        file = self._file or self._next_file()
        steady = self._clock.steady_ms()
        if abs(steady - self._signed_at) >= self._options.checkpoint_ms:
            if self._index is not None:
                self._put(file, self._index.look(now_ms))
                self._index.told()
            if self.count > self._signed:
                self._put(file, b"", now_ms)
            self._signed_at = steady
        if file.size > file.synced and abs(steady - self._synced_at) >= self._options.fsync_ms:
            self._sync(file)

    def close(self) -> None:
        """Sign the end and close the file. A stream that was closed can't be cut without a trace.

        Raises:
            OSError: if the end can't be written; the stream is closed nevertheless.
        """
        if self._closed:
            return
        self._closed = True
        try:
            file = self._file or self._next_file()
            now_ms = self._clock.now_ms()
            bodies = self._index.look(now_ms) if self._index is not None else b""
            self._put(file, bodies + layout.body("end", {"at_ms": now_ms, "next": -1}), now_ms)
            file.sync()
            self._note_durable()
        finally:
            self._leave_file()

    @property
    def path(self) -> Path:
        """The file that is written, or was last."""
        return self._folder / layout.file_name(self.stream_id, max(self._number, 0))

    def _next_file(self) -> StreamFile:
        number = self._number + 1
        if number > layout.MAX_FILES:
            raise OSError(f"an audit stream has at most {layout.MAX_FILES + 1} files: restart the process")
        path = self._folder / layout.file_name(self.stream_id, number)
        now_ms = self._clock.now_ms()
        begin = {
            "at_ms": now_ms,
            "format": layout.FORMAT,
            "stream": self.stream_id.hex(),
            "file": number,
            "previous": self.head.hex(),
            **self._begin,
        }
        before = self.count, self.head, self._signed
        file = StreamFile(path)
        try:
            # Signed at once, in one write: a file without a signed begin is none of ours.
            self._put(file, layout.body("begin", begin), now_ms)
            file.sync()
            sync_folder(self._folder)
        except OSError:
            self.count, self.head, self._signed = before
            file.close()
            # It is made anew by the next attempt, which needs no room that it takes now.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._file, self._number = file, number
        return file

    def _rotate(self, old: StreamFile) -> None:
        """End a file, signed, and begin the next. If that can't be begun, the old one goes on."""
        now_ms = self._clock.now_ms()
        before, size = (self.count, self.head, self._signed), old.size
        self._put(old, layout.body("end", {"at_ms": now_ms, "next": self._number + 1}), now_ms)
        try:
            self._next_file()
        except OSError:
            self.count, self.head, self._signed = before
            old.take_back(size)
            raise
        # Behind the begin of the next file, so that an end without one is a matter of microseconds.
        try:
            old.sync()
        finally:
            old.close()

    def _put(self, file: StreamFile, bodies: bytes, sign_at_ms: int = -1) -> None:
        """Write records, and behind them a checkpoint if a time for it is given, in one write."""
        lines, head, added = line_chain.seal(bodies, self.count, self.head)
        count = self.count + added
        signed = self._signed
        if sign_at_ms >= 0:
            body = checkpoint.body(self.key, self.stream_id, count, head, sign_at_ms)
            line, head, added = line_chain.seal(body, count, head)
            lines += line
            signed = count = count + added
        if lines:
            file.write(lines)
            self.count, self.head, self._signed = count, head, signed

    def _sync(self, file: StreamFile) -> None:
        try:
            file.sync()
        except OSError:
            # What of it is on the disk is not known. The next file goes on where this one should have ended.
            self._leave_file()
            raise
        self._note_durable()
        self._synced_at = self._clock.steady_ms()

    def _note_durable(self) -> None:
        self.durable = self.count, self.head, self._number

    def _leave_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()
