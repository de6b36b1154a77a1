"""One registered verifier, and its state against the end of a session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ...model.receipt import VerifierState, VerifierStatus
from ...model.registration import RegistrationRecord
from ...state.host.processes import is_gone

# Added to a bound here: for a check that was under way when it passed.
MARGIN_MS: Final = 100


class VerifierKind(IntEnum):
    """Kinds of verifiers, with the numbers of ``evidence_service.proto``."""

    CONTROL = 1
    WORKER = 2
    EMBEDDED = 3


@dataclass(slots=True, eq=False)
class RegistryEntry:
    """A verifier under its name. ``renewed_ms`` is of the steady clock, ``…_at_ms`` of the wall clock.

    ``revision`` is the latest that it acknowledged, ``acknowledged_at_ms`` when. ``left_at_ms`` is not 0 once
    it left and can't allow any more. ``late``: no receipt waits for it until it renews.
    """

    record: RegistrationRecord
    kind: VerifierKind
    revision: int
    renewed_ms: int
    renewed_at_ms: int
    acknowledged_at_ms: int = 0
    left_at_ms: int = 0
    late: bool = False

    def renew(self, revision: int, steady_ms: int, at_ms: int) -> None:
        """Record a renewal, and the revision that it uses."""
        if revision > self.revision or not self.acknowledged_at_ms:
            self.acknowledged_at_ms = at_ms
        self.revision = max(self.revision, revision)
        self.renewed_ms, self.renewed_at_ms, self.late = steady_ms, at_ms, False

    def is_stale(self, steady_ms: int) -> bool:
        """Return True if its bound passed: it denies every call by now unless another server renewed it."""
        bound = self.record.staleness_ms
        return bool(bound) and steady_ms >= self.renewed_ms + bound + MARGIN_MS

    def poll_process(self, at_ms: int) -> None:
        """Record a worker's end: as a child of this process, its end is certain."""
        if self.kind is VerifierKind.WORKER and not self.left_at_ms:
            if is_gone(self.record.process_id, self.record.process_started):
                self.left_at_ms = at_ms

    @property
    def stale_at_ms(self) -> int:
        """The end of its bound unless it renews; 0 without a bound."""
        return self.renewed_at_ms + self.record.staleness_ms if self.record.staleness_ms else 0

    def may_allow(self, steady_ms: int, at_ms: int) -> bool:
        """Return True unless it is certain that it allows no call."""
        self.poll_process(at_ms)
        return not self.left_at_ms and not self.is_stale(steady_ms)

    def status(self, revision: int, steady_ms: int, at_ms: int) -> VerifierStatus:
        """Return its status against a change that came at ``revision``."""
        if self.revision >= revision:
            state, when = VerifierState.ACKNOWLEDGED, self.acknowledged_at_ms
        else:
            state = self.current_state(revision, steady_ms, at_ms)
            when = self.left_at_ms if state is VerifierState.LEFT else self.stale_at_ms
        return VerifierStatus(self.record.name, state, self.revision, when)

    def current_state(self, revision: int, steady_ms: int, at_ms: int) -> VerifierState:
        """Return whether it may still allow, and if so whether it has acknowledged ``revision``."""
        if self.may_allow(steady_ms, at_ms):
            return VerifierState.ACKNOWLEDGED if self.revision >= revision else VerifierState.WAITING
        return VerifierState.LEFT if self.left_at_ms else VerifierState.OUTLIVED

    def inactive_since_ms(self, steady_ms: int, at_ms: int) -> int:
        """Return when it became unable to allow calls, in ms since 1970; 0 if it may allow."""
        if self.may_allow(steady_ms, at_ms):
            return 0
        return self.left_at_ms or self.stale_at_ms
