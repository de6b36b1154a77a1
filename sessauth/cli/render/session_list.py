"""Sessions as ``session list`` finds and shows them: the living first, the newest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ...model.session import Session, SessionStatus
from .. import lookup
from ..output import span, table
from . import session as session_view

if TYPE_CHECKING:
    from ...client import Client

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
        return {
            "sessions": [session_view.to_json(each) for each in self.sessions],
            "found": self.count,
            "more": self.more,
        }

    def to_lines(self, now_ms: int, *, short_ids: bool) -> list[str]:
        """Return the table, and lines about sessions that it leaves out."""
        ids = [each.id.hex() for each in self.sessions]
        chars = _distinct_chars(ids) if short_ids else 32
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
    for page in lookup.pages(client.list_sessions, status=status.name, page_size=PAGE, **filters):
        yield from page.sessions


def _order(session: Session) -> tuple[bool, int, bytes]:
    return session.status is SessionStatus.ENDED, -session.opened_at_ms, session.id


def _distinct_chars(ids: list[str]) -> int:
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
