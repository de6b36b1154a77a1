"""Keys of the counters: one byte behind the session id says what a row counts."""

from __future__ import annotations

import hashlib
from typing import Final

from ...model.approval import ApprovalRecord

_ASKED_LABEL = b"sessauth/state/asked/v1\x00"

# How often a scope of a block was used: 8 bytes, big-endian.
USES: Final = b"u"
# A LedgerRecord.
LEDGER: Final = b"l"
# An approval that was used up: the revision, 8 bytes. It stays as long as the session's row.
USED_APPROVAL: Final = b"a"
# The session's SessionCounts.
COUNTS: Final = b"c"
# Which approval was asked for a call: its id. One at a time for the same call at the same epoch.
ASKED: Final = b"q"

KINDS: Final = (USES, LEDGER, USED_APPROVAL, COUNTS, ASKED)


def uses_key(session_id: bytes, block_id: bytes, scope: int) -> bytes:
    """Return the key of a scope's count."""
    return session_id + USES + block_id + scope.to_bytes(4, "big")


def ledger_key(session_id: bytes, ledger: bytes) -> bytes:
    """Return the key of a ledger."""
    return session_id + LEDGER + ledger


def used_approval_key(session_id: bytes, approval_id: bytes) -> bytes:
    """Return the key of the mark that an approval was used up."""
    return session_id + USED_APPROVAL + approval_id


def counts_key(session_id: bytes) -> bytes:
    """Return the key of what a session has open."""
    return session_id + COUNTS


def asked_key(
    session_id: bytes, block_id: bytes, block: int, scope: int, epoch: int, request_digest: bytes
) -> bytes:
    """Return the key under which the approval that was asked for a call is found.

    ``block_id`` is that of the chain's last block, ``block`` and ``scope`` the place of the scope that
    asks for it.
    """
    place = block.to_bytes(4, "big") + scope.to_bytes(4, "big") + epoch.to_bytes(8, "big")
    call = hashlib.blake2b(_ASKED_LABEL + block_id + place + request_digest, digest_size=32).digest()
    return session_id + ASKED + call


def asked_key_of(record: ApprovalRecord) -> bytes:
    """Return the key under which an approval's record is found."""
    return asked_key(
        record.session_id, record.block_id, record.block, record.scope, record.epoch, record.request_digest
    )
