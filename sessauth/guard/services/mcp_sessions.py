"""MCP sessions over HTTP (``Mcp-Session-Id``), each bound to one session of sessauth.

A client that knows such an id can read its stream, answer the server's requests, and end it. So an id is
bound to the session of the token that it was opened or first used with.
"""

from __future__ import annotations

import threading
from typing import Final

HEADER: Final = "mcp-session-id"
# A longer id is never bound, so that long ids can't fill the memory. The SDK's have 32 characters.
MAX_ID_CHARS: Final = 256
MAX_IDS_OF_ONE: Final = 64
MAX_IDS: Final = 65_536


class McpSessions:
    """The owners of the ids that one process has seen, in any number of threads.

    One session has up to ``MAX_IDS_OF_ONE``, all have ``MAX_IDS``: beyond them the one that was used least
    recently is forgotten, of the session's own first.
    """

    def __init__(self) -> None:
        """Know none."""
        self._owners: dict[str, bytes] = {}
        self._ids: dict[bytes, dict[str, None]] = {}
        self._lock = threading.Lock()

    def owner(self, mcp_id: str) -> bytes:
        """Return the id of the session that an id is bound to; empty for one that is not known."""
        return self._owners.get(mcp_id, b"")

    def bind(self, mcp_id: str, session_id: bytes) -> bool:
        """Bind an id, or note that it is used. Returns False for one that is another session's."""
        if len(mcp_id) > MAX_ID_CHARS or not session_id:
            return False
        with self._lock:
            if self._owners.setdefault(mcp_id, session_id) != session_id:
                return False
            # The end of the list was used last.
            ids = self._ids[session_id] = self._ids.pop(session_id, {})
            ids.pop(mcp_id, None)
            ids[mcp_id] = None
            if len(ids) > MAX_IDS_OF_ONE:
                self._drop(next(iter(ids)))
            elif len(self._owners) > MAX_IDS:
                self._drop(next(iter(next(iter(self._ids.values())))))
        return True

    def forget(self, mcp_id: str) -> None:
        """Forget an id whose session has ended; nothing for one that is not known."""
        with self._lock:
            if mcp_id in self._owners:
                self._drop(mcp_id)

    def _drop(self, mcp_id: str) -> None:
        session_id = self._owners.pop(mcp_id)
        ids = self._ids[session_id]
        del ids[mcp_id]
        if not ids:
            del self._ids[session_id]
