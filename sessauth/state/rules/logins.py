"""Cuts of logins: moments up to which a user, a login, or all of an identity provider logged in.

A cut is a moment and no flag. A token whose login was not after it is refused, and a later cut only moves it
forward. So repeats, and cuts that arrive in another order, change nothing.

A cut is one row, found by a digest of what it names. It stays until no token that it refuses could count
(``keep_ms``). A queue of rows has the order in which they were written, so each new cut drops two that are
over. A full queue cuts all logins of the issuer instead: people log in again, and no cut is forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from struct import Struct
from typing import Any, Final, cast

from ... import limits
from ..._fast._check import replaced
from ...model.change import Change
from ...model.session import LoginCut
from .. import layout
from .effects import Delete, Effect, Put, Rows, corrupt
from .validation import invalid, require_text

# In the table of evidence: alone the ends of the queue, with 16 bytes a cut, with 8 a place in the queue.
CUTS: Final = b"x"
MAX_CUTS: Final = 100_000
MAX_KEEP_MS: Final = 8 * 24 * 3_600_000
_DROPPED_AT_ONCE: Final = 2
_ENDS: Final = Struct(">QQ")
_PLACE: Final = Struct(">Q")


def cut_logins(rows: Rows, change: Change, revision: int) -> Effect:
    """Cut logins up to a moment; an earlier moment than that of a cut which stands changes nothing of it."""
    body = cast("dict[str, Any]", change.body)
    issuer = require_text("issuer", body.get("issuer", ""), required=True)
    subject = require_text("subject", body.get("subject", ""))
    sid = require_text("sid", body.get("sid", ""))
    reason = require_text("reason", body.get("reason", ""))
    up_to_ms, keep_ms = int(body.get("up_to_ms", 0)), int(body.get("keep_ms", 0))
    without_sid = bool(body.get("without_sid", False))
    if (subject and sid) or (without_sid and not subject):
        raise invalid("subject, sid: state one of them at most, and without_sid of a subject")
    if not 0 < up_to_ms <= limits.MAX_TIME_MS:
        raise invalid("up_to_ms: must be after 0 and at most 2^53 - 1")
    if not 0 < keep_ms <= MAX_KEEP_MS:
        raise invalid(f"keep_ms: must be 1 to {MAX_KEEP_MS}")
    writes: list[Put | Delete] = []
    first, following = _queue(rows)
    for _ in range(_DROPPED_AT_ONCE):
        dropped = _drop(rows, first, change.at_ms) if first < following else None
        if dropped is None:
            break
        writes += dropped
        first += 1
    if following - first >= MAX_CUTS:
        subject, sid, without_sid = "", "", False
    before = login_cut(rows, issuer, subject, sid, without_sid=without_sid)
    until_ms = change.at_ms + keep_ms
    if before is not None:
        until_ms = max(until_ms, before.keep_until_ms)
    if before is not None and before.up_to_ms >= up_to_ms:
        # The reason and the author stay those of the later moment.
        cut = replaced(before, keep_until_ms=until_ms, place=following)
    else:
        cut = LoginCut(
            issuer, subject, sid, up_to_ms, until_ms, reason, change.actor, change.at_ms, following,
            without_sid,
        )  # fmt: skip
    key = _key(issuer, subject, sid, without_sid)
    # A row that is to be dropped may be the one that is cut again.
    writes = [write for write in writes if write.key != key]
    writes.append(Put(layout.EVIDENCE, key, cut.encode()))
    # The one row of an issuer is never dropped.
    if subject or sid:
        writes.append(Put(layout.EVIDENCE, CUTS + _PLACE.pack(following), key))
        following += 1
    return Effect([*writes, Put(layout.EVIDENCE, CUTS, _ENDS.pack(first, following))])


def login_cut(
    rows: Rows, issuer: str, subject: str = "", sid: str = "", *, without_sid: bool = False
) -> LoginCut | None:
    """Return the cut of one user, one login, or without both of an issuer. Raises StateUnusable."""
    key = _key(issuer, subject, sid, without_sid)
    return _read(key, rows.get(layout.EVIDENCE, key))


def cut_of_login(rows: Rows, issuer: str, subject: str, sid: str, login_ms: int) -> LoginCut | None:
    """Return the cut that refuses a login's tokens; None if none does. Raises StateUnusable.

    ``login_ms`` is the time of the login, in ms since 1970. A ``sid`` that was cut stays so at any time.
    """
    of_sid = login_cut(rows, issuer, sid=sid) if sid else None
    if of_sid is not None:
        return of_sid
    of_others = None if sid else login_cut(rows, issuer, subject, without_sid=True)
    for cut in (of_others, login_cut(rows, issuer, subject), login_cut(rows, issuer)):
        if cut is not None and login_ms <= cut.up_to_ms:
            return cut
    return None


def verify_cuts(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the number of cuts in all rows whose keys begin with :data:`CUTS`.

    Raises StateUnusable or ValueError at a wrong one.
    """
    rows = dict(pairs)
    first, following = _ends(rows.pop(CUTS, None))
    places = {key: value for key, value in rows.items() if len(key) == len(CUTS) + _PLACE.size}
    if places.keys() != {CUTS + _PLACE.pack(place) for place in range(first, following)}:
        raise ValueError(f"the queue of cuts has {len(places)} places, not those from {first} to {following}")
    cuts = {key: _read(key, value) for key, value in rows.items() if key not in places}
    for key, cut in cuts.items():
        queued = cut is not None and (cut.subject or cut.sid)
        if cut is not None and queued and places.get(CUTS + _PLACE.pack(cut.place)) != key:
            raise ValueError(f"a cut of logins has the place {cut.place} of the queue, where it is not")
    return len(cuts)


def _drop(rows: Rows, place: int, at_ms: int) -> list[Delete] | None:
    """Return the writes that drop the oldest place of the queue; None while its cut is kept.

    A cut that was made again has a later place, which drops it.
    """
    queued = CUTS + _PLACE.pack(place)
    key = rows.get(layout.EVIDENCE, queued)
    if key is None:
        raise corrupt("the queue of cuts", f"it has no place {place}")
    cut = _read(key, rows.get(layout.EVIDENCE, key))
    if cut is None or cut.place != place:
        return [Delete(layout.EVIDENCE, queued)]
    if cut.keep_until_ms > at_ms:
        return None
    return [Delete(layout.EVIDENCE, queued), Delete(layout.EVIDENCE, key)]


def _queue(rows: Rows) -> tuple[int, int]:
    """Return the first place of the queue, and the one after its last."""
    return _ends(rows.get(layout.EVIDENCE, CUTS))


def _ends(value: bytes | None) -> tuple[int, int]:
    if value is None:
        return 0, 0
    if len(value) != _ENDS.size:
        raise corrupt("the queue of cuts", f"its ends have {len(value)} bytes")
    first, following = _ENDS.unpack(value)
    if not first <= following <= first + MAX_CUTS:
        raise corrupt("the queue of cuts", f"it begins at {first} and ends at {following}")
    return first, following


def _key(issuer: str, subject: str, sid: str, without_sid: bool) -> bytes:
    digest = hashlib.blake2b(b"\1" if without_sid else b"", digest_size=16, person=b"sessauth/cut")
    for text in (issuer, subject, sid):
        data = text.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return CUTS + digest.digest()


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
