"""Rules of bans: one row has all of them, and an opening that one fits is refused before it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from ... import limits
from ...errors import Rejected
from ...model.ban import MAX_BAN_MS, MAX_BANS, MAX_BANS_BYTES, SessionBan, SessionBans, SessionSelector
from ...model.change import Change, Rejection
from .. import layout
from .cost_rows import corrupt
from .effects import Delete, Effect, Put
from .ports import Rows
from .validation import RuleViolation, invalid, require_text, validate_labels

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
