"""Identities of the machine's boot and of its steady clock, whose times mean nothing by another clock."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from typing import Final

__all__ = ["boot_id", "clock_id"]

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_TIME_NAMESPACE: Final = "/proc/self/ns/time"


def boot_id() -> bytes:
    """Return the boot id of the machine, 16 bytes; zeros where the system has none."""
    try:
        with open(_BOOT_ID, "rb") as file:
            return _digest(file.read(64))
    except OSError:
        return bytes(16)


@cache
def clock_id() -> bytes:
    """Return the identity of this process's steady clock, 16 bytes: of its boot and time namespace."""
    try:
        namespace = os.readlink(_TIME_NAMESPACE).encode()
    except OSError:
        namespace = b""
    return _digest(b"clock" + boot_id() + namespace)


def _digest(data: bytes) -> bytes:
    # By Python's hash: the kernel's module imports this one.
    return hashlib.blake2b(data, digest_size=32).digest()[:16]
