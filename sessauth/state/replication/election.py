"""Election: one server of a cluster leads at a time, by a key in the engine that expires unless renewed.

The engine compares the term in each append, so a server that wrongly believes it leads writes nothing. The
election is for progress; the append alone keeps two servers from writing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from ...errors import SessauthError, StateError
from ..writer.state_writer import StateWriter
from .carried_log import CarriedLog
from .carrier import BeatReplaced, CarrierError, Leader
from .follower import Follower
from .freshness import contradiction, other_engine
from .peers import Peers

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
        follower: Follower,
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
