"""A stream: the files of chained lines that one run of one process writes into an audit folder.

:class:`AuditStream` chains records and signs checkpoints. A write to its :class:`StreamFile` succeeds wholly,
or is undone.

:class:`StreamIndex` records the ends of the folder's other streams in this one, so that their removal leaves
a trace: the number of lines of each stream, and the chain of the last line. An end is recorded once two polls
have found it in the files, since a writer removes lines again when the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ..._fast import _codec as codec
from ...clock import Clock, SystemClock
from ...crypto.pem import sync_path
from ...errors import StateUnusable, UsageError
from ...limits import MAX_JSON_BYTES
from .. import layout
from ..layout import ArgumentsKey, AuditKey, checkpoint_body


class StreamFile:
    """A file that grows by whole lines. Used by one thread at a time."""

    __slots__ = ("_descriptor", "_torn", "path", "size", "synced")

    path: Path
    size: int
    """Size of the whole lines, in bytes."""
    synced: int
    """The part of them that is surely on the disk, in bytes."""

    def __init__(self, path: Path) -> None:
        """Make the file, mode 0640. Raises OSError."""
        self.path = path
        self.size = 0
        self.synced = 0
        self._torn = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, layout.FILE_MODE)
        try:
            os.fchmod(self._descriptor, layout.FILE_MODE)
        except OSError:
            self.close()
            raise

    def write(self, lines: bytes) -> None:
        """Write after the last whole line, all or nothing.

        Raises OSError if that fails; a partial write is undone, now or before the next write.
        """
        if self._torn:
            os.ftruncate(self._descriptor, self.size)
            self._torn = False
        at = self.size
        rest = memoryview(lines)
        try:
            while rest:
                # At a known offset, so that no other program's bytes get between lines.
                written = os.pwrite(self._descriptor, rest, at)
                at += written
                rest = rest[written:]
        except OSError:
            self.truncate(self.size)
            raise
        self.size = at

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes. Raises OSError; then the next write begins with the cut."""
        self.size = size
        self.synced = min(self.synced, size)
        self._torn = True
        os.ftruncate(self._descriptor, size)
        self._torn = False

    def sync(self) -> None:
        """Wait until all is on the disk.

        Raises OSError if that fails, or if another program removed, cut or extended the file. The disk may
        hold anything then: write no more to this file.
        """
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0 or status.st_size != self.size:
            change = "removed" if status.st_nlink == 0 else "changed"
            raise OSError(errno.ESTALE, f"was {change} by another program", str(self.path))
        os.fdatasync(self._descriptor)
        self.synced = self.size

    def close(self) -> None:
        """Close it; its content stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Close and remove it, if possible."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


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
        intact = before is not None and _still_there(before, number, path)
        if not intact or self._sizes.get(stream) != (number, size):
            head = last_line(number, path)
            if head is not None:
                self._heads[stream] = head
            self._sizes[stream] = (number, size)
        return before if intact else None

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

        Raises OSError if it can't be written; KeyFolderError if a key of the folder can't be read or made;
        StateUnusable WRONG_MODE, if the folder is writable by everyone; UsageError if an option is out of
        range.

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
        """Make the next file and begin it."""
        file = self._make_file()
        self._begin_file(file)
        return file

    def _make_file(self) -> StreamFile:
        number = self._number + 1
        if number > layout.MAX_FILES:
            raise OSError(f"an audit stream has at most {layout.MAX_FILES + 1} files: restart the process")
        return StreamFile(self._folder / layout.file_name(self.stream_id, number))

    def _begin_file(self, file: StreamFile) -> None:
        """Begin the file of the next number and go on in it. If that fails, it is removed."""
        now_ms = self._clock.now_ms()
        begin = {
            "at_ms": now_ms,
            "format": layout.FORMAT,
            "stream": self.stream_id.hex(),
            "file": self._number + 1,
            "previous": self.head.hex(),
            **self._begin,
        }
        before = self.count, self.head, self._signed
        try:
            # Signed at once, in one write: a file without a signed begin is not the log's.
            self._put(file, layout.body("begin", begin), now_ms)
            file.sync()
            sync_path(self._folder)
        except OSError:
            self.count, self.head, self._signed = before
            # The next attempt makes it again, and may need its space.
            file.remove()
            raise
        self._file, self._number = file, self._number + 1

    def _rotate(self, old: StreamFile) -> None:
        """Sign the end of a file and begin the next. If that fails, the old file goes on."""
        now_ms = self._clock.now_ms()
        before, size = (self.count, self.head, self._signed), old.size
        # Before the end that names it: a process may die at any moment, and an end without a next file is a
        # file that somebody removed.
        new = self._make_file()
        try:
            self._put(old, layout.body("end", {"at_ms": now_ms, "next": self._number + 1}), now_ms)
        except OSError:
            new.remove()
            raise
        try:
            self._begin_file(new)
        except OSError:
            self.count, self.head, self._signed = before
            old.truncate(size)
            raise
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


STOP_MINTING: Final = "stop_minting"
DENY: Final = "deny"
CONTINUE: Final = "continue"
WHEN_FULL: Final = (STOP_MINTING, DENY, CONTINUE)
# A call with the largest arguments must fit; otherwise one such call causes a loss.
LEAST_QUEUE_BYTES: Final = 2 * MAX_JSON_BYTES


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """An audit stream of one process. Times in ms, sizes in bytes.

    All denials are recorded, and the share ``sample_allows`` (0.0 to 1.0) of the allows. At most
    ``queue_bytes`` of decisions wait for the recorder, and as many of records for a disk that fails; further
    decisions are lost and counted. ``when_full`` applies while decisions are lost or the stream can't be
    written: ``stop_minting`` (a server gives no authority; elsewhere as ``continue``),
    ``deny`` (no call is allowed) or ``continue``. The rest is
    :class:`~sessauth.audit.write.stream.StreamOptions`.
    """

    dir: str | os.PathLike[str]
    sample_allows: float = 1.0
    queue_bytes: int = 16 << 20
    when_full: str = STOP_MINTING
    rotate_bytes: int = 64 << 20
    fsync_ms: int = 1_000
    checkpoint_ms: int = 10_000

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of range."""
        if not os.fspath(self.dir):
            raise UsageError("audit.dir: is required, the folder of the audit streams")
        if not 0.0 <= self.sample_allows <= 1.0:
            raise UsageError("audit.sample_allows: must be 0.0 to 1.0")
        if self.queue_bytes < LEAST_QUEUE_BYTES:
            raise UsageError(f"audit.queue_bytes: must be at least {LEAST_QUEUE_BYTES}")
        if self.rotate_bytes < LEAST_ROTATE_BYTES:
            raise UsageError(f"audit.rotate_bytes: must be at least {LEAST_ROTATE_BYTES}")
        if self.fsync_ms < 0:
            raise UsageError("audit.fsync_ms: must be 0 or more")
        if self.checkpoint_ms < 1:
            raise UsageError("audit.checkpoint_ms: must be at least 1")
        if self.when_full not in WHEN_FULL:
            raise UsageError(f"audit.when_full: must be one of {', '.join(WHEN_FULL)}")

    @property
    def stream(self) -> StreamOptions:
        """The options of the stream itself."""
        return StreamOptions(self.rotate_bytes, self.fsync_ms, self.checkpoint_ms)
