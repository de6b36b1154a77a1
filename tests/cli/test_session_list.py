from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessauth.cli.render import session
from sessauth.cli.render.session import HEADERS, ListedSessions, find
from sessauth.client import SessionPage
from sessauth.model.session import Session, SessionStatus
from tests.cli.test_views import NOW_MS, SESSION

OPENED_MS = NOW_MS - 3 * 60_000


class Pages:
    """A client whose server gives two sessions a page."""

    def __init__(self, sessions: list[Session]) -> None:
        """Take all sessions that there are."""
        self._sessions = sessions

    def list_sessions(self, *, status: str, page_size: int, page_token: str, **filters: Any) -> SessionPage:
        """Return a page of one status."""
        fit = [each for each in self._sessions if each.status.name == status]
        start = int(page_token or 0)
        return SessionPage(fit[start : start + 2], str(start + 2) if len(fit) > start + 2 else "")


def _session(number: int, status: SessionStatus = SessionStatus.ACTIVE) -> Session:
    return replace(
        SESSION,
        id=bytes([number]) * 16,
        status=status,
        opened_at_ms=OPENED_MS + number,
        expires_at_ms=NOW_MS + 3_600_000,
        lease_ms=0,
    )


def test_the_newest_of_all_pages_come_first() -> None:
    """The order is that of all that fit, not that of a page."""
    found = find(Pages([_session(n) for n in range(5)]), {}, None, ended_too=False, limit=3)  # type: ignore[arg-type]

    assert [each.id[0] for each in found.sessions] == [4, 3, 2]
    assert found.to_lines(NOW_MS, short_ids=False)[-1] == "3 of 5: --limit shows more"


def test_a_list_that_was_not_read_to_its_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is read at most, nobody is told that these are the newest of all."""
    monkeypatch.setattr(session, "READ_AT_MOST", 4)
    found = find(Pages([_session(n) for n in range(7)]), {}, None, ended_too=False, limit=2)  # type: ignore[arg-type]

    assert (found.count, found.more) == (4, True)
    assert (
        "2 of the first 4 that were read, and there are more" in found.to_lines(NOW_MS, short_ids=False)[-1]
    )
    assert found.to_json()["more"] is True


def test_a_row_has_age_and_time_left_and_on_a_terminal_a_short_id() -> None:
    """Times are lengths; an id has as many characters as tell it from the others, eight at least."""
    alike = replace(_session(1), id=bytes([1]) * 15 + b"\x02")
    found = ListedSessions([_session(1), alike, _session(9, SessionStatus.ENDED)], 3, False, False)

    header, one, _, ended = found.to_lines(NOW_MS, short_ids=True)
    assert header.split() == list(HEADERS)
    assert one.split()[0] == "01" * 16
    assert one.split()[-3:] == ["2m", "59s", "1h"]
    assert ended.split()[-2:] == ["2m", "59s"]
    assert (
        ListedSessions([_session(1)], 1, False, False).to_lines(NOW_MS, short_ids=True)[1].split()[0]
        == "01010101"
    )


def test_a_list_without_a_living_session_names_all() -> None:
    """Nothing that lives is no empty answer without a word."""
    assert "--all" in ListedSessions([], 0, False, True).to_lines(NOW_MS, short_ids=True)[-1]
