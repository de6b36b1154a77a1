"""Cuts of logins: moments of users, logins and identity providers, as changes state them.

A cut is a moment and no flag. A token whose login was not after it is refused. What can be taken back, as an
account that is disabled, has two moments, of which the later one counts. A change only moves moments forward,
so repeats, and changes that arrive in another order, come to the same.

The moments of one user or login are one row, found by a digest of what it names. It stays until no token that
it refuses could count (``keep_ms``), and while an account is disabled. A queue has each row once, and each
change drops two that are over. A full one takes no further name: it cuts all logins of the issuer instead, so
that people log in again and no cut is forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, cast

from ... import limits
from ..._fast._check import replaced
from ...model.change import Change, Rejection
from ...model.session import MOMENTS, LoginCut
from .. import layout
from .effects import Delete, Effect, Put, Rows, corrupt
from .validation import RuleViolation, invalid, require_text

# In the table of evidence: alone the ends of the queue, with 16 bytes a cut, with 8 a place in the queue.
CUTS: Final = b"x"
MAX_CUTS: Final = 100_000
MAX_KEEP_MS: Final = 8 * 24 * 3_600_000
_DROPPED_AT_ONCE: Final = 2
_KEY_BYTES: Final = len(CUTS) + 16
_ENDS: Final = Struct(">QQ")
_PLACE: Final = Struct(">Q")


def cut_logins(rows: Rows, change: Change, revision: int) -> Effect:
    """Move the moments of a row forward, and drop rows that are over."""
    body = cast("dict[str, Any]", change.body)
    issuer = require_text("issuer", body.get("issuer", ""), required=True)
    subject = require_text("subject", body.get("subject", ""))
    sid = require_text("sid", body.get("sid", ""))
    reason = require_text("reason", body.get("reason", ""))
    without_sid = bool(body.get("without_sid", False))
    if (subject and sid) or (without_sid and not subject):
        raise invalid("subject, sid: state one of them at most, and without_sid of a subject")
    keep_ms = int(body.get("keep_ms", 0))
    if not 0 < keep_ms <= MAX_KEEP_MS:
        raise invalid(f"keep_ms: must be 1 to {MAX_KEEP_MS}")
    moments = {name: int(body.get(name, 0)) for name in MOMENTS}
    if not any(moments.values()):
        raise invalid("up_to_ms: state at least one moment")
    for name, value in moments.items():
        if value > limits.MAX_TIME_MS:
            raise invalid(f"{name}: must be at most 2^53 - 1")
    queue = _Queue.read(rows)
    dropped = queue.drop_old(rows, change.at_ms)
    key = _key(issuer, subject, sid, without_sid)
    row = _row_after(rows, dropped, key)
    if row is None and queue.is_full:
        if not moments["up_to_ms"]:
            raise RuleViolation(Rejection.LIMIT, f"subject, sid: {MAX_CUTS} users and logins have moments")
        # The moments of a single user are not those of all: only the cut is.
        moments = {**dict.fromkeys(MOMENTS, 0), "up_to_ms": moments["up_to_ms"]}
        subject, sid, without_sid = "", "", False
        key = _key(issuer, subject, sid, without_sid)
        row = _row_after(rows, dropped, key)
    before, is_new = _read(key, row), row is None
    if before is None:
        # The one row of an issuer is never dropped, so it has no place.
        place = queue.following if subject or sid else 0
        before = LoginCut(issuer, subject, sid, 0, 0, "", "", 0, place, without_sid)
    latest = {name: max(value, getattr(before, name)) for name, value in moments.items()}
    moved = any(value != getattr(before, name) for name, value in latest.items())
    cut = replaced(
        before,
        keep_until_ms=max(before.keep_until_ms, change.at_ms + keep_ms),
        # The reason and the author stay those of the later moment.
        reason=reason if moved else before.reason,
        cut_by=change.actor if moved else before.cut_by,
        cut_at_ms=change.at_ms if moved else before.cut_at_ms,
        **latest,
    )
    writes = [*(write for write in dropped if write.key != key), Put(layout.EVIDENCE, key, cut.encode())]
    if is_new and (subject or sid):
        writes.append(queue.add(key, cut.keep_until_ms))
    return Effect([*writes, queue.put()])


def _row_after(rows: Rows, writes: Sequence[Put | Delete], key: bytes) -> bytes | None:
    """Return a row as the writes leave it."""
    for write in reversed(writes):
        if write.key == key:
            return write.value if isinstance(write, Put) else None
    return rows.get(layout.EVIDENCE, key)


def login_cut(
    rows: Rows, issuer: str, subject: str = "", sid: str = "", *, without_sid: bool = False
) -> LoginCut | None:
    """Return the cut of one user, one login, or without both of an issuer. Raises StateUnusable."""
    key = _key(issuer, subject, sid, without_sid)
    return _read(key, rows.get(layout.EVIDENCE, key))


def cut_of_login(rows: Rows, issuer: str, subject: str, sid: str, login_ms: int) -> LoginCut | None:
    """Return the row that refuses a login's tokens; None if none does. Raises StateUnusable.

    ``login_ms`` is the time of the login, in ms since 1970. A ``sid`` that was cut stays so at any time.
    """
    of_sid = login_cut(rows, issuer, sid=sid) if sid else None
    if of_sid is not None and (of_sid.up_to_ms or of_sid.is_disabled):
        return of_sid
    of_others = None if sid else login_cut(rows, issuer, subject, without_sid=True)
    for cut in (of_others, login_cut(rows, issuer, subject), login_cut(rows, issuer)):
        if cut is not None and (login_ms <= cut.up_to_ms or cut.is_disabled):
            return cut
    return None


def claims_changed_ms(rows: Rows, issuer: str, subject: str, sid: str) -> int:
    """Return until when tokens of a login were issued whose claims no longer hold, in ms since 1970; 0: none.

    Raises StateUnusable.
    """
    return max((cut.claims_ms for cut in cuts_of_login(rows, issuer, subject, sid)), default=0)


def cuts_of_login(rows: Rows, issuer: str, subject: str, sid: str) -> list[LoginCut]:
    """Return the moments of a login, and of its user. Raises StateUnusable."""
    cuts = (
        login_cut(rows, issuer, sid=sid) if sid else login_cut(rows, issuer, subject, without_sid=True),
        login_cut(rows, issuer, subject),
    )
    return [cut for cut in cuts if cut is not None]


def stored_cuts(rows: Rows) -> int:
    """Return the number of users and logins whose moments are stored. Raises StateUnusable."""
    queue = _Queue.read(rows)
    return queue.following - queue.first


def verify_cuts(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the number of cuts in all rows whose keys begin with :data:`CUTS`.

    Raises StateUnusable or ValueError at a wrong one.
    """
    rows = dict(pairs)
    queue = _Queue.decode(rows.pop(CUTS, None))
    first, following = queue.first, queue.following
    places = {key: value for key, value in rows.items() if len(key) == len(CUTS) + _PLACE.size}
    if places.keys() != {CUTS + _PLACE.pack(place) for place in range(first, following)}:
        raise ValueError(f"the queue of cuts has {len(places)} places, not those from {first} to {following}")
    if any(len(value) != _KEY_BYTES + _PLACE.size for value in places.values()):
        raise ValueError("a place of the queue of cuts has another size")
    cuts = {key: _read(key, value) for key, value in rows.items() if key not in places}
    for key, cut in cuts.items():
        queued = cut is not None and (cut.subject or cut.sid)
        if cut is not None and queued and places.get(CUTS + _PLACE.pack(cut.place), b"")[:_KEY_BYTES] != key:
            raise ValueError(f"a cut of logins has the place {cut.place} of the queue, where it is not")
    return len(cuts)


