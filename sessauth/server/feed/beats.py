"""Beats: what this server writes into the engine of the hosts that it feeds, with each barrier."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from ...clock import Clock
from ...crypto.signing_key import MessageKey
from ...model.group_record import FORMAT
from ...model.host import HostApplied, ServerBeat
from .hosts import FollowedHosts

# Characters of a reason, or of the clocks that differ.
MOST_TEXT: Final = 300


class BeatWriter:
    """Makes the beats of one server. One thread at a time may call it."""

    def __init__(
        self,
        cluster_id: bytes,
        server: str,
        key: MessageKey,
        hosts: FollowedHosts,
        applied: Callable[[], int],
        clock: Clock,
        standing: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        """Sign as ``server``; ``applied()`` returns the number of the last record that its folder holds.

        ``standing()`` returns why this server does not lead, and which clocks differ from its own.
        """
        self._cluster_id = cluster_id
        self._server = server
        self._key = key
        self._hosts = hosts
        self._applied = applied
        self._clock = clock
        self._standing = standing
        self._began_ms: int | None = None
        self._numbers = itertools.count(1)

    def stored(self) -> None:
        """Let the age of the process begin, if it has not: a former one with its name is granted no proof.

        From its start the age would be too high, as another process may have proved hosts fresh meanwhile.
        """
        if self._began_ms is None:
            self._began_ms = self._clock.steady_ms()

    def __call__(self) -> bytes:
        """Return the next beat, encoded: it names each host that may be granted freshness by this server."""
        now_ms = self._clock.steady_ms()
        hosts = tuple(
            HostApplied(report.host, report.instance, report.applied, report.reads)
            for report in self._hosts.active(now_ms)
        )
        not_leading, clock_differs = (text[:MOST_TEXT] for text in self._standing())
        beat = ServerBeat(
            self._cluster_id,
            self._server,
            next(self._numbers),
            0 if self._began_ms is None else now_ms - self._began_ms,
            self._applied(),
            hosts,
            FORMAT,
            self._clock.now_ms(),
            not_leading,
            clock_differs,
        )
        return beat.signed_by(self._key).encode()
