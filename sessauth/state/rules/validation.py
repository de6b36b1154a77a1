"""Validation shared by the rules of ``apply``: texts, scopes, ids, the status of sessions, bans.

One row has all bans, and an opening that one fits is refused before it is logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from ... import limits
from ..._fast import _check as kernel
from ..._fast import _codec as codec
from ...errors import Rejected
from ...model.change import Change, Rejection
from ...model.session import (
    MAX_BAN_MS,
    MAX_BANS,
    MAX_BANS_BYTES,
    ScopeRecord,
    Session,
    SessionBan,
    SessionBans,
    SessionSelector,
    SessionStatus,
    lineage,
)
from ...scopes import containment
from .. import layout
from .effects import Delete, Effect, Put, Rows, corrupt

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FACT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class RuleViolation(Exception):
    """Raised for an invalid change; becomes the rejection of its outcome."""

    def __init__(self, word: Rejection, detail: str) -> None:
        """Store the rejection and a message for people."""
        super().__init__(detail)
        self.word = word
        self.detail = detail


def invalid(detail: str) -> RuleViolation:
    """Return the violation for a malformed value."""
    return RuleViolation(Rejection.INVALID, detail)


def require_text(
    field: str, value: str, *, required: bool = False, max_bytes: int = limits.MAX_STRING_BYTES
) -> str:
    """Return ``value``; raises RuleViolation if it is empty though required, too long, or has controls."""
    if not value and required:
        raise invalid(f"{field}: must not be empty")
    if len(value.encode()) > max_bytes:
        raise invalid(f"{field}: longer than {max_bytes} bytes")
    if _CONTROL.search(value):
        raise invalid(f"{field}: contains control characters")
    return value


def require_size(field: str, value: bytes, size: int) -> bytes:
    """Return ``value``; raises RuleViolation unless it has ``size`` bytes."""
    if len(value) != size:
        raise invalid(f"{field}: must be {size} bytes, not {len(value)}")
    return value


def require_count(field: str, values: Sequence[Any], most: int, *, least: int = 0) -> Sequence[Any]:
    """Return ``values``; raises RuleViolation unless there are ``least`` to ``most``."""
    if len(values) > most:
        raise RuleViolation(Rejection.LIMIT, f"{field}: {len(values)} of at most {most}")
    if len(values) < least:
        raise invalid(f"{field}: needs at least {least}")
    return values


def validate_ceiling(ceiling: Mapping[str, Any] | None) -> list[ScopeRecord]:
    """Return a ceiling layer's scopes; raises RuleViolation for malformed ones, unknown kinds and needs."""
    scopes: list[ScopeRecord] = list((ceiling or {}).get("scopes", ()))
    require_count("ceiling.scopes", scopes, limits.MAX_SCOPES, least=1)
    for index, record in enumerate(scopes):
        where = f"ceiling.scopes[{index}]"
        if record.get("needs") is not None:
            raise invalid(f"{where}: a ceiling carries no needs; put them into the token's scopes")
        try:
            encoded = kernel.encode_message("Scope", record)
            codec.check_scope(encoded)
            unknown = codec.has_unknown_kind(encoded)
        except ValueError as error:
            raise invalid(f"{where}: {getattr(error, 'detail', error)}") from error
        if unknown:
            raise invalid(f"{where}: a kind that this version does not know")
    # Exceptions stand last in a layer, wherever they were stated.
    return sorted(scopes, key=lambda record: bool(record.get("exception", False)))


def is_contained(
    parent: Sequence[ScopeRecord], child: Sequence[ScopeRecord], *, same_session: bool = True
) -> bool:
    """Return True if ``child`` is proven to permit nothing that ``parent`` does not.

    Raises RuleViolation WIDENS for a scope that ``parent`` can never satisfy. Layers are ANDed, so an
    unproven layer costs one layer and adds no authority. Each session's ceiling reads that session's own
    facts.
    """
    verdict, part = containment.contains(parent, child, same_facts=True, same_session=same_session)
    if verdict < 0:
        raise RuleViolation(Rejection.WIDENS, f"ceiling: nothing of it lies inside the one above: {part}")
    return verdict > 0


