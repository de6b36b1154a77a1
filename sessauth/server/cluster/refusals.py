"""Refusals of a follower by servers of its settings: they leave it fewer servers to turn to.

A host follows one server at a time, so it would learn of a credential that another one lacks when it needs
that one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from ...client._feed.servers import FeedRefused
from ...client._feed.source import FeedSource
from ...errors import SessauthError
from ...state.replication.carrier import CarrierError
from .. import log

PERIOD_SECONDS: Final = 60.0


class ServerRefusals:
    """Asks each server at the start and once a minute; logs each change once."""

    def __init__(
        self,
        source: FeedSource,
        period_seconds: float = PERIOD_SECONDS,
        in_alarm: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start nothing yet. While ``in_alarm()`` no server is asked: a barrier would deny the alarm."""
        self._source = source
        self._period = period_seconds
        self._in_alarm = in_alarm
        self._refusals: dict[str, FeedRefused] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessauth-refusals", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def servers(self) -> tuple[str, ...]:
        """The addresses of the servers that refuse this host."""
        return tuple(sorted(self._refusals))

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def ask(self, server: str) -> None:
        """Ask one server. No answer changes nothing: the server may still refuse, or not."""
        try:
            self._source.ask(server)
        except FeedRefused as refused:
            before = self._refusals.get(server)
            # A new dictionary for each change: other threads read it.
            self._refusals = {**self._refusals, server: refused}
            if before is None or str(before) != str(refused):
                log.event(logging.ERROR, "server_refuses", setting=refused.knob, error=str(refused))
        except (CarrierError, SessauthError):
            return
        else:
            if server in self._refusals:
                self._refusals = {name: why for name, why in self._refusals.items() if name != server}
                log.event(logging.INFO, "server_accepts", server=server)

    def _run(self) -> None:
        while not self._closing.is_set():
            for server in sorted(self._source.servers):
                if self._closing.is_set():
                    return
                if not self._in_alarm():
                    self.ask(server)
            self._closing.wait(self._period)
