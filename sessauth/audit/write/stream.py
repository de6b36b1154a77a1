"""A stream: the files of chained lines that one run of one process writes into an audit folder."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ..._fast import _codec as codec
from ...clock import Clock, SystemClock
from ...crypto.pem import sync_path
from ...errors import StateUnusable, UsageError
from .. import layout
from ..checkpoint import checkpoint_body
from ..keys import ArgumentsKey, AuditKey
from .stream_file import StreamFile
from .stream_index import StreamIndex

# The lower limit has space for a begin and an end; readers hold a whole file in memory.
LEAST_ROTATE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of a stream. Times in ms, sizes in bytes.

    A file is closed at ``rotate_bytes``. Records are on the disk ``fsync_ms`` later (0: before ``append``
    returns) and signed ``checkpoint_ms`` later, if ``tick`` is called that often.
    """

    rotate_bytes: int = 64 << 20
    fsync_ms: int = 1_000
    checkpoint_ms: int = 10_000


class AuditStream:
    """Writes records, numbered and chained, with signed checkpoints. Used by one thread at a time.

    A failed append leaves the stream unchanged, and may be repeated.
    """

    __slots__ = (
        *("_begin", "_clock", "_closed", "_file", "_folder", "_index", "_number", "_options", "_signed"),
        *("_signed_at", "_synced_at", "arguments_key", "count", "durable", "head", "key", "process"),
        "stream_id",
    )

    stream_id: bytes
    """16 random bytes."""
    count: int
    """The number of lines."""
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
        host: str = "",
    ) -> Self:
        """Begin a stream in a folder, which is made if there is none.

        Args:
            folder: the audit folder; several streams may be written there at once.
            process: the name of the process, such as "control", "worker-0", "embedded".
            audience: of the decisions, "" if they have several.
            cluster_id: 16 bytes, of the state that the decisions use.
            incarnation: 16 bytes, of that state.
            options: sizes and times.
            clock: of the records' times, and of intervals.
            index: record the ends of the folder's other streams in this one, so that their removal is found.
                For one of the processes that share a folder.
            host: the name of the process's host in its cluster, "" for a single host.

        Raises:
            OSError: if it can't be written.
            KeyFolderError: if a key of the folder can't be read or made.
            StateUnusable: WRONG_MODE, if the folder is writable by everyone.
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
            **({"host": host} if host else {}),
        }
        stream = cls(folder, begin, options, clock or SystemClock(), index)
        stream._next_file()
        stream._note_durable()
        return stream

    def __init__(
        self, folder: Path, begin: dict[str, str], options: StreamOptions, clock: Clock, index: bool
    ) -> None:
        """Take the parts made by :meth:`open_new`; ``begin`` names the writer in each file."""
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
            # The first poll; heads that are still there at the next one are recorded.
            self._index.poll(clock.now_ms())

    def append(self, bodies: bytes) -> None:
        """Write records: ``{"kind":"…","at_ms":…}`` and a line feed each (see :func:`layout.body`).

        Raises:
            OSError: if they can't be written; then none of them is, and the next append tries again. With
                ``fsync_ms`` 0 also if a sync fails; then they may be on the disk or not.
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

    def append_signed(self, bodies: bytes, now_ms: int) -> None:
        """Write records, sign them, and return when they are on the disk. Raises as :meth:`append`."""
        self.append(bodies)
        file = self._file or self._next_file()
        self._put(file, b"", now_ms)
        self._sync(file)

    def tick(self, now_ms: int) -> None:
        """Sign and sync if due; call it often. ``now_ms`` is the wall clock's time, in ms since 1970.

        Raises OSError if that fails; the next tick tries again.
        """
        if self._closed:
            return
        file = self._file or self._next_file()
        steady = self._clock.steady_ms()
        if abs(steady - self._signed_at) >= self._options.checkpoint_ms:
            if self._index is not None:
                self._put(file, self._index.poll(now_ms))
                self._index.acknowledge()
            if self.count > self._signed:
                self._put(file, b"", now_ms)
            self._signed_at = steady
        if file.size > file.synced and abs(steady - self._synced_at) >= self._options.fsync_ms:
            self._sync(file)

    def close(self) -> None:
        """Sign the end and close the file. A closed stream can't be cut without a trace.

        Raises OSError if the end can't be written; the stream is closed nevertheless.
        """
        if self._closed:
            return
        self._closed = True
        try:
            file = self._file or self._next_file()
            now_ms = self._clock.now_ms()
            bodies = self._index.poll(now_ms) if self._index is not None else b""
            self._put(file, bodies + layout.body("end", {"at_ms": now_ms, "next": -1}), now_ms)
            file.sync()
            self._note_durable()
        finally:
            self._leave_file()

    @property
    def path(self) -> Path:
        """The current file, or the last one."""
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
            # Signed at once, in one write: a file without a signed begin is not the log's.
            self._put(file, layout.body("begin", begin), now_ms)
            file.sync()
            sync_path(self._folder)
        except OSError:
            self.count, self.head, self._signed = before
            file.close()
            # The next attempt makes it again, and may need its space.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._file, self._number = file, number
        return file

    def _rotate(self, old: StreamFile) -> None:
        """Sign the end of a file and begin the next. If that fails, the old file goes on."""
        now_ms = self._clock.now_ms()
        before, size = (self.count, self.head, self._signed), old.size
        self._put(old, layout.body("end", {"at_ms": now_ms, "next": self._number + 1}), now_ms)
        try:
            self._next_file()
        except OSError:
            self.count, self.head, self._signed = before
            old.truncate(size)
            raise
        # After the begin of the next file, so that an end without a next file exists only for microseconds.
        try:
            old.sync()
        finally:
            old.close()

    def _put(self, file: StreamFile, bodies: bytes, sign_at_ms: int = -1) -> None:
        """Write records, then a checkpoint if ``sign_at_ms`` is 0 or more, in one write."""
        lines, head, added = codec.seal(bodies, self.count, self.head)
        count = self.count + added
        signed = self._signed
        if sign_at_ms >= 0:
            body = checkpoint_body(self.key, self.stream_id, count, head, sign_at_ms)
            line, head, added = codec.seal(body, count, head)
            lines += line
            signed = count = count + added
        if lines:
            file.write(lines)
            self.count, self.head, self._signed = count, head, signed

    def _sync(self, file: StreamFile) -> None:
        try:
            file.sync()
        except OSError:
            # The disk may have any part of it. The next file goes on where this one should have ended.
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
