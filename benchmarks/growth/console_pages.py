"""The console among many sessions: ``python -m benchmarks.growth.console_pages [SESSIONS]``.

It prints the time of a page from request to answer, and the memory of the console's process. The server is a
stand-in that answers at once, so a page costs what the console itself does. Every fifth session has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Final

from benchmarks.growth.rss_process import memory
from sessauth.client import (
    Activity,
    EventKind,
    SessionActivity,
    SessionEvent,
    SessionPage,
    SessionReport,
)
from sessauth.clock import SystemClock
from sessauth.errors import PermissionDenied
from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.scopes.scope import Scope

SESSIONS: Final = 100_000
ROUNDS: Final = 15
HOST: Final = "127.0.0.1:8099"
PAGES: Final = {
    "first page": "/",
    "last page": "/?page=999999",
    "search, few": "/?q=agent:77777",
    "search, two words": "/?q=ticket+team%3Dteam-3",
    "search, none": "/?q=nothing-like-it",
    "suspended": "/?status=suspended",
    "by denied calls": "/?sort=denied",
    "by calls, page 4": "/?sort=calls&page=4",
}


def _session(number: int) -> Session:
    ended = number % 5 == 0
    scopes = [Scope.parse(text).to_record() for text in ("read:mcp/github/** free *", "write:mcp/x/* free *")]
    made = Session(
        id=secrets.token_bytes(16),
        subject=f"agent:{number}",
        purpose=f"ticket {number} of the queue",
        owner="orchestrator",
        parent_id=b"",
        status=SessionStatus.ENDED if ended else SessionStatus.ACTIVE,
        epoch=1,
        ceilings=(tuple(scopes),),
        facts=(),
        labels={"team": f"team-{number % 7}", "region": "eu"},
        opened_at_ms=1_700_000_000_000 + number,
        expires_at_ms=4_000_000_000_000,
        lease_ms=60_000,
        issuer_key_ids=(),
        revoked_count=0,
        ended_at_ms=1_800_000_000_000 + number if ended else 0,
        end_cause=EndCause.ASKED if ended else EndCause.UNSPECIFIED,
        reason="",
        revision=number + 1,
    )
    # As it comes from a server: no two sessions share a value.
    return Session.decode(made.encode(), 4_000_000_000_000)


class _Server:
    """A client whose server has these sessions, and sends an event for every ``changes()``."""

    def __init__(self, count: int) -> None:
        self._numbers = range(count)
        self.first: list[Session] = []
        self._news: asyncio.Queue[SessionEvent] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def watch_sessions(self, **_: Any) -> AsyncIterator[AsyncIterator[SessionEvent]]:
        async def events() -> AsyncIterator[SessionEvent]:
            yield SessionEvent(EventKind.SYNCED, 1, 1)
            while True:
                yield await self._news.get()

        yield events()

    def change(self, number: int) -> None:
        """Narrow one of the first sessions."""
        changed = replace(self.first[number], epoch=self.first[number].epoch + 1)
        self.first[number] = changed
        self._news.put_nowait(SessionEvent(EventKind.NARROWED, 1, 1, session_id=changed.id))

    async def list_sessions(self, *, page_size: int, page_token: str, status: str) -> SessionPage:
        if status == SessionStatus.SUSPENDED.name:
            return SessionPage(())
        ended = status == SessionStatus.ENDED.name
        numbers: Sequence[int] = [each for each in self._numbers if (each % 5 == 0) is ended]
        at = int(page_token or 0)
        sessions = tuple(map(_session, numbers[at : at + page_size]))
        self.first = self.first or list(sessions[:100])
        more = str(at + page_size) if at + page_size < len(numbers) else ""
        return SessionPage(sessions, more)

    async def get_session(self, session_id: bytes) -> Session:
        return next(each for each in self.first if each.id == session_id)

    async def get_reports(self, session_ids: Sequence[bytes]) -> tuple[SessionReport, ...]:
        return ()

    async def list_activity(self, *, order: str, limit: int, words: str) -> Activity:
        """Rank the first sessions: a real server's ranking is not the console's cost."""
        minutes = (0,) * 9
        ranked = [SessionActivity(each, (*minutes, 5), (*minutes, 3)) for each in self.first[:limit]]
        return Activity(tuple(ranked), (*minutes, 500), (*minutes, 300), 30_000, 1)

    async def server_status(self) -> Any:
        raise PermissionDenied("an issuer's credential")

    async def close(self) -> None:
        return


def _ms(times: list[float], share: float) -> float:
    return round(sorted(times)[int(share * (len(times) - 1))] * 1000, 1)


def main(count: int) -> None:
    """Print the times of pages in ms and the memory in MB."""
    from starlette.testclient import TestClient

    from sessauth.console import board
    from sessauth.console.app import application
    from sessauth.console.logins import Logins
    from sessauth.console.parts import ConsoleTerms

    board.READ_AT_MOST = count  # type: ignore[misc]
    gc.collect()
    before = memory()["RssAnon"]
    server, logins = _Server(count), Logins(SystemClock())
    app = application(lambda: server, logins, (HOST,), ConsoleTerms())  # type: ignore[arg-type, return-value]
    origin = f"http://{HOST}"
    with TestClient(app, base_url=origin) as http:
        login = http.post(f"/login/{logins.new_link()}", headers={"origin": origin}, follow_redirects=False)
        http.base_url = origin + login.headers["location"]
        while f"of {count} known" not in http.get("/").text or "being read" in http.get("/").text:
            time.sleep(1)
        print(f"{count} sessions in {(memory()['RssAnon'] - before) / 1e6:.0f} MB")
        for changing in (False, True):
            for name, path in PAGES.items():
                times = []
                for number in range(ROUNDS):
                    if changing:
                        http.portal.call(server.change, number)  # type: ignore[union-attr]
                        # The board reads it, so that the page meets a board that has changed.
                        time.sleep(0.4)
                    began = time.perf_counter()
                    assert http.get(path).status_code == 200
                    times.append(time.perf_counter() - began)
                after = "after a change" if changing else ""
                print(f"{name:20} {after:15} p50 {_ms(times, 0.5)} ms, p95 {_ms(times, 0.95)} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SESSIONS)
