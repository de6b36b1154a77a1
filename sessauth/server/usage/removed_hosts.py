"""Hosts that were removed from the cluster: their sums are missing where they never came."""

from __future__ import annotations

import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any, Final

from ...limits import MAX_TIME_MS
from ..log import event

FILE: Final = "hosts.json"
MAX_REMOVED: Final = 1_024


class RemovedHosts:
    """The registered hosts as this server last knew them, and those that were removed since; in a file.

    So it finds hosts that were removed while it did not run. One thread at a time may call :meth:`update`.
    """

    def __init__(self, folder: Path, keep_ms: int) -> None:
        """Read the file in ``folder``; removed hosts are forgotten after ``keep_ms``."""
        self._file = folder / FILE
        self._keep_ms = keep_ms
        self._present: set[str] = set()
        # Names, and the times at which they were found to be removed, in ms since 1970.
        self.removed_at_ms: dict[str, int] = {}
        # A file that can't be read forgets hosts that were removed before this time; 0 if none was forgotten.
        self.forgotten_until_ms = 0
        self._load()

    def update(self, present: set[str], now_ms: int) -> None:
        """Note which hosts are registered now. Raises OSError, and notes nothing, if the disk fails."""
        removed = self.removed_at_ms | dict.fromkeys(self._present - present, now_ms)
        removed = {
            name: at_ms
            for name, at_ms in removed.items()
            if name not in present and at_ms + self._keep_ms > now_ms
        }
        newest = sorted(removed.items(), key=lambda item: item[1])[-MAX_REMOVED:]
        removed = dict(newest)
        forgotten = min(self.forgotten_until_ms, now_ms)
        forgotten = forgotten if forgotten + self._keep_ms > now_ms else 0
        if (removed, present, forgotten) == (self.removed_at_ms, self._present, self.forgotten_until_ms):
            return
        content: dict[str, Any] = {"present": sorted(present), "removed": removed}
        self._write(content | ({"forgotten_until": forgotten} if forgotten else {}))
        self._present, self.removed_at_ms, self.forgotten_until_ms = set(present), removed, forgotten

    def _load(self) -> None:
        try:
            content = json.loads(self._file.read_bytes())
            self._present, self.removed_at_ms, self.forgotten_until_ms = _fields(content)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            event(logging.ERROR, "usage_file_unreadable", file=str(self._file), error=str(error))
            self.forgotten_until_ms = MAX_TIME_MS

    def _write(self, content: dict[str, Any]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{FILE}.{secrets.token_hex(4)}.new")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "w", encoding="utf-8") as stream:
                json.dump(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _fields(content: object) -> tuple[set[str], dict[str, int], int]:
    """Return the fields of the file; raises ValueError for other types or times."""
    fields = content if isinstance(content, dict) else {}
    present, removed = fields.get("present"), fields.get("removed")
    forgotten = fields.get("forgotten_until", 0)
    if not isinstance(present, list) or not isinstance(removed, dict):
        raise ValueError("present: a list of names, and removed: an object of times, are expected")
    if not all(isinstance(name, str) for name in present):
        raise ValueError("present: names are texts")
    for name, value in (*removed.items(), ("forgotten_until", forgotten)):
        if type(value) is not int or not 0 <= value <= MAX_TIME_MS:
            raise ValueError(f"{name!a}: a time in ms since 1970 is expected")
    return set(present), removed, forgotten
