"""A check of a token against a closure receipt, without a server.

The kernel checks the token against a state that consists of the ended session alone, as the receipt has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .._fast import _check as kernel
from ..crypto.keys import IssuerKeys, load_trusted_keys
from ..model.receipt import Receipt
from ..model.session import EndCause, SessionStatus
from ..reasons import Reason, Stage
from ..state import layout
from ..tokens.token import Token
from .verifier import Verifier

# Causes that the made-up state can show. Any other, as an ancestor's end, needs rows that a receipt lacks.
_ENDED_BY_ITSELF = (EndCause.LEASE_LAPSED, EndCause.EXPIRED)


class CoverageKind(StrEnum):
    """Meanings of a receipt for a token.

    REFUSED: it is of the session, and every verifier that knows of the end refuses it. NOT_COVERED: it is of
    another session, which the receipt does not cover. NOT_SHOWN: it names the session, but no known key
    signed it: its content proves nothing.
    """

    REFUSED = "REFUSED"
    NOT_COVERED = "NOT_COVERED"
    NOT_SHOWN = "NOT_SHOWN"


@dataclass(frozen=True, slots=True)
class TokenCoverage:
    """A token checked against a receipt. ``reason`` is the kernel's, at ``stage``, or UNSPECIFIED."""

    coverage: CoverageKind
    session_id: bytes
    reason: Reason = Reason.UNSPECIFIED
    stage: Stage = Stage.NONE


def check_token_against(receipt: Receipt, token: Token, keys: IssuerKeys) -> TokenCoverage:
    """Return the meaning of a verified receipt for ``token``; ``keys`` are as for ``receipt.verify``.

    The token's signatures are verified under any of the issuer keys: without one it proves nothing.
    An open token is checked in its sealed form, which its holder would present.
    """
    if token.session_id != receipt.session_id:
        return TokenCoverage(CoverageKind.NOT_COVERED, token.session_id)
    public_key = load_trusted_keys(keys, any_owner=True).get(token.issuer_key_id)
    presented = token.present() if token.is_open else token
    decision = Verifier(_EndedState(receipt))._check(presented, "any", "any", now_ms=receipt.made_at_ms)
    signed = public_key is not None and token.first_invalid_block(public_key) < 0
    shown = signed and decision.stage is Stage.SESSION
    coverage = CoverageKind.REFUSED if shown and not decision else CoverageKind.NOT_SHOWN
    return TokenCoverage(coverage, token.session_id, decision.reason, decision.stage)


class _EndedState:
    """A source of state that holds one ended session for the kernel's view."""

    def __init__(self, receipt: Receipt) -> None:
        cause = receipt.cause if receipt.cause in _ENDED_BY_ITSELF else EndCause.ASKED
        row = {
            "id": receipt.session_id,
            "subject": "any",
            "status": int(SessionStatus.ENDED),
            "epoch": receipt.epoch,
            "opened_at_ms": 1,
            "expires_at_ms": receipt.made_at_ms + 1,
            "ended_at_ms": receipt.ended_at_ms,
            "end_cause": int(cause),
            "revision": receipt.revision,
        }
        head = {
            "format": layout.FORMAT,
            "min_reader_format": layout.MIN_READER_FORMAT,
            "cluster_id": receipt.cluster_id,
            "incarnation": receipt.incarnation,
            "revision": receipt.revision,
            "seq": receipt.revision,
            "digest": bytes(32),
        }
        self.sessions = {receipt.session_id: kernel.encode_message("SessionRecord", row)}
        self.leases: dict[bytes, bytes] = {}
        self.revoked: dict[bytes, bytes] = {}
        self.keys: dict[bytes, bytes] = {}
        self.meta = {layout.HEAD_KEY: kernel.encode_message("Head", head)}
        self.brake = bytes(1)

    def begin(self) -> _MemoryTransaction:
        return _MemoryTransaction()


class _MemoryTransaction:
    """A read transaction on rows that never change."""

    def id(self) -> int:
        return 1

    def get(self, key: bytes, default: None, db: Mapping[bytes, bytes]) -> bytes | None:
        return db.get(bytes(key))

    def abort(self) -> None:
        return