def validate_facts(field: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return fact records by name; raises RuleViolation for a malformed name or value, or a repeated name."""
    by_name: dict[str, Mapping[str, Any]] = {}
    for record in records:
        name = str(record.get("name", ""))
        if not _FACT_NAME.fullmatch(name):
            raise invalid(f"{field}: the name {name[:80]!r} is not letters, digits and _ (at most 64)")
        if name in by_name:
            raise invalid(f"{field}: {name} is there twice")
        value = record.get("value") or {}
        kinds = [kind for kind in ("text", "number", "truth") if value.get(kind) is not None]
        if len(kinds) != 1:
            raise invalid(f"{field}.{name}: needs a text, a number or a truth")
        if kinds == ["text"] and len(str(value["text"]).encode()) > limits.MAX_STRING_BYTES:
            raise invalid(f"{field}.{name}: longer than {limits.MAX_STRING_BYTES} bytes")
        if kinds == ["number"] and int(value["number"].get("nanos", 0)) >= 10**9:
            raise invalid(f"{field}.{name}: nanos must be below 10^9")
        by_name[name] = record
    return by_name


def validate_labels(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return labels by name; raises RuleViolation for a malformed or repeated name, or a malformed value."""
    require_count("labels", records, limits.MAX_LABELS)
    by_name: dict[str, str] = {}
    for record in records:
        name = require_text(
            "labels", str(record.get("name", "")), required=True, max_bytes=layout.MAX_NAME_BYTES
        )
        if name in by_name:
            raise invalid(f"labels: {name} is there twice")
        by_name[name] = require_text(f"labels.{name}", str(record.get("value", "")))
    return by_name


def ancestors(rows: Rows, session: Session) -> list[Session] | None:
    """Return a session's ancestors, nearest first; None if one is missing or there are too many."""
    members = list(lineage(session, rows.session))
    return None if members[-1].parent_id else members[1:]


def require_session(rows: Rows, change: Change) -> Session:
    """Return the session of a change; raises NOT_FOUND."""
    session = rows.session(change.session_id)
    if session is None:
        raise RuleViolation(Rejection.NOT_FOUND, "session_id: no such session")
    return session


def require_epoch(session: Session, change: Change) -> None:
    """Raise EPOCH_MISMATCH if the change expects another epoch of its session."""
    if change.expected_epoch and change.expected_epoch != session.epoch:
        detail = (
            f"expected_epoch: {change.expected_epoch}, but the session is at {session.epoch}; read it again"
        )
        raise RuleViolation(Rejection.EPOCH_MISMATCH, detail)


def require_alive(rows: Rows, change: Change) -> Session:
    """Return the session of a change; raises NOT_FOUND, ALREADY_ENDED or EPOCH_MISMATCH."""
    session = require_session(rows, change)
    reason = ended_reason(rows, session, change.at_ms)
    if reason:
        raise RuleViolation(Rejection.ALREADY_ENDED, reason)
    require_epoch(session, change)
    return session


def require_active(rows: Rows, change: Change) -> Session:
    """Return the session of a change as :func:`require_alive`; also raises WRONG_STATUS.

    It and all its ancestors have to be active, as calls can be allowed only then.
    """
    session = require_alive(rows, change)
    for member in (session, *(ancestors(rows, session) or ())):
        if member.status is not SessionStatus.ACTIVE:
            raise RuleViolation(Rejection.WRONG_STATUS, f"session {member.id.hex()} is {member.status.name}")
    return session


def ended_reason(rows: Rows, session: Session, at_ms: int) -> str:
    """Return the reason why a session is over for good, or an empty text.

    Does not read leases: the log turns a lapse into an end before it applies another change.
    """
    line = ancestors(rows, session)
    if line is None:
        return "an ancestor of the session is gone"
    for index, member in enumerate([session, *line]):
        which = "the session" if index == 0 else f"its ancestor {member.id.hex()}"
        if member.status is SessionStatus.ENDED:
            return f"{which} has ended ({member.end_cause.name})"
        if at_ms >= member.expires_at_ms:
            return f"{which} has reached its hard end"
    return ""


# The whole key, in the table of evidence.
BANS: Final = b"n"


def session_bans(rows: Rows) -> SessionBans:
    """Return all bans, lapsed ones too. Raises StateUnusable."""
    value = rows.get(layout.EVIDENCE, BANS)
    if value is None:
        return SessionBans()
    try:
        return SessionBans.decode(value)
    except ValueError as error:
        raise corrupt("the row of bans", error) from error


def ban_sessions(rows: Rows, change: Change, revision: int) -> Effect:
    """Set a ban in the place of one by the same selector, or lift that; drops those that lapsed.

    The later of the two ends counts: no operator can shorten another's ban from an hour to a minute.
    """
    body = cast("dict[str, Any]", change.body)
    selector = _selector(body.get("selector") or {})
    for_ms = int(body.get("for_ms", 0))
    if for_ms > MAX_BAN_MS:
        raise invalid(f"for_ms: {for_ms} is more than {MAX_BAN_MS}, a day")
    living = session_bans(rows).living(change.at_ms)
    others = tuple(ban for ban in living if ban.selector != selector)
    if not for_ms:
        if len(others) == len(living):
            raise RuleViolation(Rejection.NOT_FOUND, "selector: no ban by it, or it has lapsed")
        return Effect([_row(others)])
    reason = require_text("reason", body.get("reason", ""))
    until_ms = max([change.at_ms + for_ms, *(ban.until_ms for ban in living if ban.selector == selector)])
    ban = SessionBan(selector, until_ms, reason, change.actor, change.at_ms)
    if len(others) >= MAX_BANS:
        raise RuleViolation(Rejection.LIMIT, f"selector: there are {MAX_BANS} bans; lift some")
    return Effect([_row((*others, ban))])


def require_admitted(rows: Rows, body: Mapping[str, Any], at_ms: int) -> None:
    """Raise Rejected BANNED if a ban fits a session of this body of an OPEN_SESSION."""
    for ban in session_bans(rows).living(at_ms):
        labels = {label["name"]: label["value"] for label in body.get("labels", ())}
        if ban.selector.fits(body.get("subject", ""), body.get("owner", ""), labels):
            raise Rejected(
                Rejection.BANNED,
                f"no session is opened for {ban.selector} until {_moment(ban.until_ms)}: it is banned",
            )


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat().replace("+00:00", "Z")


def _selector(record: Mapping[str, Any]) -> SessionSelector:
    for name in ("subject", "owner"):
        require_text(name, record.get(name, ""), max_bytes=limits.MAX_STRING_BYTES)
    labels = validate_labels(record.get("labels", ()))
    stated = SessionSelector(
        record.get("subject", ""), record.get("owner", ""), tuple(sorted(labels.items())),
        bool(record.get("all", False)),
    )  # fmt: skip
    wrong = stated.fault()
    if wrong:
        raise invalid(f"selector: {wrong}")
    return stated


def _row(bans: tuple[SessionBan, ...]) -> Put | Delete:
    if not bans:
        return Delete(layout.EVIDENCE, BANS)
    encoded = SessionBans(bans).encode()
    if len(encoded) > MAX_BANS_BYTES:
        raise RuleViolation(
            Rejection.LIMIT, f"selector: all bans would have {len(encoded)} bytes, over {MAX_BANS_BYTES}"
        )
    return Put(layout.EVIDENCE, BANS, encoded)
