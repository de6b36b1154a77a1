"""Ten thousand sessions: a page holds a few rows of them, and asks the server about these alone."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from sessauth.client import Activity, EventKind, SessionActivity, SessionEvent, SessionPage
from sessauth.clock import SystemClock
from sessauth.console import board
from sessauth.console.app import application
from sessauth.console.logins import Logins
from sessauth.console.parts import ConsoleTerms
from sessauth.console.session_list import RANKED, ROWS
from sessauth.errors import NotFound, PermissionDenied
from sessauth.model.session import Session, SessionStatus
from tests.console.conftest import HOST, ORIGIN, World, log_in
from tests.support.service import wait_until


class _Crowd:
    """A client of a server with many sessions; counts what it is asked."""

    def __init__(self, one: Session, living: int) -> None:
        self.sessions = [
            replace(
                one, id=secrets.token_bytes(16), subject=f"agent:{number}", parent_id=b"", opened_at_ms=number
            )
            for number in range(living)
        ]
        self.reports = 0
        self.activities = 0

    @contextlib.asynccontextmanager
    async def watch_sessions(self, **_: Any) -> AsyncIterator[AsyncIterator[SessionEvent]]:
        async def events() -> AsyncIterator[SessionEvent]:
            yield SessionEvent(EventKind.SYNCED, 1, 1)
            import asyncio

            await asyncio.sleep(3_600)

        yield events()

    async def list_sessions(self, *, page_size: int, page_token: str, status: str) -> SessionPage:
        if status != SessionStatus.ACTIVE.name:
            return SessionPage(())
        first = int(page_token or 0)
        more = str(first + page_size) if first + page_size < len(self.sessions) else ""
        return SessionPage(tuple(self.sessions[first : first + page_size]), more)

    async def server_status(self) -> Any:
        raise PermissionDenied("an issuer's credential")

    async def list_activity(self, *, limit: int, **_: Any) -> Activity:
        self.activities += 1
        minutes = tuple(range(10))
        ranked = tuple(SessionActivity(each, minutes, minutes) for each in self.sessions[:limit])
        return Activity(ranked, minutes, minutes, 0, 1)

    async def get_reports(self, session_ids: list[bytes]) -> Any:
        assert len(session_ids) <= ROWS
        self.reports += 1
        raise NotFound("not here")

    async def close(self) -> None:
        return


@contextlib.contextmanager
def _looking(crowd: _Crowd) -> Any:
    logins = Logins(SystemClock())
    app = application(lambda: crowd, logins, (HOST,), ConsoleTerms())
    with TestClient(app, base_url=ORIGIN) as http:
        log_in(http, f"/login/{logins.new_link()}")
        assert wait_until(lambda: "being read" not in http.get("/").text)
        yield http


def test_a_page_holds_few_of_many(world: World) -> None:
    """A page of 10,000 has 25 rows and asks once for their reports, once for a ranking."""
    crowd = _Crowd(world.session, 10_000)
    with _looking(crowd) as http:
        for path, first in (
            ("/", "agent:9999"),
            ("/?page=400", "agent:24"),
            ("/?q=agent:77", "agent:7799"),
            ("/?sort=denied&page=4", "agent:99"),
        ):
            crowd.reports = crowd.activities = 0
            page = http.get(path).text
            rows = re.findall(r'<tr id="s-', page)
            assert 0 < len(rows) <= ROWS and crowd.reports <= 1 and crowd.activities <= 1
            assert first in page and len(page) < 40_000
        assert "10000 living of 10000 known" in http.get("/").text
        assert f"76 to {RANKED} of {RANKED}" in http.get("/?sort=denied&page=4").text


def test_more_than_are_read_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that stopped reading says so, and how to find the others."""
    monkeypatch.setattr(board, "READ_AT_MOST", 2_000)
    with _looking(_Crowd(world.session, 3_500)) as http:
        page = http.get("/").text
        assert "2000 living" in page and "more than are read here" in page
