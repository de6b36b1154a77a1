"""Parameters and results of calls that have no class in another package, and a server's decision.

:class:`RemoteDecision` has the interface of a decision made in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from operator import add
from typing import Final, Self, TypeVar

from .._fast._check import judged
from .._fast._codec import DecisionReader
from ..approvals.request import ApprovalRequest
from ..decisions.decision import DecisionBase, answer
from ..errors import UsageError
from ..model.approval import ApprovalRecord, SignedApproval
from ..model.notebook import html_table
from ..model.receipt import SignedReceipt, VerifierState
from ..model.session import ScopeRecord, Session
from ..reasons import Level, Reason, Stage
from ..scopes.call_arguments import Arguments
from ..scopes.scope import Scope
from ..tokens.block_draft import BlockInfo
from ..tokens.token import Token
from ..usage.session_usage import BlockObservation, SessionObservation, SessionUsage, UseAfterEnd
from ..v1 import authorization_service_pb2 as pb
from ..v1 import record_pb2


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


# Selected sessions that are listed.
MAX_SELECTED: Final = 1000


@dataclass(frozen=True, slots=True)
class EndedLogins:
    """The numbers of sessions of logins that were ended, suspended and resumed, each with all below it.

    ``narrowed`` is the number of those whose ceiling or facts a change of claims changed. It holds from
    ``revision`` on. Tokens of logins up to ``up_to_ms`` are refused, in ms since 1970; 0 where
    a provider's statement says when.
    """

    ended: int
    revision: int
    up_to_ms: int = 0
    suspended: int = 0
    resumed: int = 0
    narrowed: int = 0


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

    def with_more(self, more: EndedSessions) -> EndedSessions:
        """Return the sum with the call that went on after this one."""
        return replace(
            more,
            # An earlier server gives no token, so that the next call searches from the beginning.
            matched=self.matched + (more.matched if self.next_page_token else 0),
            ended=self.ended + more.ended,
            sessions=(*self.sessions, *more.sessions)[:MAX_SELECTED],
            refused_until_ms=self.refused_until_ms,
        )


# Sessions that a preview reads one by one.
MAX_PREVIEWED: Final = 200


@dataclass(frozen=True, slots=True)
class EndPreview:
    """Preview of an end of sessions.

    ``matched`` fit the selection, ``selected`` are the first 1000 of them, ``children`` are living ones below
    them that were found. The counts are those of ``read`` sessions, selected ones first: tokens in use, calls
    allowed so far, permits and approvals that are open. ``unused`` of these have no census that may be read.
    """

    matched: int
    selected: tuple[SelectedSession, ...]
    children: tuple[Session, ...] = ()
    read: int = 0
    tokens: int = 0
    allowed: int = 0
    open_permits: int = 0
    open_approvals: int = 0
    unused: int = 0

    @property
    def unread(self) -> int:
        """The number of sessions that the counts leave out."""
        return max(0, self.matched + len(self.children) - self.read)

    def with_session(self, session: Session, census: Census | None) -> EndPreview:
        """Return the preview with what one more session has in use."""
        return replace(
            self,
            read=self.read + 1,
            tokens=self.tokens + (len(census.tokens()) if census else 0),
            allowed=self.allowed
            + (sum(each.observation.allowed for each in census.children()) if census else 0),
            open_permits=self.open_permits + session.open_permits,
            open_approvals=self.open_approvals + session.open_approvals,
            unused=self.unused + (census is None),
        )


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A provider's stream of security events.

    ``age_ms`` is since its last event that counts, or since the server began to write; ``proven`` if one came
    since then. ``silent`` for longer than ``silence_ms``; with a ``gap`` events may have been lost.
    ``on_silence`` and ``on_gap`` are as the settings state them.
    """

    age_ms: int
    proven: bool
    silent: bool
    gap: bool
    on_silence: str
    on_gap: str

    @property
    def refuses(self) -> bool:
        """True while no token of the provider opens a session."""
        return self.silent and self.on_silence != "log"


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """An identity provider of the server's settings.

    ``keys_age_ms`` is since its keys were had; None if the server has needed none. ``logins`` have a session
    that has not ended, 10,000 at most. ``stream`` is None where the settings state no ``silence_ms``.
    """

    name: str
    issuer: str
    keys_age_ms: int | None
    logins: int
    stream: StreamStatus | None


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """The identity providers of a server, and how many users and logins have stored ``cuts``."""

    providers: tuple[ProviderStatus, ...]
    cuts: int


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
    session: bytes | str = b""
    source: str = ""
    peer: Sequence[str] = ()
    proof: str | bytes = field(default=b"", repr=False)
    approvals: Sequence[SignedApproval] = field(default=(), repr=False)
    retry_id: bytes | str = b""
    permit_ms: int = 0
    token_only: bool = False

    @classmethod
    def of_token(
        cls,
        token: Token | str | bytes,
        *,
        session: bytes | str = b"",
        source: str = "",
        peer: Sequence[str] = (),
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
    everything at least once. ``removed_at_ms``: it is no longer a host. Times in ms since 1970.
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

    def _repr_html_(self) -> str:
        """Return tables for a notebook: the session, and the calls at each verifier."""
        rows = [(each.name, each.allowed, each.denied) for each in self.verifiers]
        rows.append(("all", self.observation.allowed, self.observation.denied))
        calls = html_table("calls", rows, ("verifier", "allowed", "denied"))
        missing = [[each.name] for each in self.missing if each is not Missing.USAGE]
        return self.granted._repr_html_() + calls + (html_table("incomplete", missing) if missing else "")


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page of reports. ``next_page_token`` is empty on the last."""

    reports: tuple[SessionReport, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class SessionActivity:
    """A session, and its calls for each of the last ten minutes, the present one last."""

    session: Session
    allowed: tuple[int, ...]
    denied: tuple[int, ...]

    @property
    def calls(self) -> tuple[int, ...]:
        """The allowed and denied calls together."""
        return tuple(map(add, self.allowed, self.denied))


@dataclass(frozen=True, slots=True)
class Activity:
    """The most active sessions of the last ten minutes.

    ``allowed`` and ``denied`` are the calls of all sessions for each minute, the present one last; an issuer
    gets none. ``elapsed_ms``: the part of the present minute that has passed. ``since_ms``: from then on
    calls are counted, in ms since 1970; 0: no verifier reports its calls. ``hosts`` are those of the cluster;
    empty: the server is a single host.
    """

    sessions: tuple[SessionActivity, ...]
    allowed: tuple[int, ...]
    denied: tuple[int, ...]
    elapsed_ms: int
    since_ms: int
    hosts: tuple[HostUsage, ...] = ()

    @property
    def missing_hosts(self) -> tuple[str, ...]:
        """The names of the hosts whose calls are not in it, or not all."""
        return tuple(each.name for each in self.hosts if not each.current and not each.removed_at_ms)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Reasons why calls are missing, each a text for people; empty if none is."""
        uncounted = "NOT COUNTED: set usage.census or audit.enabled in sessauth.toml"
        without = f"WITHOUT {', '.join(self.missing_hosts)}"
        return (uncounted,) * (not self.since_ms) + (without,) * bool(self.missing_hosts)

    def per_second(self, counts: Sequence[int]) -> float:
        """Return the calls a second of the last sixty seconds, by such counts of minutes."""
        before, present = sum(counts[-2:-1]), sum(counts[-1:])
        return (before * max(0.0, 1 - self.elapsed_ms / 60_000) + present) / 60


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


E = TypeVar("E", bound=IntEnum)


@answer
@dataclass(frozen=True, slots=True, repr=False)
class RemoteDecision(DecisionBase):
    """A server's decision about a call, with the fields of ``DecisionBase``.

    ``explanation`` is the server's, which knows the ceilings too; it explains denials only.
    ``permit`` (32 bytes), where one was requested, is to be committed before ``permit_expires_at_ms``, in ms
    since 1970. ``approval`` is the request that an approver reads and signs, of APPROVAL_REQUIRED.
    """

    allowed: bool
    reason: Reason
    stage: Stage
    level: Level
    index: int
    scope: int
    clause: int
    argument: str
    matched_index: int
    matched_scope: int
    session_id: bytes
    epoch: int
    block_ids: tuple[bytes, ...]
    revision: int
    view_age_ms: int
    expires_at_ms: int
    decision_id: bytes
    explanation: str = ""
    permit: bytes = field(default=b"", repr=False)
    permit_expires_at_ms: int = 0
    approval: ApprovalRequest | None = None

    def explain(
        self, token: Token | str | bytes | None = None, ceilings: Sequence[Sequence[Scope]] = ()
    ) -> str:
        """Return the server's explanation, or one made here if it gave none or ``ceilings`` are known.

        A check process knows its token but not the session's ceiling in text form. The id of a waiting
        approval comes at the end.
        """
        # A dataclass with slots is a new class, and super() without arguments would miss that.
        text = (
            self.explanation
            if self.explanation and not ceilings
            else DecisionBase.explain(self, token, ceilings)
        )
        if self.approval is None:
            return text
        record = self.approval.record
        return f"{text} (approval {record.id.hex()} of session {record.session_id.hex()})"

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON; permit and approval only where there is one."""
        values = DecisionBase.to_dict(self)
        if self.permit:
            values["permit"] = self.permit.hex()
            values["permit_expires_at_ms"] = self.permit_expires_at_ms
        if self.approval is not None:
            values["approval"] = self.approval.to_dict()
        return values


# Protobuf's objects cost more than the rest of a call.
_READER: Final = DecisionReader(
    RemoteDecision,
    {int(reason): reason for reason in Reason},
    {int(stage): stage for stage in Stage},
    {int(level): level for level in Level},
)


@dataclass(frozen=True, slots=True)
class TransactionToken:
    """A transaction token of a call, and the decision on that call. False as a bool if it was denied.

    ``text`` is a JWT, empty on a denial: whoever has it can show it to the services of its trust domain until
    ``expires_at_ms``, in ms since 1970.
    """

    decision: RemoteDecision
    text: str = field(default="", repr=False)
    expires_at_ms: int = 0

    def __bool__(self) -> bool:
        """Return True if the call is allowed and there is a token of it."""
        return bool(self.decision) and bool(self.text)


def read_check(data: bytes) -> RemoteDecision:
    """Return the decision of a CheckResponse or CommitResponse. Raises DecodeError."""
    decision: RemoteDecision | None = _READER.check(data)
    return decision_from_message(pb.CheckResponse.FromString(data).decision) if decision is None else decision


def read_batch(data: bytes) -> list[RemoteDecision]:
    """Return the decisions of a CheckBatchResponse. Raises DecodeError."""
    decisions = _READER.batch(data)
    if decisions is None:
        return [decision_from_message(each) for each in pb.CheckBatchResponse.FromString(data).decisions]
    return decisions


def decision_from_message(message: pb.Decision) -> RemoteDecision:
    """Return the decision of a message.

    It allows only if both flag and reason do. A reason, stage or level that this version
    does not know becomes the first of its kind, which means nothing.
    """
    reason = _known(Reason, message.reason, Reason.UNSPECIFIED)
    failed, matched = message.failed, message.matched
    has_failed, has_matched = message.HasField("failed"), message.HasField("matched")
    return RemoteDecision(
        allowed=message.allowed and reason is Reason.ALLOWED,
        reason=reason,
        stage=_known(Stage, message.stage, Stage.NONE),
        level=_known(Level, failed.level, Level.NONE),
        index=failed.index if has_failed else -1,
        scope=failed.scope if has_failed else -1,
        clause=failed.clause if has_failed else -1,
        argument=failed.argument,
        matched_index=matched.index if has_matched else -1,
        matched_scope=matched.scope if has_matched else -1,
        session_id=message.session_id,
        epoch=message.epoch,
        block_ids=tuple(message.block_ids),
        revision=message.revision,
        view_age_ms=message.view_age_ms,
        expires_at_ms=message.expires_at_ms,
        decision_id=message.decision_id,
        explanation=message.explanation,
        permit=message.permit,
        permit_expires_at_ms=message.permit_expires_at_ms,
        approval=_approval(message.approval) if message.HasField("approval") else None,
    )


def _approval(message: record_pb2.ApprovalRecord) -> ApprovalRequest | None:
    """Return the request for an approver; None if this version can't read it: it changes no decision."""
    try:
        return ApprovalRequest(ApprovalRecord.decode(message.SerializeToString()))
    except ValueError:
        return None


def _known(kind: type[E], value: int, unknown: E) -> E:
    try:
        return kind(value)
    except ValueError:
        return unknown


# The denial of a tool that no catalogue names. It is made here: it has no id, and no log has it.
UNKNOWN_TOOL: Final = decision_from_message(pb.Decision(reason="REASON_UNKNOWN_TOOL", stage="STAGE_SCOPE"))
