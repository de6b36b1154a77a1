"""The console as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..client import AsyncClient
from ..clock import Clock, SystemClock
from .approvals import ApprovalPages
from .board import Board
from .changes import SessionChanges
from .closure import ClosurePage
from .decision_log import DecisionLog
from .decisions import DecisionPages
from .gate import PageGate, cookie_name
from .hosts import HostsPage
from .inspector import TokenInspector
from .live import LivePages
from .logins import Logins
from .one_session import OneSession
from .pages import FOLDER, Pages
from .parts import ConsoleParts, ConsoleTerms
from .recent import RecentAnswers
from .sessions import SessionsPage

Connect = Callable[[], AsyncClient]


def application(
    connect: Connect,
    logins: Logins,
    hosts: Sequence[str],
    terms: ConsoleTerms,
    *,
    clock: Clock | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> PageGate:
    """Return the application.

    Args:
        connect: makes the client, on the loop of the application.
        logins: of the people who look.
        hosts: the values of the header Host (HOST:PORT) that are answered.
        terms: what may be changed, and by whose key.
        clock: of ages.
        stopping: streams end when it returns True.
    """
    clock = clock or SystemClock()
    pages = Pages(
        clock,
        allow_changes=terms.allow_changes,
        approver=terms.approver.text if terms.approver else "",
        approvals_only=terms.approvals_only,
        server=terms.server,
    )
    answers = RecentAnswers(connect, clock)
    pages.reach = answers.reach
    board = Board(answers)
    log = DecisionLog(terms.audit) if terms.audit else None
    parts = ConsoleParts(terms, clock, answers, board, pages, LivePages(pages, board, stopping), log)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [] if terms.approvals_only else [asyncio.create_task(board.run())]
        if log:
            tasks.append(asyncio.create_task(log.run(board.changed)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await answers.close()

    inner = Starlette(
        routes=[
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
            *_login_routes(logins),
            *_routes(parts),
        ],
        lifespan=lifespan,
    )
    # Around all of it, so that the answer to a mistake of ours has the headers, too.
    return PageGate(inner, logins=logins, pages=pages, hosts=hosts)


def _login_routes(logins: Logins) -> list[Route]:
    async def login(request: Request) -> Response:
        cookie = logins.use_link(request.path_params["secret"])
        if cookie is None:
            # The first page says how to go on; a login that this browser has already still counts.
            return RedirectResponse("/", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            cookie_name(request), cookie, max_age=logins.login_ms // 1000, httponly=True, samesite="strict"
        )
        return answer

    async def logout(request: Request) -> Response:
        logins.leave(request.cookies.get(cookie_name(request), ""))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
        return answer

    return [Route("/login/{secret}", login), Route("/logout", logout, methods=["POST"])]


def _routes(parts: ConsoleParts) -> list[Route]:
    live = parts.live.handler
    changes, closure, inspector = SessionChanges(parts), ClosurePage(parts), TokenInspector(parts)
    decisions = DecisionPages(parts)
    if parts.terms.approvals_only:
        return [Route("/", RedirectResponse("/approvals", 303)), *_approval_routes(parts)]
    return [
        *_approval_routes(parts),
        Route("/decisions", live(decisions.list)),
        Route("/decisions/{decision}", live(decisions.one)),
        Route("/hosts", live(HostsPage(parts).view)),
        Route("/token", inspector.show),
        Route("/token", inspector.inspect, methods=["POST"]),
        Route("/", live(SessionsPage(parts).view)),
        Route("/sessions/{session}", live(OneSession(parts).view)),
        Route("/sessions/{session}/closure", live(closure.view)),
        Route("/sessions/{session}/receipt", closure.download),
        Route("/sessions/{session}/change/{kind}", changes.show),
        Route("/sessions/{session}/change/{kind}", changes.submit, methods=["POST"]),
    ]


def _approval_routes(parts: ConsoleParts) -> list[Route]:
    live, approvals = parts.live.handler, ApprovalPages(parts)
    place = "/approvals/{session}/{approval}"
    return [
        Route("/approvals", live(approvals.list)),
        Route(place, live(approvals.one)),
        Route(f"{place}/grant", approvals.grant, methods=["POST"]),
        Route(f"{place}/deny", approvals.deny, methods=["POST"]),
    ]
