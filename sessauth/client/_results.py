"""Parameters and results of calls, where no other package has a class for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Self

from .._fast._check import judged
from ..approvals.request import ApprovalRequest
from ..errors import UsageError
from ..model.approval import SignedApproval
from ..model.receipt import SignedReceipt, VerifierState
from ..model.session import ScopeRecord, Session
from ..scopes.call_arguments import Arguments
from ..tokens.inspection import BlockInfo
from ..tokens.token import Token
from ..usage.session_usage import BlockObservation, SessionObservation, SessionUsage, UseAfterEnd


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page of sessions. ``next_page_token`` is empty on the last."""

    sessions: tuple[Session, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class EndedSession(Session):
    """An ended session with the receipt of its end; None where the server could not make one yet."""

    receipt: SignedReceipt | None = None


@dataclass(frozen=True, slots=True)
class SelectedSession:
    """A session that was ended with others; ``epoch`` is that after its end."""

    id: bytes
    epoch: int
    subject: str
    owner: str


@dataclass(frozen=True, slots=True)
class EndedSessions:
    """Counts of one call that ended many sessions, and the first 1000 of them.

    ``matched`` had not ended when the search found them. ``remaining`` is 0 once the search is complete; else
    ``next_page_token`` is where the next call goes on. None of the ended ones is allowed from ``revision``
    on. ``refused_until_ms``: until when new ones are refused, in ms since 1970; 0: they are not.
    """

    matched: int
    ended: int
    remaining: int
    revision: int
    sessions: tuple[SelectedSession, ...]
    refused_until_ms: int
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class FreezeState:
    """The causes for which a host denies every check: all of them, its freeze, its cluster's; empty: none."""

    brake: str
    host: str
    cluster: str
    in_cluster: bool


@dataclass(frozen=True, slots=True)
class RegisteredVerifier:
    """A verifier in its server's registry. Times are ms since 1970; ``staleness_ms`` 0: no bound.

    ``kind`` is CONTROL, WORKER or EMBEDDED; ``state`` is against the last end.
    """

    name: str
    kind: str
    principal: str
    state: VerifierState
    revision: int
    staleness_ms: int
    registered_at_ms: int
    renewed_at_ms: int


@dataclass(frozen=True, slots=True)
class ListedCredential:
    """A caller of a cluster; ``audiences`` empty: any.

    ``added_at_ms`` is in ms since 1970. ``local``: it is in the file of the asked host, and other hosts don't
    know it.
    """

    name: str
    role: str
    audiences: tuple[str, ...] = ()
    added_at_ms: int = 0
    added_by: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """One page of approvals. ``next_page_token`` is empty on the last."""

    approvals: tuple[ApprovalRequest, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class InspectedBlock:
    """A block as the server knows it."""

    block_id: bytes
    revoked: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """The server's view of a token.

    ``verified``: its signatures are right under an issuer key that the server knows; a call with it may
    still be denied. ``detail`` is the fault of a token that is not verified.
    """

    token: Token
    verified: bool
    detail: str
    blocks: tuple[InspectedBlock, ...]


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One call to check, for ``check_batch``, ``check_stream`` and ``watch``.

    ``arguments`` and ``tool`` are JSON, as bytes or str, or a mapping
    (:mod:`sessauth.scopes.call_arguments`); an item stores them as bytes. ``session`` is the 16-byte id
    of the session that the gateway expects, or empty. An agent's text may be passed on unchanged: at
    worst the call is denied. ``proof`` is the proof of a bound token's call, encoded
    (``HolderKey.prove``) or as text; a client with a ``holder`` makes it by itself.

    ``approvals`` are signed approvals beside those that the server holds. ``retry_id``, up to 64 bytes,
    identifies the attempt: the costs of a call are taken once under one id, however often it is checked.
    ``permit_ms`` requests a permit, to be committed within so many ms. With ``token_only`` the token alone is
    checked (:meth:`of_token`), and the item has no call.
    """

    token: Token | str | bytes = field(repr=False)
    action: str | bytes
    resource: str | bytes
    arguments: Arguments = field(default=b"", repr=False)
    tool: Arguments = b""
    session: bytes = b""
    source: str = ""
    peer: Sequence[str] = ()
    proof: str | bytes = field(default=b"", repr=False)
    approvals: Sequence[SignedApproval] = field(default=(), repr=False)
    retry_id: bytes = b""
    permit_ms: int = 0
    token_only: bool = False

    @classmethod
    def of_token(
        cls, token: Token | str | bytes, *, session: bytes = b"", source: str = "", peer: Sequence[str] = ()
    ) -> Self:
        """Return an item that asks whether the token itself is valid."""
        return cls(token, b"", b"", session=session, source=source, peer=peer, token_only=True)

    def __post_init__(self) -> None:
        """Store ``arguments`` and ``tool`` as bytes.

        Raises TypeError for another type, UsageError for a part of a call beside ``token_only``.
        """
        if self.token_only and (self.action or self.resource or self.arguments or self.tool or self.proof):
            raise UsageError("token_only: an item of the token alone has no call and no proof")
        # Nearly always they are bytes, and each step counts in a call.
        if type(self.arguments) is not bytes:
            object.__setattr__(self, "arguments", judged(self.arguments))
        if type(self.tool) is not bytes:
            object.__setattr__(self, "tool", judged(self.tool))


class Missing(IntEnum):
    """Gaps of a report.

    LOST: some observations did not fit, or were lost on the way. BEFORE: the session is older than
    the server's observations. USAGE: the forms of its calls were not collected, or not from its start on.
    HOST: a host of the cluster has not reported all of it.
    """

    UNSPECIFIED = 0
    LOST = 1
    BEFORE = 2
    USAGE = 3
    HOST = 4


@dataclass(frozen=True, slots=True)
class HostUsage:
    """A host of a cluster, and the leader's records of its use.

    ``since_ms``: from then on the host holds everything. ``reported_at_ms``: its last report to this leader,
    0 if there is none. ``waiting``: sessions that are still to come. ``current``: it has reported lately, and
    once all of it. ``removed_at_ms``: it is no host any more. Times in ms since 1970.
    """

    name: str
    since_ms: int
    reported_at_ms: int
    waiting: int
    current: bool
    removed_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class VerifierActivity:
    """The use of a session at one verifier; ``reported_at_ms``: its latest report, in ms since 1970."""

    name: str
    allowed: int
    denied: int
    reported_at_ms: int


@dataclass(frozen=True, slots=True)
class SessionReport:
    """The grants of a session, and its use as verifiers observed it.

    ``inherited`` are the layers of its ancestors' ceilings. ``observation.usage`` describes its calls, where
    the server collects that; it holds values of arguments. ``hosts`` are those of the cluster; empty: the
    server is a single host.
    """

    session: Session
    inherited: tuple[tuple[ScopeRecord, ...], ...]
    observation: SessionObservation
    verifiers: tuple[VerifierActivity, ...]
    missing: tuple[Missing, ...]
    hosts: tuple[HostUsage, ...] = ()

    @property
    def incomplete(self) -> bool:
        """True if observations may be missing, beside the forms of calls."""
        return bool({Missing.LOST, Missing.BEFORE, Missing.HOST} & set(self.missing))

    @property
    def usage(self) -> SessionUsage | None:
        """The usage of its calls, lost observations counted as lost; None where it is not collected."""
        if self.observation.usage is None:
            return None
        # A lost observation may have been a call: a suggestion must not look complete.
        usage = SessionUsage()
        usage.merge(self.observation.usage)
        usage.lost += self.observation.lost + self.incomplete
        return usage

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
    """A block that a verifier observed; ``revoked``: it is, or a block above it is.

    ``info`` is the content of the block; None if no verifier reported it.
    """

    observation: BlockObservation
    revoked: bool
    info: BlockInfo | None


@dataclass(frozen=True, slots=True)
class Census:
    """Every block of a session's tokens that any verifier observed, parents before their children."""

    blocks: tuple[BlockCensus, ...]
    late: tuple[UseAfterEnd, ...]
    missing: tuple[Missing, ...]
    hosts: tuple[HostUsage, ...] = ()

    def children(self, block_id: bytes = b"") -> Sequence[BlockCensus]:
        """Return the blocks that were attenuated from a block; without one, the root blocks."""
        return [block for block in self.blocks if block.observation.parent_id == block_id]

    def tokens(self) -> Sequence[BlockCensus]:
        """Return the last block of each token that made a call, and is not revoked."""
        below = Counter[bytes]()
        for block in self.blocks:
            below[block.observation.parent_id] += block.observation.calls
        # Calls of a block count for all above it; the rest were its own.
        return [
            block
            for block in self.blocks
            if block.observation.calls > below[block.observation.block_id] and not block.revoked
        ]
