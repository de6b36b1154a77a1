"""A disk that journals its requests and fails on demand (``fault_disk.c``), and files as it leaves them."""

from __future__ import annotations

import os
import random
import shlex
import struct
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sessauth.state import layout
from sessauth.state.integrity.anchor import Anchor

SOURCE = Path(__file__).with_name("fault_disk.c")
# A disk writes a sector whole or not at all.
SECTOR_BYTES = 512
JOURNAL, FAILS = "SESSAUTH_DISK_JOURNAL", "SESSAUTH_DISK_FAILS"
_HEAD = struct.Struct("=cqq")


@dataclass(frozen=True)
class DiskRequest:
    """A request to the disk: a letter of ``fault_disk.c``, w for the anchor, or A, an acknowledgement."""

    letter: str
    offset: int
    data: bytes


def built(folder: Path) -> Path:
    """Compile the disk into a folder; skips the test where there is no C compiler."""
    library = folder / "disk.so"
    compiler = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))
    command = [*compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no C compiler: {error}")
    assert done.returncode == 0, done.stderr
    return library


def environment(library: Path, **names: Path) -> dict[str, str]:
    """Return the environment of a process with this disk, preloaded after other libraries."""
    before = os.environ.get("LD_PRELOAD")
    preload = f"{before}:{library}" if before else str(library)
    return {**os.environ, "LD_PRELOAD": preload, **{name: str(path) for name, path in names.items()}}


def acknowledge(text: str) -> None:
    """Record in this process's journal that a change was acknowledged: from here on it must last."""
    _append(b"A", 0, text.encode())


def journal_anchor_writes() -> None:
    """Record each write to the anchor's page in this process's journal, before it happens.

    The disk stands before the data file alone. The page is not synced: its sectors may reach the disk or not.
    """
    store = Anchor.store

    def journaled(self: Anchor, at: int, data: bytes) -> None:
        _append(b"w", at, data)
        store(self, at, data)

    Anchor.store = journaled  # type: ignore[method-assign]


def _append(letter: bytes, offset: int, data: bytes) -> None:
    descriptor = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, _HEAD.pack(letter, offset, len(data)) + data)
    finally:
        os.close(descriptor)


def read_journal(path: Path) -> Iterator[DiskRequest]:
    """Yield the requests of a journal, without a truncated last one."""
    data, at = path.read_bytes(), 0
    while at + _HEAD.size <= len(data):
        letter, offset, n = _HEAD.unpack_from(data, at)
        at += _HEAD.size + n
        if at <= len(data):
            yield DiskRequest(letter.decode(), offset, data[at - n : at])


def leave(path: Path, base: bytes, requests: Iterable[DiskRequest], rng: random.Random) -> None:
    """Write a file as a disk may hold it that lost its power right after ``requests``.

    Synced and durable writes are there. Of each other write any sector may be. ``base`` is the file before;
    its holes stay. The file's name tells data from anchor.
    """
    small = path.name == layout.ANCHOR_FILE
    requests = [
        replace(each, letter=each.letter.upper()) for each in requests if each.letter.islower() == small
    ]
    synced = max((i for i, each in enumerate(requests) if each.letter == "S"), default=-1)
    image = bytearray(base.rstrip(b"\0"))
    for i, each in enumerate(requests):
        if each.letter == "D" or (each.letter == "W" and i < synced):
            _put(image, each.offset, each.data)
        elif each.letter == "W":
            for start in range(0, len(each.data), SECTOR_BYTES):
                if rng.random() < 0.5:
                    _put(image, each.offset + start, each.data[start : start + SECTOR_BYTES])
    path.write_bytes(image)
    os.truncate(path, max(len(base), len(image)))
    path.chmod(layout.DATA_MODE)


def _put(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data