@dataclass(slots=True)
class _Queue:
    """The places of rows in the order in which they are looked at: the first, and the one after the last."""

    first: int
    following: int

    @classmethod
    def read(cls, rows: Rows) -> _Queue:
        """Read the ends. Raises StateUnusable."""
        return cls.decode(rows.get(layout.EVIDENCE, CUTS))

    @classmethod
    def decode(cls, value: bytes | None) -> _Queue:
        """Read the row of the ends. Raises StateUnusable."""
        if value is None:
            return cls(0, 0)
        if len(value) != _ENDS.size:
            raise corrupt("the queue of cuts", f"its ends have {len(value)} bytes")
        first, following = _ENDS.unpack(value)
        if not first <= following <= first + MAX_CUTS:
            raise corrupt("the queue of cuts", f"it begins at {first} and ends at {following}")
        return cls(first, following)

    @property
    def is_full(self) -> bool:
        """True if it can take no further row."""
        return self.following - self.first >= MAX_CUTS

    def add(self, key: bytes, due_ms: int) -> Put:
        """Give a row the last place, where it is looked at again at ``due_ms``."""
        write = Put(layout.EVIDENCE, CUTS + _PLACE.pack(self.following), key + _PLACE.pack(due_ms))
        self.following += 1
        return write

    def put(self) -> Put:
        """Return the write of the ends."""
        return Put(layout.EVIDENCE, CUTS, _ENDS.pack(self.first, self.following))

    def drop_old(self, rows: Rows, at_ms: int) -> list[Put | Delete]:
        """Drop the first rows that are over, two at most; one that is kept for longer goes to the end."""
        writes: list[Put | Delete] = []
        for _ in range(min(_DROPPED_AT_ONCE, self.following - self.first)):
            place = CUTS + _PLACE.pack(self.first)
            value = rows.get(layout.EVIDENCE, place)
            if value is None or len(value) != _KEY_BYTES + _PLACE.size:
                raise corrupt("the queue of cuts", f"its place {self.first} is missing or damaged")
            key, due_ms = value[:_KEY_BYTES], _PLACE.unpack(value[_KEY_BYTES:])[0]
            cut = _read(key, rows.get(layout.EVIDENCE, key))
            if cut is None:
                raise corrupt("the queue of cuts", f"its place {self.first} is of no cut")
            if due_ms > at_ms:
                break
            writes.append(Delete(layout.EVIDENCE, place))
            self.first += 1
            if cut.is_disabled or cut.keep_until_ms > at_ms:
                writes.append(Put(layout.EVIDENCE, key, replaced(cut, place=self.following).encode()))
                writes.append(self.add(key, max(cut.keep_until_ms, at_ms + 1)))
            else:
                writes.append(Delete(layout.EVIDENCE, key))
        return writes


def digest_of(use: bytes, *texts: str) -> bytes:
    """Return 16 bytes that follow from texts, for a use of at most 16 bytes."""
    digest = hashlib.blake2b(digest_size=16, person=use)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()


def _key(issuer: str, subject: str, sid: str, without_sid: bool) -> bytes:
    return CUTS + digest_of(b"sessauth/cut", issuer, subject, sid, *(("without",) if without_sid else ()))


def _read(key: bytes, value: bytes | None) -> LoginCut | None:
    if value is None:
        return None
    try:
        cut = LoginCut.decode(value)
    except ValueError as error:
        raise corrupt("a cut of logins", error) from error
    if key != _key(cut.issuer, cut.subject, cut.sid, cut.without_sid):
        raise corrupt("a cut of logins", "it is another's")
    return cut
