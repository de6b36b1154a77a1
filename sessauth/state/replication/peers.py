"""The other servers of a cluster, by their beats: how far their clocks differ, and why none leads.

A leader stamps all changes, and no host uses a time before the last stamp. So a leader whose clock is
ahead would make every other host deny until real time reaches its stamps: it must not lead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ...clock import Clock
from ...errors import StateError
from ...model.host import ServerBeat
from ..lmdb.environment import LmdbSource
from .beats import genuine_beats
from .carrier import Carrier

# Followers refuse a server whose clock is further off.
MOST_OFF_MS: Final = 2_000
# A server that runs writes a beat in that time: two looks with so much between them tell it from a dead one.
LOOK_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Clock:
    """Another server's clock minus the steady clock here, in ms: it lies between the two."""

    least: int
    most: int


class Peers:
    """The last words of the other servers. Any thread may call; :meth:`poll` once a second."""

    def __init__(
        self,
        carrier: Carrier,
        server: str,
        source: LmdbSource,
        clock: Clock,
        on_differ: Callable[[str], None] = lambda which: None,
    ) -> None:
        """Know nothing yet. ``server`` is this one; keys are those of ``source``.

        ``on_differ`` is called when a clock begins to differ, with all that do.
        """
        self._carrier = carrier
        self._server = server
        self._source = source
        self._clock = clock
        self._on_differ = on_differ
        self._lock = threading.Lock()
        self._polled_ms: int | None = None
        # Since when others are looked for; -1: there are none.
        self._since_ms: int | None = None
        self._beats: dict[str, bytes] = {}
        self._clocks: dict[str, _Clock] = {}
        # Those whose beat moved between the last two looks.
        self._live: frozenset[str] = frozenset()
        self._reasons: dict[str, str] = {}
        self._logged: frozenset[str] = frozenset()

    def poll(self) -> None:
        """Look at the beats of the others. Raises CarrierError."""
        with self._lock:
            began_ms = self._clock.steady_ms()
            beats = {name: beat for name, beat in self._carrier.beats().items() if name != self._server}
            with self._source.rows() as rows:
                genuine = genuine_beats(rows, beats)
            self._read(genuine, beats, began_ms)
            self._polled_ms, self._beats = began_ms, beats
            if self._since_ms is None:
                self._since_ms = began_ms if genuine else -1
            names = frozenset(self._differing())
            if names - self._logged:
                self._on_differ(self.clock_differs)
            self._logged = names

    def settle(self) -> bool:
        """Look if need be; return True once the clocks of servers that run are known. Raises CarrierError."""
        if self._since_ms is None:
            self.poll()
        if self._since_ms is None or self._since_ms < 0:
            return True
        if self._polled_ms is not None and self._polled_ms - self._since_ms >= LOOK_MS:
            return True
        if self._clock.steady_ms() - self._since_ms >= LOOK_MS:
            self.poll()
            return True
        return False

    def require_clock(self, floor_ms: int) -> None:
        """Raise StateError if this clock is ahead of those of most others.

        A server whose own clock is behind ``floor_ms``, the last stamp, has no say: it can't lead itself.
        """
        steady_ms = self._clock.steady_ms()
        counted = {
            name: clock
            for name, clock in self._clocks.items()
            if steady_ms + clock.most >= floor_ms - MOST_OFF_MS
        }
        differing = self._differing()
        ahead = {name: differing[name] for name in counted if differing.get(name, 0) > 0}
        if 2 * len(ahead) > len(counted):
            most = max(ahead, key=lambda name: ahead[name])
            raise StateError(
                f"this host's clock is {ahead[most]} ms ahead of that of server {most}; set the wrong one "
                "right, and restart that server"
            )

    def require_not_behind(self, floor_ms: int) -> None:
        """Raise StateError if this clock is behind ``floor_ms``, and that of a server that runs is not.

        Without another one this server writes the ends that it is asked for.
        """
        behind_ms = floor_ms - self._clock.now_ms()
        least_ms = floor_ms - MOST_OFF_MS - self._clock.steady_ms()
        clocks = self._clocks
        if behind_ms > MOST_OFF_MS and any(
            name in clocks and clocks[name].most >= least_ms for name in self._live
        ):
            raise StateError(f"this host's clock is {behind_ms} ms behind the log; set it right")

    @property
    def clock_differs(self) -> str:
        """The servers with other clocks, and how far each is from this one, for operators; empty: none."""
        return ", ".join(
            f"{abs(ms)} ms {'ahead of' if ms > 0 else 'behind'} server {name}"
            for name, ms in sorted(self._differing().items())
        )

    @property
    def reasons(self) -> Mapping[str, str]:
        """The reasons that keep servers from leading, as each says, by name; empty for a silent one."""
        return self._reasons

    def _read(self, genuine: dict[str, ServerBeat], beats: dict[str, bytes], began_ms: int) -> None:
        ended_ms = self._clock.steady_ms()
        live = {
            name: beat for name, beat in genuine.items() if self._beats.get(name) not in (None, beats[name])
        }
        # New dictionaries for each look: other threads read them.
        self._reasons = {name: live[name].not_leading if name in live else "" for name in genuine}
        clocks = {name: clock for name, clock in self._clocks.items() if name in genuine}
        for name, beat in live.items():
            if beat.at_ms and self._polled_ms is not None:
                # It was written between the begin of the look before and the end of this one.
                clocks[name] = _Clock(beat.at_ms - ended_ms, beat.at_ms - self._polled_ms)
        self._clocks, self._live = clocks, frozenset(live)

    def _differing(self) -> dict[str, int]:
        """Return how far this clock is ahead of others, negative: behind, where that is certain."""
        own_ms = self._clock.now_ms() - self._clock.steady_ms()
        found = {}
        for name, clock in self._clocks.items():
            if own_ms - clock.most > MOST_OFF_MS:
                found[name] = own_ms - clock.most
            elif own_ms - clock.least < -MOST_OFF_MS:
                found[name] = own_ms - clock.least
        return found
