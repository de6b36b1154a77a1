"""Liveness of a process of this host, distinguished from a later process with the same id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# In /proc/PID/stat, after the command's name in parentheses.
_STATE: Final = 0
_CPU: Final = slice(11, 13)
_STARTED: Final = 19
_OVER: Final = frozenset("ZXx")


def started(process_id: int, proc: Path = Path("/proc")) -> int:
    """Return the start of a process in clock ticks since boot; 0 if it is unknown."""
    fields = _stat(process_id, proc)
    return int(fields[_STARTED]) if fields else 0


def cpu_ticks(process_id: int, proc: Path = Path("/proc")) -> int:
    """Return the CPU time of a process in clock ticks, the kernel's part included; 0 if it is unknown."""
    return sum(map(int, _stat(process_id, proc)[_CPU]))


def is_gone(process_id: int, began: int, proc: Path = Path("/proc")) -> bool:
    """Return True if the process with this id and start is known to have ended.

    False in doubt: for the process id 0, and on systems without ``/proc``.
    """
    if not process_id:
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    fields = _stat(process_id, proc)
    if not fields:
        return False
    return fields[_STATE] in _OVER or bool(began and int(fields[_STARTED]) != began)


def _stat(process_id: int, proc: Path) -> list[str]:
    try:
        text = (proc / str(process_id) / "stat").read_text("utf-8", "replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return fields if len(fields) > _STARTED and fields[_STARTED].isdigit() else []
