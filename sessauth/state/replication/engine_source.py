"""A server's own view of the carried log: read from the engine itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .carrier import Barrier, Carrier


class EngineSource:
    """A LogSource over a carrier. Each barrier carries ``beat()``: what this server says of its hosts."""

    def __init__(
        self,
        carrier: Carrier,
        server: str,
        beat: Callable[[], bytes] = bytes,
        on_stored: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask barriers as ``server``; ``on_stored()`` is called once a beat is stored."""
        self._carrier = carrier
        self._server = server
        self._beat = beat
        self._on_stored = on_stored
        # A beat must not replace a later one, which may name more hosts.
        self._beating = threading.Lock()
        self.read = carrier.read
        self.wait = carrier.wait

    def barrier(self) -> Barrier:
        """Write the beat by a quorum, and return the head."""
        with self._beating:
            barrier = self._carrier.barrier(self._server, self._beat())
            self._on_stored()
            return barrier
