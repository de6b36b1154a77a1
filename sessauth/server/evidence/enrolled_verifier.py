"""One verifier that enrolled, and where it stands against the end of a session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ...model.receipt import VerifierState, VerifierStatus
from ...model.registration import RegistrationRecord
from ...state.host.processes import is_gone

# What a bound is stretched by here: for a check that was under way when it passed.
MARGIN_MS: Final = 100


class VerifierKind(IntEnum):
    """What kind of verifier it is; the numbers are those of ``evidence_service.proto``."""

    CONTROL = 1
    WORKER = 2
    EMBEDDED = 3


@dataclass(slots=True, eq=False)
class RegistryEntry:
    """A verifier under its name. ``heard_ms`` is of the steady clock, ``…_at_ms`` of the wall clock.

    ``revision`` is the latest that it acknowledged, ``acknowledged_at_ms`` when. ``left_at_ms`` is not 0 once
    it can't allow any more because it left. ``late``: nobody waits for it until it is heard again.
    """

    record: RegistrationRecord
    kind: VerifierKind
    revision: int
    heard_ms: int
    renewed_at_ms: int
    acknowledged_at_ms: int = 0
    left_at_ms: int = 0
    late: bool = False

    def hear(self, revision: int, steady_ms: int, at_ms: int) -> None:
        """Note that it was heard, and what it judges by."""
        if revision > self.revision or not self.acknowledged_at_ms:
            self.acknowledged_at_ms = at_ms
        self.revision = max(self.revision, revision)
        self.heard_ms, self.renewed_at_ms, self.late = steady_ms, at_ms, False

    def bound_passed(self, steady_ms: int) -> bool:
        """Whether it denies every call by now if it was not heard by another server."""
        bound = self.record.staleness_ms
        return bool(bound) and steady_ms >= self.heard_ms + bound + MARGIN_MS

    def look(self, at_ms: int) -> None:
        """Note a worker's end: it is a child of this process's, whose end can be told for certain."""
        if self.kind is VerifierKind.WORKER and not self.left_at_ms:
            if is_gone(self.record.process_id, self.record.process_started):
                self.left_at_ms = at_ms

    @property
    def bound_at_ms(self) -> int:
        """When its bound passes, or passed, unless it is heard; 0: it has none."""
        return self.renewed_at_ms + self.record.staleness_ms if self.record.staleness_ms else 0

    def may_allow(self, steady_ms: int, at_ms: int) -> bool:
        """Whether it may allow calls at all, for what is known."""
        self.look(at_ms)
        return not self.left_at_ms and not self.bound_passed(steady_ms)

    def standing(self, revision: int, steady_ms: int, at_ms: int) -> VerifierStatus:
        """Return where it stands against a change that came at ``revision``."""
        if self.revision >= revision:
            state, when = VerifierState.ACKNOWLEDGED, self.acknowledged_at_ms
        else:
            state = self.state_now(revision, steady_ms, at_ms)
            when = self.left_at_ms if state is VerifierState.LEFT else self.bound_at_ms
        return VerifierStatus(self.record.name, state, self.revision, when)

    def state_now(self, revision: int, steady_ms: int, at_ms: int) -> VerifierState:
        """Return whether it may still allow, and if so whether it has acknowledged ``revision``."""
        if self.may_allow(steady_ms, at_ms):
            return VerifierState.ACKNOWLEDGED if self.revision >= revision else VerifierState.WAITING
        return VerifierState.LEFT if self.left_at_ms else VerifierState.OUTLIVED

    def over_at_ms(self, steady_ms: int, at_ms: int) -> int:
        """Return since when it can't allow any more, in ms since 1970; 0: it can, for what is known."""
        if self.may_allow(steady_ms, at_ms):
            return 0
        return self.left_at_ms or self.bound_at_ms
