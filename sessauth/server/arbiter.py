"""The judge in the writer's transaction: judges a call again by the writer's own rows, and takes all or nothing.

A verifier's answer to a call that costs something is only that the writer must be asked. Here the call is
judged anew, stage by stage, by the rows that its change is applied to a moment later: no change of another
caller comes in between, and both are durable together, or neither is.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from .. import limits
from .._fast.check import Checker
from .._fast.decision import Decision
from .._fast.view import View
from ..approval import ApprovalRecord
from ..change import Change, ChangeOutcome, Rejection, request_approval
from ..consumption import Settlement, consume, once_change_id, retry_change_id, settle_permit
from ..errors import Rejected
from ..proof import request_digest
from ..reasons import Reason, Stage
from ..state.group import Group
from ..state.group_view import GroupSource
from ..state.lmdb_env import Source
from ..token import Token
from ..verifier import presented
from .payer import AlreadyPaid, Asked, Payer, PermitHolder

PERMIT_ID_BYTES: Final = 16
PERMIT_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Ask:
    """One call, as a gateway has it judged: what ``Checker.check`` takes, and what it is paid with."""

    gateway: str
    token: bytes
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
    approvals: tuple[bytes, ...] = ()
    retry_id: bytes = b""
    permit_ms: int = 0

    @property
    def token_digest(self) -> bytes:
        """BLAKE2b-256 of the presented token."""
        return blake2b(self.token, digest_size=32).digest()

    @property
    def request_digest(self) -> bytes:
        """The digest of what is asked (``docs/token-format.md``, section 8.1)."""
        return request_digest(self.action, self.resource, self.arguments)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The writer's decision, and what comes with it: a permit (32 bytes), or the approval that is missing."""

    decision: Decision
    permit: bytes = b""
    permit_expires_at_ms: int = 0
    approval: ApprovalRecord | None = None
