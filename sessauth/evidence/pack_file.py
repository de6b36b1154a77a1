"""Writes the container of a pack: members one after the other, each with its digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ..errors import UsageError
from .reader import archive as form
from .reader.manifest import MemberDigest

MODE: Final = 0o600


class PackFile:
    """A new file of mode 0600, as a context manager; it is removed if writing fails."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Create it. Raises UsageError if it exists or can't be created."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.fdopen(os.open(path, flags, MODE), "w+b")
        except OSError as error:
            raise UsageError(f"--out: can't create {path}: {error.strerror}") from None
        self._path = path
        self._max_bytes = max_bytes
        self._done = False
        self.members: list[MemberDigest] = []

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write one member. Raises UsageError if the pack becomes too long, or can't be written."""
        try:
            self._add(name, pieces)
        except OSError as error:
            raise UsageError(f"--out: can't write {self._path}: {error.strerror}") from None

    def _add(self, name: str, pieces: Iterable[bytes]) -> None:
        at = self._file.tell()
        self._file.write(form.header(name, 0))
        hashed, size = hashlib.sha256(), 0
        for piece in pieces:
            size += len(piece)
            if at + size > self._max_bytes or size > form.MAX_MEMBER_BYTES:
                raise UsageError(
                    f"--max-bytes: the pack is longer than {self._max_bytes} bytes; ask less, or permit more"
                )
            hashed.update(piece)
            self._file.write(piece)
        self._file.write(bytes(form.padding(size)))
        end = self._file.tell()
        # The size is known only now.
        self._file.seek(at)
        self._file.write(form.header(name, size))
        self._file.seek(end)
        self.members.append(MemberDigest(name, size, hashed.hexdigest()))

    def finish(self) -> None:
        """Write the end mark and wait for the disk."""
        try:
            self._file.write(bytes(2 * form.BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UsageError(f"--out: can't write {self._path}: {error.strerror}") from None
        self._done = True

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; remove it unless it is finished."""
        with contextlib.suppress(OSError):
            # What could not be written is written again by a close.
            self._file.close()
        if not self._done:
            with contextlib.suppress(OSError):
                self._path.unlink()
