"""Files of the observations of sessions, one each: kept over a restart.

A file is written whole, under another name, and renamed into place; it is 0600, since it may hold the
arguments of calls. Their number and size are bounded: those that were written first go first.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from ..log import event

MAGIC: Final = b"sessauth/usage/1\n"
SUFFIX: Final = ".usage"
MARKER: Final = "since"
_ID_BYTES: Final = 16


class UsageFiles:
    """The files of one folder. Any thread may use it."""

    def __init__(self, folder: Path, *, max_files: int, max_bytes: int) -> None:
        """Use ``folder``, which is made (0700) with the first file; hold at most so many of so many bytes."""
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        # Session id to size in bytes and time of writing in ns, the oldest first.
        self._files: dict[bytes, tuple[int, int]] = {}
        self._bytes = 0
        for session_id, size, written in sorted(_found(folder), key=lambda file: file[2]):
            self._files[session_id] = size, written
            self._bytes += size

    def __contains__(self, session_id: bytes) -> bool:
        """Return True if there is a file of the session."""
        return session_id in self._files

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._files)

    def session_ids(self) -> list[bytes]:
        """Return the sessions that have a file, the last written first."""
        with self._lock:
            return list(reversed(self._files))

    def read(self, session_id: bytes) -> bytes:
        """Return the contents of a session's file; nothing if there is none, or if it can't be used."""
        if session_id not in self._files:
            return b""
        try:
            data = self._path(session_id).read_bytes()
        except OSError as error:
            event(logging.ERROR, "usage_file_unreadable", session=session_id.hex(), error=str(error))
            return b""
        if not data.startswith(MAGIC):
            event(logging.ERROR, "usage_file_unreadable", session=session_id.hex(), error="another format")
            return b""
        return data[len(MAGIC) :]

    def write(self, session_id: bytes, data: bytes) -> None:
        """Write the file of a session, durably, and remove the oldest ones where space is short.

        Raises OSError.
        """
        size = len(MAGIC) + len(data)
        path = self._path(session_id)
        self._put(path, MAGIC + data)
        written = path.stat().st_mtime_ns
        with self._lock:
            self._forget(session_id)
            self._files[session_id] = size, written
            self._bytes += size
            removed = []
            while len(self._files) > 1 and (
                len(self._files) > self._max_files or self._bytes > self._max_bytes
            ):
                oldest = next(iter(self._files))
                self._forget(oldest)
                removed.append(oldest)
        for oldest in removed:
            self._path(oldest).unlink(missing_ok=True)

    def remove_older(self, than_ns: int) -> None:
        """Remove files that were written before a time, in ns since 1970."""
        with self._lock:
            old = [one for one, (_, written) in self._files.items() if written < than_ns]
            for session_id in old:
                self._forget(session_id)
        for session_id in old:
            self._path(session_id).unlink(missing_ok=True)

    def take_marker(self) -> bytes:
        """Return the contents left by :meth:`leave_marker`, and remove them; nothing if there are none."""
        path = self._folder / MARKER
        try:
            data = path.read_bytes()
            path.unlink()
        except OSError:
            return b""
        return data

    def leave_marker(self, data: bytes) -> None:
        """Say that everything was written. Raises OSError."""
        self._put(self._folder / MARKER, data)

    def _forget(self, session_id: bytes) -> None:
        size, _ = self._files.pop(session_id, (0, 0))
        self._bytes -= size

    def _path(self, session_id: bytes) -> Path:
        return self._folder / f"{session_id.hex()}{SUFFIX}"

    def _put(self, path: Path, data: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _found(folder: Path) -> list[tuple[bytes, int, int]]:
    """Return session id, size and time of writing of each file; half-written ones are removed."""
    found = []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"usage.dir: {folder} can't be read: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith(".") and entry.name.endswith(".new"):
            # One that can't be removed is in nobody's way.
            with suppress(OSError):
                Path(entry.path).unlink()
        if not entry.name.endswith(SUFFIX):
            continue
        try:
            session_id = bytes.fromhex(entry.name.removesuffix(SUFFIX))
        except ValueError:
            continue
        if len(session_id) == _ID_BYTES:
            status = entry.stat()
            found.append((session_id, status.st_size, status.st_mtime_ns))
    return found
