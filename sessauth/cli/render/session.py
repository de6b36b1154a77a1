"""Sessions, lists of sessions and closure receipts, as JSON and as lines for people.

``find`` reads the sessions that ``session list`` shows: the living first, the newest first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ...model.receipt import Receipt, ReceiptState, SignedReceipt
from ...model.session import Session, SessionStatus, SessionTerms
from ...scopes.scope import Scope
from ...scopes.value import Number, Plain, value_of, value_to_text
from .. import context
from ..output import fields, json_fields, moment, moment_and_distance, printable, span, table

if TYPE_CHECKING:
    from ...client import Client

_MEANS = {
    ReceiptState.CLOSED: "no verifier that was registered can allow a call of it any more",
    ReceiptState.PARTIAL: "not all have acknowledged the end yet, or permits are open; ask again",
    ReceiptState.UNKNOWN: "who was registered when it ended can't be known",
}
_HEADERS = ("VERIFIER", "STATE", "REVISION", "AT")
_HOST_HEADERS = ("HOST", "STATE", "RECORD", "AT")


def receipt_json(signed: SignedReceipt, receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as JSON values; ``signed`` is its text form."""
    document = json_fields(receipt, issuer_key_id=signed.issuer_key_id.hex(), signed=signed.text)
    del document["version"]
    if not receipt.hosts:
        del document["hosts"], document["record"]
    return document


def summary(receipt: Receipt) -> str:
    """Return one line: the receipt's state, and the verifiers and permits it waits for."""
    waiting = ", ".join(printable(name) for name in receipt.waiting)
    pending = [f"waits for {waiting}"] if waiting else []
    if receipt.open_permits:
        pending.append(f"{receipt.open_permits} permits open")
    line = f"receipt {receipt.state.name}: {'; '.join(pending) or _MEANS[receipt.state]}"
    if receipt.allowed_late_ms:
        line = f"{line}; A CALL WAS ALLOWED {receipt.allowed_late_ms} ms AFTER THE END"
    return f"{line}; it was in observe mode" if receipt.observe else line


def receipt_lines(receipt: Receipt) -> list[str]:
    """Return a receipt as lines."""
    lines = [
        summary(receipt),
        *fields(
            [
                ("session", receipt.session_id.hex()),
                ("ended", moment(receipt.ended_at_ms)),
                ("cause", receipt.cause.name),
                ("reason", receipt.reason),
                ("revision", receipt.revision),
                ("record", receipt.record or ""),
                ("made", moment(receipt.made_at_ms)),
                ("open permits", receipt.open_permits or ""),
                ("last allowed", moment(receipt.last_allow_ms)),
                (
                    "observe mode",
                    "its ceiling refused nothing, for its life or a part of it" if receipt.observe else "",
                ),
                ("cluster", receipt.cluster_id.hex()),
            ]
        ),
    ]
    rows = [[each.name, each.state.name, each.revision, moment(each.at_ms)] for each in receipt.verifiers]
    if rows:
        lines += table(_HEADERS, rows, max_cell_chars=80)
    hosts = [[each.name, each.state.name, each.record, moment(each.at_ms)] for each in receipt.hosts]
    return [*lines, *table(_HOST_HEADERS, hosts, max_cell_chars=80)] if hosts else lines


OBSERVE_MODE: Final = "its ceiling refuses nothing; what it would refuse is recorded"


def to_json(session: Session) -> dict[str, Any]:
    """Return a session as JSON values. Numbers with decimal places are texts, to stay exact."""
    facts = {fact.name: {"value": _fact_json(fact.value), "visible": fact.visible} for fact in session.facts}
    end_cause = session.end_cause.name if session.ended_at_ms else ""
    return json_fields(session, ceilings=ceilings(session), facts=facts, end_cause=end_cause)


def _fact_json(plain: Plain) -> str | bool | int:
    value = value_of(plain)
    if isinstance(value, Number):
        return str(value) if value.nanos else value.units
    return value


def ceilings(session: Session) -> list[list[str]]:
    """Return the layers of the ceiling in text form."""
    return [[str(Scope.from_record(scope)) for scope in layer] for layer in session.ceilings]


def to_lines(session: Session, now_ms: int) -> list[str]:
    """Return a session as lines."""
    lines = fields(
        [
            ("session", session.id.hex()),
            ("status", session.status.name),
            ("inherited from", session.inherited_from.hex()),
            ("observe mode", _observe_mode(session)),
            ("reason", session.reason),
            *_stated(session),
            ("parent", session.parent_id.hex()),
            ("epoch", session.epoch),
            ("opened", moment(session.opened_at_ms)),
            ("ended", moment(session.ended_at_ms)),
            ("cause", session.end_cause.name if session.ended_at_ms else ""),
            ("hard end", "" if session.ended_at_ms else moment_and_distance(session.expires_at_ms, now_ms)),
            ("lease", _lease(session, now_ms)),
            ("revoked", session.revoked_count or ""),
            ("open permits", session.open_permits or ""),
            ("open approvals", session.open_approvals or ""),
            ("labels", ", ".join(f"{name}={value}" for name, value in sorted(session.labels.items()))),
        ]
    )
    for number, layer in enumerate(ceilings(session)):
        lines.append(f"ceiling layer {number}")
        lines += [f"  {printable(scope)}" for scope in layer]
    if session.facts:
        lines.append("facts")
        lines += [
            f"  {printable(fact.name)} = {value_to_text(value_of(fact.value))}"
            + ("  (visible to holders)" if fact.visible else "")
            for fact in session.facts
        ]
    return lines


