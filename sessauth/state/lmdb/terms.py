"""An index of sessions by subject, owner and label: which sessions a selector may fit.

A key is the digest of a term (a subject, an owner, a label with its value), one byte that says if the
session's own row is ended, and the session id. So a selection walks no ended session. The rows depend on the
sessions' rows alone, so all hosts of a cluster have the same.

Texts of any length have digests of one size. Two texts might share one, and some ends are not in the
session's own row (an ancestor's, a new incarnation's). So an id of the index is a candidate: its session is
read and compared.

The row :data:`MADE` is written together with the last row of the index. Without it the index is never read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import lmdb

from ..._fast import _check as kernel
from ...errors import SessauthError
from ...model.session import Session, SessionSelector, SessionStatus
from .. import layout
from ..rules.effects import Delete, DeletePrefix, Put, corrupt
from .rows import TxnRows, field_number

# Shorter than any other key.
MADE: Final = b"made"
LIVING: Final = b"\0"
ENDED: Final = b"\1"
_DIGEST: Final = 16
_PREFIX: Final = _DIGEST + 1
_SUBJECT, _OWNER, _LABEL = b"s", b"o", b"l"
_STATUS: Final = field_number("SessionRecord", "status")
# Sessions whose keys are sorted before they are written: some 20 MB of them.
_SESSIONS_A_STEP: Final = 1 << 15


def terms_of(subject: str, owner: str, labels: Mapping[str, str]) -> list[bytes]:
    """Return the digests of a session's or a selector's terms; an empty subject or owner is none."""
    terms = []
    if subject:
        terms.append(_digest(_SUBJECT + subject.encode()))
    if owner:
        terms.append(_digest(_OWNER + owner.encode()))
    for name, value in labels.items():
        encoded = name.encode()
        terms.append(_digest(_LABEL + len(encoded).to_bytes(4, "big") + encoded + value.encode()))
    return terms


def terms_of_selector(selector: SessionSelector) -> list[bytes]:
    """Return the digests of a selector's terms; none if it selects every session."""
    return terms_of(selector.subject, selector.owner, dict(selector.labels))


def is_made(rows: TxnRows) -> bool:
    """Return True if the folder has the index, and all of it."""
    return rows.get(layout.TERMS, MADE) is not None


def keys_of(session: Session, row: bytes) -> list[bytes]:
    """Return the keys of a session with this row."""
    return [
        term + _life(row) + session.id for term in terms_of(session.subject, session.owner, session.labels)
    ]


def follow(rows: TxnRows, writes: Sequence[Put | Delete | DeletePrefix], session: Session | None) -> None:
    """Write the index as the writes of a change, which are performed next, will leave its session."""
    if session is None:
        return
    for write in writes:
        if write.table == layout.SESSIONS:
            _follow(rows, write, session)


def _follow(rows: TxnRows, write: Put | Delete | DeletePrefix, session: Session) -> None:
    row = rows.get(layout.SESSIONS, session.id)
    before = None if row is None else _life(row)
    after = _life(write.value) if isinstance(write, Put) else None
    if before == after:
        return
    index, txn = rows.tables[layout.TERMS], rows.txn
    for term in terms_of(session.subject, session.owner, session.labels):
        if before is not None:
            txn.delete(term + before + session.id, db=index)
        if after is not None:
            txn.put(term + after + session.id, b"", db=index)


def build(txn: lmdb.Transaction, tables: dict[str, Any]) -> None:
    """Write the index of all sessions, over the one that is there.

    Raises StateUnusable CORRUPT at a session that can't be read.
    """
    txn.drop(tables[layout.TERMS], delete=False)
    with txn.cursor(db=tables[layout.SESSIONS]) as sessions, txn.cursor(db=tables[layout.TERMS]) as index:
        found = iter(sessions)
        while step := list(islice(found, _SESSIONS_A_STEP)):
            keys = [key for session_id, row in step for key in _read_keys(bytes(session_id), bytes(row))]
            index.putmulti((key, b"") for key in sorted(keys))
    txn.put(MADE, b"", db=tables[layout.TERMS])


def _read_keys(session_id: bytes, row: bytes) -> list[bytes]:
    try:
        return keys_of(Session.decode(row), row)
    except (ValueError, SessauthError) as error:
        raise corrupt(f"session {session_id.hex()}", error) from error


def ids_after(
    rows: TxnRows, terms: Sequence[bytes], lives: Sequence[bytes], after: bytes, limit: int
) -> list[bytes]:
    """Return up to ``limit`` session ids after ``after``, ascending: all that have the terms, and others.

    Never more than the rarest term has.
    """
    ids = [each for life in lives for each in islice(_ids(rows, terms, life, after), limit)]
    return sorted(ids)[:limit]


def _ids(rows: TxnRows, terms: Sequence[bytes], life: bytes, after: bytes) -> Iterator[bytes]:
    """Yield the largest of the terms' next ids: none that has all terms is before it."""
    with rows.txn.cursor(db=rows.tables[layout.TERMS]) as cursor:
        while True:
            found = []
            for term in terms:
                prefix = term + life
                if not cursor.set_range(prefix + after + b"\0"):
                    return
                key = bytes(cursor.key())
                if not key.startswith(prefix):
                    return
                found.append(key[_PREFIX:])
            after = max(found)
            yield after


def verify_sessions(rows: TxnRows, ids: Iterator[bytes]) -> None:
    """Raise ValueError at the first of these sessions that the index lacks."""
    if not is_made(rows):
        return
    for session_id in ids:
        session, row = rows.session(session_id), rows.get(layout.SESSIONS, session_id)
        if session is not None and row is not None:
            if any(rows.get(layout.TERMS, key) is None for key in keys_of(session, row)):
                raise ValueError(f"session {session_id.hex()} is missing in the index of its terms")


def verify_index(rows: TxnRows, after: bytes, limit: int) -> bytes:
    """Verify up to ``limit`` rows after ``after``; return the last one's key, or empty bytes at the end.

    Raises ValueError at a row that no session has.
    """
    keys = rows.keys_after(layout.TERMS, after, limit) if is_made(rows) else []
    for key in keys:
        # No session has an empty id, and LMDB refuses one.
        session_id = key[_PREFIX:] or bytes(1)
        session, row = rows.session(session_id), rows.get(layout.SESSIONS, session_id)
        if key != MADE and (session is None or row is None or key not in keys_of(session, row)):
            raise ValueError(f"the index of terms has a superfluous row, {key.hex()}")
    return keys[-1] if len(keys) == limit else b""


@lru_cache(maxsize=1024)
def _digest(term: bytes) -> bytes:
    return hashlib.blake2b(term, digest_size=_DIGEST).digest()


def _life(row: bytes) -> bytes:
    return ENDED if kernel.read_number(row, _STATUS) == SessionStatus.ENDED else LIVING
