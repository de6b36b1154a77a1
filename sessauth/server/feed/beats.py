"""Beats: this server's report into the engine of the hosts that it feeds, with each barrier."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Final

from ...clock import Clock
from ...crypto.signing_key import MessageKey
from ...model.group_record import FORMAT
from ...model.host import HostApplied, ServerBeat
from .hosts import FollowedHosts

# Characters of a reason, or of the clocks that differ.
MOST_TEXT: Final = 300
_PROCESS_BYTES: Final = 8


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
        self._applied = applied
        self._clock = clock
        self._standing = standing
        self._began_ms: int | None = None
        self._numbers = itertools.count(1)
        self._process = os.urandom(_PROCESS_BYTES)
        self.hosts = ListedHosts(hosts, clock, self._listing)

    def stored(self) -> None:
        """Start the age of the process, once: an earlier process with its name is granted no proof.

        From the process's start it would be too high, as another process may have proved hosts fresh since.
        """
        if self._began_ms is None:
            self._began_ms = self._clock.steady_ms()

    def __call__(self) -> bytes:
        """Return the next beat, encoded: its list names each host that may be granted freshness by it."""
        not_leading, clock_differs = (text[:MOST_TEXT] for text in self._standing())
        beat = ServerBeat(
            self._cluster_id,
            self._server,
            next(self._numbers),
            0 if self._began_ms is None else self._clock.steady_ms() - self._began_ms,
            self._applied(),
            reads=FORMAT,
            at_ms=self._clock.now_ms(),
            not_leading=not_leading,
            clock_differs=clock_differs,
            process=self._process,
            listed=self.hosts.number,
        )
        return beat.signed_by(self._key).encode()

    def _listing(self, hosts: tuple[HostApplied, ...]) -> tuple[int, bytes]:
        """Return a list's number, and the list, encoded."""
        number = next(self._numbers)
        beat = ServerBeat(
            self._cluster_id,
            self._server,
            number,
            0,
            0,
            hosts,
            FORMAT,
            process=self._process,
            listed=number,
        )
        return number, beat.signed_by(self._key).encode()


class ListedHosts:
    """The hosts that may be granted freshness, listed again only when one of them changed.

    Each barrier is a write, twenty a second at most: with the list in each, a thousand hosts would fill an
    engine while nothing happens.
    """

    def __init__(
        self,
        followed: FollowedHosts,
        clock: Clock,
        listing: Callable[[tuple[HostApplied, ...]], tuple[int, bytes]],
    ) -> None:
        """``listing(hosts)`` gives the number of a new list, and the list as it is stored."""
        self._followed = followed
        self._clock = clock
        self._listing = listing
        self._next: tuple[int, tuple[HostApplied, ...]] = (0, ())
        self._stored: tuple[int, tuple[HostApplied, ...]] = (0, ())

    @property
    def number(self) -> int:
        """The number of the list that is stored; 0: there are no hosts."""
        number, hosts = self._stored
        return number if hosts else 0

    def changed(self) -> bytes:
        """Return the list to store; empty: the stored one is right, or there are no hosts."""
        hosts = tuple(
            HostApplied(report.host, report.instance, report.applied, report.reads)
            for report in sorted(
                self._followed.active(self._clock.steady_ms()),
                key=lambda report: (report.host, report.principal),
            )
        )
        if hosts == self._stored[1]:
            return b""
        # Until the list is stored: one without an answer may be, so the one before can't be used any more.
        self._stored = (0, ())
        if not hosts:
            return b""
        number, data = self._listing(hosts)
        self._next = (number, hosts)
        return data

    def stored(self) -> None:
        """Refer to the list that :meth:`changed` returned last."""
        self._stored = self._next
