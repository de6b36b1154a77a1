"""Streams of security events: the time of the last event, and the effect of silence.

A stream that is cut looks like one with nothing to say. So a provider is asked again and again to send a
verification event (SSF 1.0, section 7.1.4) with a random ``state``, which counts once. A carrier of events
can't make one. Where silence only rings an alarm (``on_silence``, ``on_gap``), any event will do.

After a gap nobody knows what was lost in it. A gap is a silence, a stream that its provider stopped, and the
time before a process begins to write: no row says until when another one received events. It ends when the
stream comes through, and logins up to then can be cut.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from ...clock import Clock
from ...errors import Rejected
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ..log import event
from ..status import refused
from .login_changes import COMMIT_BYTES, AppliedPart, cut_gap, follow_silence
from .providers import IdentityProvider
from .statements import VERIFICATION, Signal

LOG: Final = "log"
# States that were asked for and may still come: a minute apart, so for some minutes.
_KNOWN_STATES: Final = 8
_STATE_BYTES: Final = 16


@dataclass(slots=True, eq=False)
class _Stream:
    """A provider's stream. ``received_ms`` is by the steady clock, at first the time of the start."""

    provider: IdentityProvider
    received_ms: int
    states: deque[str] = field(default_factory=partial(deque, maxlen=_KNOWN_STATES))
    # A process that starts knows of no event. What an earlier one suspended stays so until one comes.
    proven: bool = False
    silent: bool = False
    # False while sessions are left to suspend, to end or to resume.
    followed: bool = False
    gap: bool = False
    # The latest moments at which the provider stopped it, and said something that counts, in ms since 1970.
    stopped_ms: int = 0
    stated_ms: int = 0
    # The end of a gap up to which logins are left to cut, in ms since 1970; 0 if none are.
    cut_ms: int = 0


class StreamFacts(NamedTuple):
    """A stream now: the age of its last event that counts, or of the beginning, and what it means."""

    age_ms: int
    proven: bool
    silent: bool
    gap: bool


