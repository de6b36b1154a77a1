"""The console as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

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
from .gate import PageGate, cookie_name, peer_uid
from .hosts import HostsPage
from .inspector import TokenInspector
from .live import LivePages
from .logins import Login, Logins
from .one_session import OneSession
from .pages import FOLDER, Pages, base_of
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
            *_login_routes(logins, pages),
            *_routes(parts),
        ],
        lifespan=lifespan,
        exception_handlers={404: partial(_no_page, pages), 405: partial(_no_page, pages)},
    )
    # Around all of it, so that the answer to a mistake of ours has the headers, too.
    return PageGate(inner, logins=logins, pages=pages, hosts=hosts)


async def _no_page(pages: Pages, request: Request, _: Exception) -> Response:
    return pages.answer(
        request, "message.html", code=404, title="Nothing to show", message="There is no such page."
    )


def _login_routes(logins: Logins, pages: Pages) -> list[Route]:
    async def link(request: Request) -> Response:
        # Programs that look at a link before a person does, and browsers that load ahead, use up nothing.
        if not logins.is_link(request.path_params["secret"]):
            return pages.expired(request)
        return pages.answer(request, "link.html")

    async def login(request: Request) -> Response:
        made = logins.use_link(request.path_params["secret"], peer_uid(request.scope))
        if made is None:
            return pages.expired(request)
        cookie, login = made
        answer = RedirectResponse(f"{login.base}/", 303)
        name, path = cookie_name(request), f"{login.base}/"
        answer.set_cookie(name, cookie, path=path, httponly=True, samesite="strict")
        return answer

    async def logout(request: Request) -> Response:
        login: Login = request.state.login
        logins.leave(login)
        answer = RedirectResponse(f"{login.base}/", 303)
        name, path = cookie_name(request), f"{login.base}/"
        answer.delete_cookie(name, path=path, httponly=True, samesite="strict")
        return answer

    return [
        Route("/login/{secret}", link),
        Route("/login/{secret}", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]


def _routes(parts: ConsoleParts) -> list[Route]:
    live = parts.live.handler
    changes, closure, inspector = SessionChanges(parts), ClosurePage(parts), TokenInspector(parts)
    decisions = DecisionPages(parts)
    if parts.terms.approvals_only:

        async def first(request: Request) -> Response:
            return RedirectResponse(f"{base_of(request)}/approvals", 303)

        return [Route("/", first), *_approval_routes(parts)]
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
