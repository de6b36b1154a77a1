"""A server's own view of the carried log: read from the engine itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ...model.host import LIST_SUFFIX
from .carrier import Barrier, Carrier


class HostList(Protocol):
    """The hosts of a server, in a beat of their own that is written where they changed."""

    def changed(self) -> bytes:
        """Return the list to store; empty: the stored one is right."""
        ...

    def stored(self) -> None:
        """Take notice that the last result of :meth:`changed` is stored."""
        ...


class EngineSource:
    """A LogSource over a carrier. Each barrier carries ``beat()``: this server's statement of its hosts."""

    def __init__(
        self,
        carrier: Carrier,
        server: str,
        beat: Callable[[], bytes] = bytes,
        on_stored: Callable[[], None] = lambda: None,
        hosts: HostList | None = None,
    ) -> None:
        """Request barriers as ``server``; ``on_stored()`` is called once a beat is stored.

        ``hosts`` writes the list that beats refer to, where it changed.
        """
        self._carrier = carrier
        self._server = server
        self._beat = beat
        self._on_stored = on_stored
        self._hosts = hosts
        # A beat must not replace a later one, which may name more hosts.
        self._beating = threading.Lock()
        self.read = carrier.read
        self.wait = carrier.wait

    def barrier(self) -> Barrier:
        """Write the beat by a quorum, and return the head."""
        with self._beating:
            listed = b"" if self._hosts is None else self._hosts.changed()
            if self._hosts is not None and listed:
                # Before the barrier that they are named for.
                self._carrier.barrier(self._server + LIST_SUFFIX, listed)
                self._hosts.stored()
            barrier = self._carrier.barrier(self._server, self._beat())
            self._on_stored()
            return barrier
