"""Validation shared by the rules of ``apply``: texts, scopes, ids, who is alive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ... import limits
from ..._fast.codec import protobuf
from ..._fast.scopes import containment
from ..._fast.scopes import queries as kernel_scope
from ...model.change import Change, Rejection
from ...model.session import ScopeRecord, Session, SessionStatus
from .. import layout
from .ports import Rows

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FACT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class RuleViolation(Exception):
    """A change is against the rules; becomes the rejection of its outcome."""

    def __init__(self, word: Rejection, detail: str) -> None:
        """Keep the word and, for people, what was wrong."""
        super().__init__(detail)
        self.word = word
        self.detail = detail


def invalid(detail: str) -> RuleViolation:
    """Return the refusal of a value that is against the form."""
    return RuleViolation(Rejection.INVALID, detail)


def text(field: str, value: str, *, required: bool = False, max_bytes: int = limits.MAX_STRING_BYTES) -> str:
    """Return ``value`` if it is a text of the format, or empty and not required."""
    if not value and required:
        raise invalid(f"{field}: must not be empty")
    if len(value.encode()) > max_bytes:
        raise invalid(f"{field}: longer than {max_bytes} bytes")
    if _CONTROL.search(value):
        raise invalid(f"{field}: contains control characters")
    return value


def sized(field: str, value: bytes, size: int) -> bytes:
    """Return ``value`` if it has exactly ``size`` bytes."""
    if len(value) != size:
        raise invalid(f"{field}: must be {size} bytes, not {len(value)}")
    return value


def bounded(field: str, values: Sequence[Any], most: int, *, least: int = 0) -> Sequence[Any]:
    """Return ``values`` if there are ``least`` to ``most`` of them."""
    if len(values) > most:
        raise RuleViolation(Rejection.LIMIT, f"{field}: {len(values)} of at most {most}")
    if len(values) < least:
        raise invalid(f"{field}: needs at least {least}")
    return values


def layer(ceiling: Mapping[str, Any] | None) -> list[ScopeRecord]:
    """Return the scopes of a ceiling layer if each is well-formed, of known kinds and without needs."""
    scopes: list[ScopeRecord] = list((ceiling or {}).get("scopes", ()))
    bounded("ceiling.scopes", scopes, limits.MAX_SCOPES, least=1)
    for index, record in enumerate(scopes):
        where = f"ceiling.scopes[{index}]"
        if record.get("needs") is not None:
            raise invalid(f"{where}: a ceiling carries no needs; put them into the token's scopes")
        try:
            encoded = protobuf.encode("Scope", record)
            kernel_scope.check_scope(encoded)
            unknown = kernel_scope.has_unknown_kind(encoded)
        except ValueError as error:
            raise invalid(f"{where}: {getattr(error, 'detail', error)}") from error
        if unknown:
            raise invalid(f"{where}: a kind that this version does not know")
    return scopes


def contained(
    parent: Sequence[ScopeRecord], child: Sequence[ScopeRecord], *, same_session: bool = True
) -> bool:
    """Whether it is proven that ``child`` permits nothing that ``parent`` does not.

    Refuses a scope that ``parent`` could never satisfy. Layers are ANDed, so what is not proven only
    costs a layer, never authority. Each session's ceiling reads that session's own facts.
    """
    verdict, part = containment.contains(parent, child, same_facts=True, same_session=same_session)
    if verdict < 0:
        raise RuleViolation(Rejection.WIDENS, f"ceiling: nothing of it lies inside the one above: {part}")
    return verdict > 0


def facts(field: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return fact records by name if each has a good name and a value."""
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


def labels(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return labels by name if each has a name of its own and a text or nothing as its value."""
    bounded("labels", records, limits.MAX_LABELS)
    by_name: dict[str, str] = {}
    for record in records:
        name = text("labels", str(record.get("name", "")), required=True, max_bytes=layout.MAX_NAME_BYTES)
        if name in by_name:
            raise invalid(f"labels: {name} is there twice")
        by_name[name] = text(f"labels.{name}", str(record.get("value", "")))
    return by_name


def ancestors(rows: Rows, session: Session) -> list[Session] | None:
    """Return a session's parent, grandparent and so on; None if one is missing or there are too many."""
    found: list[Session] = []
    parent_id = session.parent_id
    while parent_id:
        parent = rows.session(parent_id)
        if parent is None or len(found) == limits.MAX_ANCESTORS:
            return None
        found.append(parent)
        parent_id = parent.parent_id
    return found


def ancestor_ids(rows: Rows, session: Session) -> tuple[bytes, ...]:
    """Return the ids of a session's parent, grandparent and so on, up to the first that is gone."""
    ids: list[bytes] = []
    parent_id = session.parent_id
    while parent_id and len(ids) < limits.MAX_ANCESTORS:
        ids.append(parent_id)
        parent = rows.session(parent_id)
        parent_id = parent.parent_id if parent is not None else b""
    return tuple(ids)


def found(rows: Rows, change: Change) -> Session:
    """Return the session of a change."""
    session = rows.session(change.session_id)
    if session is None:
        raise RuleViolation(Rejection.NOT_FOUND, "session_id: no such session")
    return session


def hold_epoch(session: Session, change: Change) -> None:
    """Refuse a change that was made for another epoch of its session."""
    if change.expected_epoch and change.expected_epoch != session.epoch:
        detail = (
            f"expected_epoch: {change.expected_epoch}, but the session is at {session.epoch}; read it again"
        )
        raise RuleViolation(Rejection.EPOCH_MISMATCH, detail)


def usable(rows: Rows, change: Change) -> Session:
    """Return the session of a change if it can still be used, at the epoch that the change expects."""
    session = found(rows, change)
    reason = why_dead(rows, session, change.at_ms)
    if reason:
        raise RuleViolation(Rejection.ALREADY_ENDED, reason)
    hold_epoch(session, change)
    return session


def acting(rows: Rows, change: Change) -> Session:
    """Return the session of a change if calls of it can be allowed: it and its ancestors are active."""
    session = usable(rows, change)
    for member in (session, *(ancestors(rows, session) or ())):
        if member.status is not SessionStatus.ACTIVE:
            raise RuleViolation(Rejection.WRONG_STATUS, f"session {member.id.hex()} is {member.status.name}")
    return session


def why_dead(rows: Rows, session: Session, at_ms: int) -> str:
    """Return why a session can never be used again, or an empty text if it can.

    Leases are not read here: the log turns a lapse into an End change before it judges another change.
    """
    line = ancestors(rows, session)
    if line is None:
        return "an ancestor of the session is gone"
    for index, member in enumerate([session, *line]):
        whose = "the session" if index == 0 else f"its ancestor {member.id.hex()}"
        if member.status is SessionStatus.ENDED:
            return f"{whose} has ended ({member.end_cause.name})"
        if at_ms >= member.expires_at_ms:
            return f"{whose} has reached its hard end"
    return ""
