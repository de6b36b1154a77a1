"""Election: one server of a cluster leads at a time, by a key in the engine that expires unless renewed.

The engine compares the term in each append, so a server that wrongly believes it leads writes nothing. The
election is for progress; the append alone keeps two servers from writing.

A host accepts the beats of other servers that are signed by active keys of its own folder. They tell how far
the servers' clocks differ, and why none leads. A leader stamps all changes, and no host uses a time before
the last stamp. So a leader whose clock is ahead would make every other host deny until real time reaches its
stamps: it must not lead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ...clock import Clock
from ...crypto.keys import KeyStatus
from ...errors import SessauthError, StateError
from ...model.host import LIST_SUFFIX, SERVER_OWNER, ServerBeat, SignedBeat
from ..lmdb.environment import LmdbSource
from ..lmdb.rows import TxnRows
from ..writer.state_writer import StateWriter
from .carried_log import CarriedLog
from .carrier import BeatReplaced, Carrier, CarrierError, Leader
from .follower import ReplicationThread, contradiction, other_engine

_log = logging.getLogger(__name__)
TTL_MS: Final = 5_000
PERIOD_SECONDS: Final = 0.25
CATCH_UP_MS: Final = 4_000
# A leader whose clock is further behind the last logged change would stamp all changes with its time.
MOST_BEHIND_MS: Final = 2_000


class Election:
    """Makes this server lead when no other does, until :meth:`close`."""

    def __init__(
        self,
        carried: CarriedLog,
        follower: ReplicationThread,
        writer: StateWriter,
        address: str,
        *,
        ttl_ms: int = TTL_MS,
        on_lead: Callable[[], None] = lambda: None,
        peers: Peers | None = None,
    ) -> None:
        """Serve at ``address`` (host:port) when leading, which the clocks of ``peers`` must permit.

        Starts nothing yet.
        """
        self._carried = carried
        self._carrier = carried.carrier
        self._follower = follower
        self._writer = writer
        self._address = address
        self._ttl_ms = ttl_ms
        self._on_lead = on_lead
        self._peers = peers
        # Why this server does not lead though no other does; empty: it leads, or another one does.
        self.reason = ""
        self._closing = threading.Event()
        self._held_at = 0.0
        # The key that this server took last; not given back yet.
        self._own_key: Leader | None = None
        self._thread = threading.Thread(target=self._run, name="sessauth-election", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Give the lead back, if this server has it, and end the thread."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._carried.step_down("the server stops")
        self._give_back()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                leader = self._carried.leader
                if leader is None:
                    self._give_back()
                    self._try_to_lead()
                elif self._follower.alarm is not None:
                    self._carried.step_down(f"the alarm was raised: {self._follower.alarm}", leader)
                    self._give_back()
                else:
                    self._require_peers(leader)
                    self._hold(leader)
            except CarrierError as error:
                _log.warning("the engine can't be asked for the leader: %s", error)
            except Exception:  # noqa: BLE001 - the thread must go on
                _log.exception("the election failed")
            self._closing.wait(PERIOD_SECONDS)

    def _hold(self, leader: Leader) -> None:
        """Keep the key, at a third of its time."""
        now = time.monotonic()
        if now - self._held_at < self._ttl_ms / 3000:
            return
        try:
            held = self._carrier.hold(leader)
        except BeatReplaced as error:
            self._carried.step_down(str(error), leader)
            return
        except CarrierError as error:
            if now - self._held_at > self._ttl_ms / 1000:
                self._carried.step_down(f"the engine did not answer for {self._ttl_ms} ms: {error}", leader)
            return
        if held:
            self._held_at = now
        else:
            self._carried.step_down("the lead was not renewed in time", leader)

    def _give_back(self) -> None:
        """Give back a key that this server no longer leads by: others would wait, and be sent here."""
        key, self._own_key = self._own_key, None
        if key is not None:
            self._carrier.resign(key)

    def _try_to_lead(self) -> None:
        if self._follower.alarm is not None or self._writer.failed:
            self._refuse("it is in alarm" if self._follower.alarm is not None else "its disk failed")
            return
        other = self._carrier.leader()
        self._carried.follow(other)
        if other is not None:
            self.reason = ""
            return
        if not self._has_active_key():
            self._refuse("its key is not active")
            return
        if not self._peers_agree():
            return
        asked_at = time.monotonic()
        leader = self._carrier.lead(self._carried.server, self._address, self._ttl_ms)
        if leader is None:
            return
        self._held_at, self._own_key = asked_at, leader
        try:
            self._take_over(leader)
        except (CarrierError, SessauthError) as error:
            self._refuse(str(error))
            self._carried.step_down(f"the take-over failed: {error}", leader)
            self._give_back()

    def _take_over(self, leader: Leader) -> None:
        """Hold every record before the term, then begin it in the log. Raises CarrierError or StateError."""
        before = self._follower.position
        barrier = self._follower.barrier()
        head, alarm = barrier.head, contradiction(before, barrier)
        if alarm is not None:
            self._follower.raise_alarm(alarm, head.number)
            raise alarm
        if not self._follower.wait_for(head.number, CATCH_UP_MS):
            raise StateError(f"record {head.number} did not come in time")
        alarm = other_engine(self._follower.position, barrier)
        if alarm is not None:
            self._follower.raise_alarm(alarm, head.number)
            raise alarm
        self._require_clock()
        if not self._has_active_key():
            raise StateError("this server's key is not active, so no other host would take its records")
        self._carried.lead(leader, barrier.engine_id)
        self._writer.run(self._carried.begin_term)
        self.reason = ""
        _log.info("this server leads from term %d on", leader.term)
        self._on_lead()

    def _has_active_key(self) -> bool:
        with self._writer.source().rows() as rows:
            return self._carried.has_active_key(rows)

    def _refuse(self, reason: str) -> None:
        """Keep the reason, and log it once: it is found again four times a second."""
        if not self.reason:
            _log.warning("could not take the lead: %s", reason)
        self.reason = reason

    def _peers_agree(self) -> bool:
        """Return True if this server may lead by the clocks of the others, as far as they are known."""
        if self._peers is None:
            return True
        if not self._peers.settle():
            return False
        try:
            self._peers.require_clock(self._writer.head().clock_floor_ms)
            self._require_clock()
        except StateError as error:
            self._refuse(str(error))
            return False
        return True

    def _require_peers(self, leader: Leader) -> None:
        """Give the lead back if this clock is ahead by now: others would deny by its stamps.

        The same holds after the clock was set back: a server that is not behind may give authority.
        """
        if self._peers is not None:
            floor_ms = self._writer.head().clock_floor_ms
            try:
                self._peers.require_clock(floor_ms)
                self._peers.require_not_behind(floor_ms)
            except StateError as error:
                self._carried.step_down(str(error), leader)

    def _require_clock(self) -> None:
        """Raise StateError if this host's clock would hold back the times of leases and expiries."""
        behind = self._writer.head().clock_floor_ms - self._writer.now_ms()
        if behind > MOST_BEHIND_MS:
            raise StateError(f"this host's clock is {behind} ms behind the log; set it right")


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


def genuine_beats(rows: TxnRows, beats: Mapping[str, bytes]) -> dict[str, ServerBeat]:
    """Return the beats signed for this cluster by an active key of their server, by server; with hosts."""
    cluster_id, found = rows.head().cluster_id, {}
    keys = [
        key for key in map(rows.key, rows.key_ids()) if key is not None and key.status is KeyStatus.ACTIVE
    ]
    for server, data in beats.items():
        own = {key.id: key.public_key for key in keys if key.owner == SERVER_OWNER + server}
        beat, listed = (SignedBeat.read(each, own) for each in (data, beats.get(server + LIST_SUFFIX, b"")))
        if beat is not None and (beat.cluster_id, beat.server) == (cluster_id, server):
            found[server] = beat.with_hosts(listed) or beat
    return found
