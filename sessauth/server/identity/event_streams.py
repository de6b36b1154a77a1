"""Streams of security events: the time of the last event, and the effect of silence.

A stream that is cut looks like one with nothing to say. So a provider is asked again and again to send a
verification event (SSF 1.0, section 7.1.4) with a random ``state``. A carrier of events can't make one.
Where silence only rings an alarm (``on_silence``), any event of the stream will do.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ...clock import Clock
from ...errors import Rejected
from ...state.writer.state_writer import StateWriter
from ..log import event
from ..status import refused
from .login_changes import COMMIT_BYTES, follow_silence
from .providers import IdentityProvider
from .statements import VERIFICATION, Signal

SUSPEND: Final = "suspend"
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
    # False while sessions are left to suspend or to resume.
    followed: bool = False


class EventStreams:
    """The streams of the providers whose silence counts (``silence_ms``). Any thread may use it."""

    def __init__(self, writer: StateWriter, providers: Sequence[IdentityProvider], clock: Clock) -> None:
        """Count the silence of each stream from now on."""
        self._writer, self._clock = writer, clock
        self._lock = threading.Lock()
        now_ms = clock.steady_ms()
        self._streams = {each.name: _Stream(each, now_ms) for each in providers if each.silence_ms}

    def ask(self, name: str) -> str:
        """Return a new state that a verification event is to come back with; empty if nobody waits for it."""
        stream = self._streams.get(name)
        if stream is None:
            return ""
        state = secrets.token_hex(_STATE_BYTES)
        with self._lock:
            stream.states.append(state)
        return state

    def receive(self, signal: Signal) -> None:
        """Take note of an event that was verified."""
        stream = self._streams.get(signal.provider.name)
        if stream is None:
            return
        with self._lock:
            proven = signal.event == VERIFICATION and signal.state in stream.states
            if proven or stream.provider.on_silence != SUSPEND:
                stream.received_ms, stream.proven = self._clock.steady_ms(), True

    @property
    def ages_s(self) -> Mapping[tuple[str, ...], float]:
        """The seconds since the last event of each stream, by provider."""
        now_ms = self._clock.steady_ms()
        return {(name,): (now_ms - stream.received_ms) / 1000 for name, stream in self._streams.items()}

    def suspends(self, name: str) -> bool:
        """Return True while the silence of a provider suspends its logins."""
        stream = self._streams.get(name)
        return stream is not None and stream.provider.on_silence == SUSPEND and self._is_silent(stream)

    def require_events(self, name: str) -> None:
        """Raise ServerError IDENTITY_STREAM_SILENT while the silence of a provider suspends its logins."""
        if self.suspends(name):
            raise refused(
                "IDENTITY_STREAM_SILENT",
                f"the security events of {name} are silent, so no session is opened by its tokens",
            )

    def poll(self) -> None:
        """Follow what has become silent, or is so no longer, on the server that writes."""
        if not self._writer.leads:
            return
        for name, stream in self._streams.items():
            silent = self._is_silent(stream)
            if silent and not stream.silent:
                event(logging.WARNING, "identity_stream_silent", provider=name)
            elif stream.silent and not silent:
                event(logging.WARNING, "identity_stream_received", provider=name)
            stream.followed = stream.followed and silent is stream.silent
            stream.silent = silent
            if stream.provider.on_silence == SUSPEND and not stream.followed and (silent or stream.proven):
                self._follow(stream)

    def _is_silent(self, stream: _Stream) -> bool:
        return self._clock.steady_ms() - stream.received_ms > stream.provider.silence_ms

    def _follow(self, stream: _Stream) -> None:
        work = partial(follow_silence, provider=stream.provider, silent=stream.silent)
        try:
            part = self._writer.decide(work, COMMIT_BYTES, only_removes_authority=stream.silent).result()
        except Rejected:
            # Nothing is resumed while an operator has frozen all; the next turn tries again.
            return
        stream.followed = not part.more
