"""Inputs and decisions of the oracle, as plain dataclasses.

Values of conditions, facts and JSON share one form: a text is ``str``, a truth is ``bool``, a number that
``Number`` can hold is an ``int`` that counts billionths (the exact value times 10^9), any other number with a
value is a ``Decimal`` that counts them, a list is ``list``, an object is ``dict``, null is ``None``, and a
number that is no value (section 7) is ``NO_VALUE``. An operand of type JSON is a ``JsonOperand``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from .constants import Level, Reason, Stage

BILLION = 10**9


class _Mark:
    """A value that equals nothing but itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NOTHING = _Mark("NOTHING")
NO_VALUE = _Mark("NO_VALUE")

Number = int | Decimal


@dataclass(frozen=True, slots=True)
class JsonOperand:
    """An equality form, or where that is empty its digest (7)."""

    form: str = ""
    digest: bytes = b""


Scalar = str | int | bool | Decimal | JsonOperand


@dataclass(frozen=True, slots=True)
class Path:
    """Names of members to walk from a source (a number, perhaps unknown)."""

    source: int
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """One predicate (6.1). ``fact`` is empty where the operand is ``values``."""

    path: Path
    operator: int
    values: tuple[Scalar, ...]
    fact: str
    accessor: int
    each: bool
    optional: bool
    any: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a resource pattern (5)."""

    kind: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs of a scope. The oracle reads only the approval and the budget's path."""

    approval: bool
    budget_amount: Path | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on resources, with conditions (5)."""

    actions: tuple[str, ...]
    resource: tuple[Segment, ...]
    where: tuple[Condition, ...]
    free: tuple[Path, ...]
    free_all: bool
    needs: Needs | None
    exception: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a chain, with its signature and the payload as received. Times in ms, 0 if absent."""

    signature: bytes
    payload: bytes
    issued_at_ms: int
    expires_at_ms: int
    not_before_ms: int
    audience: tuple[str, ...]
    scopes: tuple[Scope, ...]
    where: tuple[Condition, ...]
    source: tuple[str, ...]
    peer: tuple[str, ...]
    max_blocks: int
    ending: int
    next_key: bytes
    proof_key: bytes


@dataclass(frozen=True, slots=True)
class Chain:
    """A well-formed chain: what the root says of itself, and all blocks."""

    issuer_key_id: bytes
    session_id: bytes
    token_id: bytes
    min_revision: int
    blocks: tuple[Block, ...]
    block_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OracleSession:
    """A session as a view knows it. ``lease_deadline_ms`` None: no lease. ``facts``: (value, visible)."""

    id: bytes
    status: int
    expires_at_ms: int
    owner: str = ""
    parent_id: bytes = b""
    end_cause: int = 0
    lease_deadline_ms: int | None = None
    ceilings: tuple[tuple[Scope, ...], ...] = ()
    facts: Mapping[str, tuple[Scalar, bool]] = field(default_factory=dict)
    issuer_key_ids: tuple[bytes, ...] = ()
    observe: bool = False


@dataclass(frozen=True, slots=True)
class OracleKey:
    """An issuer key as a view knows it."""

    id: bytes
    public_key: bytes
    status: int
    owner: str = ""
    retired_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class OracleVerifierKey:
    """One of a host's keys for proofs (9.9)."""

    public_key: bytes
    secret: bytes
    not_before_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class OracleHost:
    """The keys and the replay table of a host, for proofs.

    ``counts_from_ms`` is the earliest time that its replay table takes, None without a table; ``taken`` are
    the pairs of last signature and nonce in it.
    """

    verifier_id: bytes
    keys: tuple[OracleVerifierKey, ...]
    counts_from_ms: int | None
    taken: frozenset[tuple[bytes, bytes]] = frozenset()


@dataclass(frozen=True, slots=True)
class OracleView:
    """The view of a verifier at one revision, and its host for proofs."""

    revision: int
    sessions: Mapping[bytes, OracleSession]
    keys: Mapping[bytes, OracleKey]
    revoked: frozenset[bytes] = frozenset()
    braked: bool = False
    clock_suspect: bool = False
    host: OracleHost | None = None


@dataclass(frozen=True, slots=True)
class OracleRequest:
    """One call to judge (8), or no call but the token alone (9.14). Empty bytes and text: not stated."""

    action: bytes
    resource: bytes
    arguments: bytes = b""
    tool: bytes = b""
    session: bytes = b""
    source: str = ""
    peer: tuple[str, ...] = ()
    audience: str = ""
    at_least_revision: int = 0
    proof: bytes = b""
    token_only: bool = False


@dataclass(frozen=True, slots=True)
class OracleDecision:
    """The outcome: reason, stage, where a check failed, and the scope that matched."""

    reason: Reason
    stage: Stage = Stage.NONE
    level: Level = Level.NONE
    index: int = -1
    scope: int = -1
    clause: int = -1
    argument: str = ""
    matched_index: int = -1
    matched_scope: int = -1

    @property
    def allowed(self) -> bool:
        """True for an allow."""
        return self.reason is Reason.ALLOWED
