"""What a server knows of how sessions were used: reports and censuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from ..model.session import ScopeRecord, Session
from ..tokens.inspection import BlockInfo
from ..usage.observations import BlockObservation, SessionObservation, UseAfterEnd


class Missing(IntEnum):
    """Why a report may not hold everything.

    LOST: somewhere there was no room for it, or it was lost on the way. BEFORE: the session is older than
    what the server knows. USAGE: what its calls looked like was not asked for, or not from its start on.
    """

    UNSPECIFIED = 0
    LOST = 1
    BEFORE = 2
    USAGE = 3


@dataclass(frozen=True, slots=True)
class VerifierActivity:
    """What one verifier told of a session; ``reported_at_ms`` is when it last did, in ms since 1970."""

    name: str
    allowed: int
    denied: int
    reported_at_ms: int


@dataclass(frozen=True, slots=True)
class SessionReport:
    """What a session was granted, and what verifiers saw of it.

    ``inherited`` are the layers of its ancestors' ceilings. ``seen.usage`` is what its calls looked like,
    where the server asked for that; it holds values of arguments.
    """

    session: Session
    inherited: tuple[tuple[ScopeRecord, ...], ...]
    seen: SessionObservation
    verifiers: tuple[VerifierActivity, ...]
    missing: tuple[Missing, ...]

    @property
    def incomplete(self) -> bool:
        """Whether something may be missing, beside what the calls looked like."""
        return bool({Missing.LOST, Missing.BEFORE} & set(self.missing))

    @property
    def granted(self) -> Session:
        """The session, with all layers that its calls had to match."""
        return replace(self.session, ceilings=self.session.ceilings + self.inherited)


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page of reports. ``next_page_token`` is empty on the last."""

    reports: tuple[SessionReport, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class BlockCensus:
    """A block that was seen; ``revoked``: it is, or a block above it is.

    ``says`` is what the block says; None if the server was not told.
    """

    seen: BlockObservation
    revoked: bool
    says: BlockInfo | None


@dataclass(frozen=True, slots=True)
class Census:
    """Every block of a session's tokens that any verifier saw, parents before their children."""

    blocks: tuple[BlockCensus, ...]
    late: tuple[UseAfterEnd, ...]
    missing: tuple[Missing, ...]

    def children(self, block_id: bytes = b"") -> Sequence[BlockCensus]:
        """Return the blocks that were attenuated from a block; without one, the root blocks."""
        return [block for block in self.blocks if block.seen.parent_id == block_id]
