"""Growth behind calls: blocks of Python, bytes of the heap, open descriptors.

Threads of earlier tests allocate, open and close meanwhile. So no numbers are demanded equal, and what is too
much is measured again: what calls keep they keep each time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FOLDER = "/proc/self/fd"
TRIES = 3


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def heap_bytes() -> int:
    """Bytes of the C heap that are in use; where the C library does not say, what is resident."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    ask.restype = _Mallinfo2
    info = ask()
    return int(info.uordblks) + int(info.hblkhd)


class Growth(NamedTuple):
    """Blocks of Python and bytes of the C heap that a run left behind."""

    blocks: int
    heap_bytes: int


def growth(run: Callable[[], object], few_blocks: int, few_bytes: int) -> Growth:
    """Return the growth by a run: of the first one that leaves fewer than these, else of the third."""
    for _ in range(TRIES):
        gc.collect()
        blocks, heap = sys.getallocatedblocks(), heap_bytes()
        run()
        gc.collect()
        grown = Growth(sys.getallocatedblocks() - blocks, heap_bytes() - heap)
        if grown.blocks < few_blocks and grown.heap_bytes < few_bytes:
            break
    return grown


def descriptors() -> int:
    """Return the number of open descriptors that are held."""
    gc.collect()
    return len(os.listdir(FOLDER))


def leaks_descriptors(work: Callable[[], object], times: int = 20) -> bool:
    """Repeat the work; True if one descriptor or more of each time stays open."""
    before = descriptors()
    for _ in range(times):
        work()
    return descriptors() - before >= times
