"""Calls whose tool was started: once it was, the same call under the same retry id is another run."""

from __future__ import annotations

from threading import Lock
from typing import Final

# About 10 MB. A call that is repeated after so many others counts as one that was never started.
MAX_STARTED: Final = 65_536


class StartedCalls:
    """The retry ids of the newest calls whose tools were started; an empty id is none."""

    def __init__(self, most: int = MAX_STARTED) -> None:
        """Keep the ``most`` newest."""
        self._most = most
        self._lock = Lock()
        self._ids: dict[bytes, None] = {}

    def __contains__(self, retry_id: bytes) -> bool:
        """Return True if the tool of such a call was started."""
        return retry_id in self._ids

    def start(self, retry_id: bytes) -> bool:
        """Note the start of a tool; return False if one was started under this id before."""
        with self._lock:
            if retry_id in self._ids:
                return False
            if retry_id:
                self._ids[retry_id] = None
            if len(self._ids) > self._most:
                del self._ids[next(iter(self._ids))]
            return True

    def forget(self, retry_id: bytes) -> None:
        """Have the next call under this id continue the one that was started."""
        with self._lock:
            self._ids.pop(retry_id, None)


# Of the process: a program may make a guard for each call.
started: Final = StartedCalls()
