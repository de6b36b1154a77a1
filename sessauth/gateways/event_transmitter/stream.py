"""A stream of events to one receiver: its settings, its place in the log, and the events that wait.

The place is all that is stored. It moves once the receiver has acknowledged all events up to it, so what was
not acknowledged is read from the server's log again. An event that is read twice has the same ``jti``.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...errors import StateError
from ...server.identity.key_sets import read_object
from ...state.host.folder import read_file, replace_file

PUSH: Final = "urn:ietf:rfc:8935"
POLL: Final = "urn:ietf:rfc:8936"
SESSION_REVOKED: Final = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
VERIFICATION: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"
STREAM_UPDATED: Final = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"
STATUSES: Final = ("enabled", "paused", "disabled")
# Events that wait for an acknowledgement; the log has the others.
MAX_WAITING: Final = 1_000
MAX_FILE_BYTES: Final = 64 * 1024


class StreamPlace(NamedTuple):
    """A place in the log of a server: everything up to the revision is done."""

    revision: int
    incarnation: bytes


@dataclass(slots=True, eq=False)
class WaitingEvent:
    """An event that was not acknowledged yet: its id, its claims, and the token once it was signed."""

    jti: str
    claims: Mapping[str, Any]
    is_done: bool = False
    token: str = field(default="", repr=False)


@dataclass(slots=True)
class StreamTerms:
    """The settings of a stream. ``authorization`` is the header that a receiver wants with pushes."""

    stream_id: str
    receiver: str
    method: str = POLL
    endpoint: str = ""
    authorization: str = field(default="", repr=False)
    events_requested: list[str] | None = None
    description: str = ""
    status: str = "enabled"
    reason: str = ""

    @property
    def is_wanted(self) -> bool:
        """True if the receiver asked for the ends of sessions."""
        return self.events_requested is None or SESSION_REVOKED in self.events_requested


class EventStreamState:
    """A stream. Any thread may use it."""

    def __init__(self, file: Path, terms: StreamTerms, place: StreamPlace) -> None:
        """Begin at ``place``; nothing is stored yet."""
        self._file = file
        self.terms = terms
        self.place = place
        self.changed = threading.Condition()
        self._saving = threading.Lock()
        self._entries: deque[WaitingEvent | StreamPlace] = deque()
        self._known: dict[str, WaitingEvent] = {}
        # Set to end the threads of the stream.
        self.stop = threading.Event()
        self._close_watch: Callable[[], None] | None = None
        self.verified_at = float("-inf")
        self._verification: WaitingEvent | None = None

    @classmethod
    def load(cls, file: Path) -> EventStreamState:
        """Read a stream that was stored. Raises StateError, OSError."""
        found = read_object(read_file(file, MAX_FILE_BYTES + 1), MAX_FILE_BYTES)
        try:
            place = StreamPlace(int(found["revision"]), bytes.fromhex(found["incarnation"]))
            return cls(file, StreamTerms(**found["terms"]), place)
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{file} is no stream of events") from None

    def save(self) -> None:
        """Store settings and place durably, unless the stream has ended. Raises OSError."""
        with self._saving:
            if self.stop.is_set():
                return
            with self.changed:
                terms = {name: getattr(self.terms, name) for name in StreamTerms.__dataclass_fields__}
                stored = {
                    "terms": terms,
                    "revision": self.place.revision,
                    "incarnation": self.place.incarnation.hex(),
                }
            replace_file(self._file, json.dumps(stored, ensure_ascii=False).encode(), 0o600)

    def delete(self) -> None:
        """End the stream for good. Raises OSError."""
        self.end()
        self._file.unlink(missing_ok=True)

    def end(self) -> None:
        """End the threads of the stream; nothing is stored from then on."""
        with self._saving:
            self.stop.set()
        with self.changed:
            self.changed.notify_all()
            close = self._close_watch
        if close is not None:
            close()

    def closes(self, watch: Callable[[], None]) -> None:
        """Have ``watch`` called when the stream ends, now if it has ended."""
        with self.changed:
            self._close_watch = watch
            is_over = self.stop.is_set()
        if is_over:
            watch()

    def jti(self, revision: int, about: bytes, incarnation: bytes) -> str:
        """Return the id of an event, which is the same however often it is read."""
        digest = hashlib.blake2b(digest_size=20)
        for part in (incarnation, revision.to_bytes(8, "big"), self.terms.stream_id.encode(), about):
            digest.update(len(part).to_bytes(2, "big") + part)
        return digest.hexdigest()

    def add(self, jti: str, claims: Mapping[str, Any]) -> bool:
        """Have an event wait, once there is room; False if the stream ended meanwhile."""
        with self.changed:
            while len(self._known) >= MAX_WAITING and not self.stop.is_set():
                self.changed.wait(1.0)
            if self.stop.is_set():
                return False
            if jti not in self._known:
                self._append(WaitingEvent(jti, claims))
            return True

    def verify(self, jti: str, claims: Mapping[str, Any]) -> None:
        """Have a verification event wait after all others; it replaces the one before."""
        with self.changed:
            if self._verification is not None:
                self._settle(self._verification)
            self._verification = WaitingEvent(jti, claims)
            self._append(self._verification)

    def reach(self, place: StreamPlace) -> bool:
        """Note that all events up to ``place`` were added; True if all of them are acknowledged."""
        with self.changed:
            if self._entries and isinstance(self._entries[-1], StreamPlace):
                self._entries.pop()
            self._entries.append(place)
            self._advance()
            return self.place == place

    def waiting(self, most: int) -> tuple[list[WaitingEvent], bool]:
        """Return the first events that wait, and whether there are more; none while it is paused."""
        with self.changed:
            if self.terms.status != "enabled":
                return [], False
            found: list[WaitingEvent] = []
            for entry in self._entries:
                if isinstance(entry, WaitingEvent) and not entry.is_done:
                    if len(found) == most:
                        return found, True
                    found.append(entry)
            return found, False

    def settle(self, ids: Iterable[str]) -> int:
        """Store durably that events are done with; returns how many of them waited. Raises OSError."""
        with self.changed:
            before = self.place
            found = [self._known[jti] for jti in ids if jti in self._known]
            for each in found:
                self._settle(each)
            is_changed = before != self.place
        if is_changed:
            self.save()
        return len(found)

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``until()`` holds or the stream ends; returns whether it holds."""
        with self.changed:
            return self.changed.wait_for(lambda: self.stop.is_set() or until(), seconds) and until()

    def _append(self, event: WaitingEvent) -> None:
        self._entries.append(event)
        self._known[event.jti] = event
        self.changed.notify_all()

    def _settle(self, event: WaitingEvent) -> None:
        event.is_done = True
        self._known.pop(event.jti, None)
        self._advance()
        self.changed.notify_all()

    def _advance(self) -> None:
        """Move past what is done at the beginning."""
        while self._entries:
            first = self._entries[0]
            if isinstance(first, StreamPlace):
                self.place = first
            elif not first.is_done:
                return
            self._entries.popleft()