def _observe_mode(session: Session) -> str:
    if session.observe:
        return OBSERVE_MODE
    return f"until {moment(session.enforced_at_ms)}" if session.enforced_at_ms else ""


def _stated(session: Session) -> Iterator[tuple[str, str]]:
    """Yield the names of the session's terms that are texts or lists of them, each with its value."""
    for name in SessionTerms.__annotations__:
        value = getattr(session, name, None)
        if isinstance(value, tuple) and value and isinstance(value[0], str):
            yield name, ", ".join(value)
        elif isinstance(value, str):
            yield name, value


def _lease(session: Session, now_ms: int) -> str:
    if not session.lease_ms or session.ended_at_ms:
        return ""
    return f"{span(session.lease_ms)}, lapses {moment_and_distance(session.lease_deadline_ms, now_ms)}"


HEADERS: Final = ("ID", "STATUS", "SUBJECT", "PURPOSE", "OWNER", "AGE", "LEFT")
STATUSES: Final = tuple(each for each in SessionStatus if each)
# A server lists sessions by id, so the newest are known only when all were read. Reading this many takes some
# seconds; of more with one status the list reads no further and says so.
READ_AT_MOST: Final = 10_000
PAGE: Final = 1000
MIN_ID_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class ListedSessions:
    """Sessions to show: ``sessions`` of the ``count`` that were read; with ``more`` not all were read."""

    sessions: list[Session]
    count: int
    more: bool
    living_only: bool

    def to_json(self) -> dict[str, Any]:
        """Return the sessions, the count of those read, and whether there are more."""
        return {"sessions": [to_json(each) for each in self.sessions], "found": self.count, "more": self.more}

    def to_lines(self, now_ms: int, *, short_ids: bool) -> list[str]:
        """Return the table, and lines about sessions that it leaves out."""
        ids = [each.id.hex() for each in self.sessions]
        chars = distinct_chars(ids) if short_ids else 32
        lines = table(HEADERS, [_row(each, now_ms, chars) for each in self.sessions])
        if self.more:
            lines.append(
                f"{len(ids)} of the first {self.count} that were read, and there are more: "
                "filter them, or raise --limit"
            )
        elif len(ids) < self.count:
            lines.append(f"{len(ids)} of {self.count}: --limit shows more")
        if self.living_only and not ids:
            lines.append("none lives: --all shows those that ended")
        return lines


def find(
    client: Client, filters: Mapping[str, Any], status: str | None, *, ended_too: bool, limit: int
) -> ListedSessions:
    """Return the first sessions in order: of one status, else the living, or all with ``ended_too``."""
    wanted = [each for each in STATUSES if each is not SessionStatus.ENDED or ended_too]
    if status is not None:
        wanted = [SessionStatus[status]]
    found: list[Session] = []
    more = False
    for each in wanted:
        read = list(islice(_read(client, each, filters), max(limit, READ_AT_MOST) + 1))
        more |= len(read) > max(limit, READ_AT_MOST)
        found += read[: max(limit, READ_AT_MOST)]
    return ListedSessions(
        heapq.nsmallest(limit, found, key=_order), len(found), more, status is None and not ended_too
    )


def _read(client: Client, status: SessionStatus, filters: Mapping[str, Any]) -> Iterator[Session]:
    for page in context.pages(client.list_sessions, status=status.name, page_size=PAGE, **filters):
        yield from page.sessions


def _order(session: Session) -> tuple[bool, int, bytes]:
    return session.status is SessionStatus.ENDED, -session.opened_at_ms, session.id


def distinct_chars(ids: list[str]) -> int:
    """Return the length at which prefixes of the ids differ."""
    chars = MIN_ID_CHARS
    while len({each[:chars] for each in ids}) < len(ids):
        chars += 1
    return chars


def _row(session: Session, now_ms: int, id_chars: int) -> list[object]:
    over = session.status is SessionStatus.ENDED
    return [
        session.id.hex()[:id_chars],
        f"{session.status.name} OBSERVE" if session.observe else session.status.name,
        session.subject,
        session.purpose,
        session.owner,
        span(max(now_ms - session.opened_at_ms, 0)),
        "" if over else span(max(session.ends_at_ms() - now_ms, 0)),
    ]