class EventStreams:
    """The streams of the providers whose silence counts (``silence_ms``). Any thread may use it."""

    def __init__(self, writer: StateWriter, providers: Sequence[IdentityProvider], clock: Clock) -> None:
        """Count the silence of each stream from now on."""
        self._writer, self._clock = writer, clock
        self._lock = threading.Lock()
        now_ms = clock.steady_ms()
        self._streams = {each.name: _Stream(each, now_ms) for each in providers if each.silence_ms}
        self._leads = False
        self._follow_lead()

    def _follow_lead(self) -> bool:
        """Return True on the server that writes. One that begins to has received nothing yet."""
        with self._lock:
            leads = bool(self._streams) and self._writer.leads
            if leads and not self._leads:
                for stream in self._streams.values():
                    stream.received_ms, stream.proven = self._clock.steady_ms(), False
                    stream.silent = stream.followed = False
                    stream.gap = stream.provider.on_gap != LOG
            self._leads = leads
        return leads

    def ask(self, name: str) -> str:
        """Return a new state that a verification event is to come back with; empty if nobody waits for it."""
        stream = self._streams.get(name)
        if stream is None:
            return ""
        self._follow_lead()
        state = secrets.token_hex(_STATE_BYTES)
        with self._lock:
            stream.states.append(state)
        return state

    def receive(self, signal: Signal) -> None:
        """Take note of an event that was verified. Raises StateError while the wall time is suspect."""
        stream = self._streams.get(signal.provider.name)
        if stream is None:
            return
        self._follow_lead()
        now_ms = self._writer.now_ms()
        with self._lock:
            if signal.stopped:
                self._stop(stream, signal)
                return
            proven = signal.event == VERIFICATION and signal.state in stream.states
            if proven:
                stream.states.remove(signal.state)
            elif stream.provider.needs_verification:
                return
            if stream.gap or self._is_silent(stream):
                stream.gap, stream.cut_ms = False, now_ms
                event(
                    logging.WARNING,
                    "identity_stream_gap",
                    provider=signal.provider.name,
                    on_gap=stream.provider.on_gap,
                )
            stream.received_ms, stream.proven = self._clock.steady_ms(), True
            stream.stated_ms = max(stream.stated_ms, signal.moment_ms)

    def _stop(self, stream: _Stream, signal: Signal) -> None:
        """Begin a gap, as the provider has stopped a stream; a repeat, or what is over, begins none."""
        # Providers state whole seconds, and polls have no order.
        second = signal.moment_ms // 1000
        if second > stream.stopped_ms // 1000 and second >= stream.stated_ms // 1000:
            # The answers to what was asked before say nothing of the time since.
            stream.states.clear()
            stream.gap, stream.stopped_ms = True, signal.moment_ms
            name = signal.provider.name
            event(logging.WARNING, "identity_stream_stopped", provider=name, status=signal.stopped)

    @property
    def ages_s(self) -> Mapping[tuple[str, ...], float]:
        """The seconds since the last event of each stream, by provider; on the server that writes."""
        if not self._follow_lead():
            return {}
        now_ms = self._clock.steady_ms()
        return {(name,): (now_ms - stream.received_ms) / 1000 for name, stream in self._streams.items()}

    def describe(self, name: str) -> StreamFacts | None:
        """Return the facts of a provider's stream, on the server that writes; None if nobody waits for it."""
        stream = self._streams.get(name)
        if stream is None or not self._follow_lead():
            return None
        with self._lock:
            age_ms, silent = self._clock.steady_ms() - stream.received_ms, self._is_silent(stream)
            return StreamFacts(age_ms, stream.proven, silent, stream.gap or silent)

    def refuses(self, name: str) -> bool:
        """Return True while a provider's tokens open nothing, because it is silent."""
        stream = self._streams.get(name)
        return stream is not None and stream.provider.on_silence != LOG and self._is_silent(stream)

    def require_events(self, name: str) -> None:
        """Raise ServerError IDENTITY_STREAM_SILENT while a provider's tokens open nothing."""
        if self.refuses(name):
            raise refused(
                "IDENTITY_STREAM_SILENT",
                f"the security events of {name} are silent, so no session is opened by its tokens",
            )

    def cut_up_to_ms(self, name: str) -> int:
        """Return the moment up to which a gap is going to cut a provider's logins, or has; 0 if none."""
        stream = self._streams.get(name)
        return 0 if stream is None or stream.provider.on_gap == LOG else stream.cut_ms

    def poll(self) -> None:
        """Follow what has become silent, or is so no longer, on the server that writes."""
        if not self._follow_lead():
            return
        for name, stream in self._streams.items():
            with self._lock:
                silent = self._is_silent(stream)
                if silent and not stream.silent:
                    event(logging.WARNING, "identity_stream_silent", provider=name)
                elif stream.silent and not silent:
                    event(logging.WARNING, "identity_stream_received", provider=name)
                stream.followed = stream.followed and silent is stream.silent
                stream.silent, cut_ms = silent, stream.cut_ms
                stream.gap = stream.gap or silent
            if stream.provider.on_gap != LOG and cut_ms:
                if not self._is_done(partial(cut_gap, provider=stream.provider, end_ms=cut_ms)):
                    # Nobody who may have lost authority meanwhile is resumed.
                    continue
                with self._lock:
                    if stream.cut_ms == cut_ms:
                        stream.cut_ms = 0
            if stream.provider.on_silence != LOG and not stream.followed and (silent or stream.proven):
                work = partial(follow_silence, provider=stream.provider, silent=silent)
                stream.followed = self._is_done(work, removes=silent)

    def _is_silent(self, stream: _Stream) -> bool:
        return self._clock.steady_ms() - stream.received_ms > stream.provider.silence_ms

    def _is_done(self, work: Callable[[Group], AppliedPart], *, removes: bool = True) -> bool:
        """Change the next sessions; return True if none are left."""
        try:
            return not self._writer.decide(work, COMMIT_BYTES, only_removes_authority=removes).result().more
        except Rejected:
            # Nothing is resumed while an operator has frozen all; the next turn tries again.
            return False
