"""The beats that this process sent, so that it notices another process with its server's name.

The first beat of a process replaces any other: a successor takes over. From then on the engine may have only
its own, so of two processes with one name the later one goes on, and the earlier one proves nothing any more.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Final

from .carrier import BeatReplaced

# Enough for hours without an answer. An earlier one that is found stored counts as another process's.
MAX_SENT: Final = 65_536


@dataclass(slots=True)
class _Beats:
    """The beats of one name. Those of ``sent`` may be stored after ``revision``, the last known one."""

    revision: int = 0
    stored: bool = False
    replaced: bool = False
    sent: dict[bytes, None] = field(default_factory=dict)


class OwnBeats:
    """The beats of a carrier by name. Any thread may use it; one at a time sends beats of a name.

    An engine counts the writes to a beat by a revision, 0 without any; each write is on condition of it.
    """

    def __init__(self) -> None:
        """Begin with nothing sent."""
        self._names: dict[str, _Beats] = {}
        self._lock = threading.Lock()

    def send(self, name: str, beat: bytes) -> int:
        """Remember a beat before it is sent; return the revision that is its condition.

        Raises BeatReplaced.
        """
        with self._lock:
            known = self._names.setdefault(name, _Beats())
            if known.replaced:
                raise BeatReplaced(name)
            known.sent[beat_digest(beat)] = None
            if len(known.sent) > MAX_SENT:
                del known.sent[next(iter(known.sent))]
            return known.revision

    def learn(self, name: str, revision: int, digest: bytes) -> None:
        """Take the stored revision from an answer to a beat. Raises BeatReplaced, from then on always."""
        with self._lock:
            known = self._names[name]
            if revision == known.revision:
                return
            if self._foreign(known, revision, digest):
                known.replaced = True
                raise BeatReplaced(name)
            known.stored = known.stored or digest in known.sent
            # Beats sent on condition of another revision have no effect any more.
            known.revision = revision
            known.sent.clear()

    def check(self, name: str, revision: int, digest: bytes) -> None:
        """Raise BeatReplaced if a beat that was read is another process's, with a name of this one."""
        with self._lock:
            known = self._names.get(name)
            if known is not None and (known.replaced or self._foreign(known, revision, digest)):
                raise BeatReplaced(name)

    def require(self) -> None:
        """Raise BeatReplaced if a name was taken over."""
        with self._lock:
            for name, known in self._names.items():
                if known.replaced:
                    raise BeatReplaced(name)

    @staticmethod
    def _foreign(known: _Beats, revision: int, digest: bytes) -> bool:
        # A lower revision comes from an engine that lost its past: the alarm handles that.
        return known.stored and revision > known.revision and digest not in known.sent


def beat_digest(beat: bytes) -> bytes:
    """Return the SHA-256 of a beat."""
    return hashlib.sha256(beat).digest()
