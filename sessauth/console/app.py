"""The console as an ASGI application: sessions for people, in a browser on the same machine.

The console is a process of its own and a client of the service, with the rights of its credential and no
others (docs/console.md).

Parts:

- ``serving.py``: the listener on loopback, and the links that log a browser in. ``logins.py``: the logins.
- ``gate.py``: the outermost part, in front of every page.
- ``app.py``: routes, and the pages of hosts, identity providers, tokens and decisions.
- ``board.py``: the sessions, kept current by the server's events, and the pages that follow them live.
- ``session_list.py``: all sessions, and those that are denied most.
- ``sessions.py``: a session with its grants, tokens, decisions and life.
- ``closure.py``: the page after an end.
- ``session_changes.py``, ``cut_off.py`` (many sessions at once) and ``approvals.py``: the pages that change
  something.
- ``recent.py``: answers of the server that several pages share. ``decision_log.py``: this machine's audit.
- ``pages.py``: the templates, and the report of a session as a page of its own.

Order of events of a request:

1. The gate refuses other host names and other users of the machine, then requests without a login, then forms
   of other sites and forms without the token of the login.
2. A route finds its view. The view asks the server, or takes an answer that is recent enough.
3. A template renders the view. Every text that an agent, a holder or a caller wrote passes ``stated``.
4. The gate adds the headers, to pages of errors too.

A change is first a preview. Its form carries the epoch that was shown, so a change by somebody else in the
meantime is not overlooked.

What must never happen: a page changes something without ``--allow-changes``, or on a GET; any page but the
login's answers without a login; a text of an agent becomes markup; a token is stored, logged or sent on.

Read next: ``gate.py``, then ``session_list.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..audit.read.query import DecisionContext, FolderReader, LoggedDecision, Query, find, load_context
from ..client import AsyncClient, RegisteredVerifier
from ..clock import SystemClock
from ..errors import NotFound, PermissionDenied, Rejected, TokenError
from ..model.receipt import VerifierState
from ..tokens.block_draft import BlockInfo
from ..tokens.token import Token
from .approvals import ApprovalPages
from .board import Board, LivePages
from .closure import ClosurePage
from .cut_off import CutOffPages
from .decision_log import DecisionLog
from .gate import PageGate, cookie_name, peer_uid
from .logins import Login, Logins
from .pages import FOLDER, Pages, base_of, moment
from .parts import ConsoleParts, ConsoleTerms, Handlers, id_of
from .recent import RecentAnswers
from .session_changes import SessionChanges
from .session_list import SessionsPage
from .sessions import one_session


async def _hosts(parts: ConsoleParts, _: Request) -> tuple[str, dict[str, Any]]:
    client = parts.client
    verifiers = await parts.answers.get("verifiers", client.list_verifiers)
    values: dict[str, Any] = {"status": None, "standing": None, "at_ms": verifiers.at_ms}
    try:
        values["status"] = (await parts.answers.get("status", client.server_status)).value
        values["standing"] = (await parts.answers.get("standing", client.cluster_standing)).value
    except (PermissionDenied, Rejected):
        # A single host has no standing in a cluster, and a role may read less than the registry.
        pass
    head = max([parts.board.revision, *(each.revision for each in verifiers.value)])
    if values["status"] is not None:
        head = max(head, values["status"].revision)
    now_ms = parts.clock.now_ms()
    return "hosts.html", {
        **values,
        "head": head,
        "verifiers": [
            (each, max(0, head - each.revision), _freshness(each, now_ms)) for each in verifiers.value
        ],
    }


async def _identity(parts: ConsoleParts, _: Request) -> tuple[str, dict[str, Any]]:
    status = await parts.identity_status()
    return "identity.html", {"status": status.value, "at_ms": status.at_ms}


def _freshness(verifier: RegisteredVerifier, now_ms: int) -> str:
    """Return ``left``, ``outlived``, ``late`` (more than half of its bound is over) or ``fresh``."""
    if verifier.state is VerifierState.LEFT:
        return "left"
    if verifier.state is VerifierState.OUTLIVED:
        return "outlived"
    bound = verifier.staleness_ms
    if bound and now_ms - verifier.renewed_at_ms > bound // 2:
        return "late"
    return "waiting" if verifier.state is VerifierState.WAITING else "fresh"


MAX_TOKEN_CHARS: Final = 20_000


class TokenInspector(Handlers):
    """The form, and the contents of the token that it sent."""

    async def show(self, request: Request) -> Response:
        """Answer with the empty form."""
        return self._parts.pages.answer(request, "token.html", info=None, blocks=[], fault="")

    async def inspect(self, request: Request) -> Response:
        """Answer with the content of the token, and with an empty form: the page does not hold the token."""
        text = request.state.form.get("token", "").strip()
        pages = self._parts.pages
        if len(text) > MAX_TOKEN_CHARS:
            return pages.answer(request, "token.html", info=None, blocks=[], fault="too long for a token")
        try:
            info = Token.parse(text).inspect()
        except TokenError as error:
            return pages.answer(request, "token.html", info=None, blocks=[], fault=str(error))
        blocks = [(block, list(_limits(block))) for block in info.blocks]
        return pages.answer(request, "token.html", info=info, blocks=blocks, fault="")


def _limits(block: BlockInfo) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a block's statements."""
    times = ("issued_at_ms", "not_before_ms", "expires_at_ms")
    for name in times:
        if at_ms := getattr(block, name):
            yield name.removesuffix("_ms").removesuffix("_at").replace("_", " "), f"{moment(at_ms)} UTC"
    for name in ("audience", "scopes", "where", "source", "peer"):
        for value in getattr(block, name):
            yield name.removesuffix("s") if name == "scopes" else name, value
    if block.max_blocks:
        yield "max blocks", block.max_blocks
    if block.proof_key:
        yield "bound to", block.next_key.hex()


MAX_ROWS: Final = 100
MAX_EVENTS: Final = 50
FIELDS: Final = ("session", "reason", "action", "resource", "verdict")
VERDICTS: Final = ("any", "allowed", "denied", "observe mode alone")
MAX_WANTED_CHARS: Final = 1_100
# A search of the whole log reads all of it.
WHOLE_MS: Final = 15_000
_WHOLE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class DecisionPages(Handlers):
    """The list, and one decision."""

    async def list(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of the list."""
        wanted = {name: request.query_params.get(name, "").strip()[:MAX_WANTED_CHARS] for name in FIELDS}
        if wanted["verdict"] not in VERDICTS:
            wanted["verdict"] = VERDICTS[0]
        log, whole = self._parts.log, request.query_params.get("whole") == "1"
        session = self._session(wanted["session"].lower())
        values: dict[str, Any] = {
            "wanted": wanted,
            "unclear": bool(wanted["session"]) and not session,
            "verdicts": VERDICTS,
            "whole": whole,
            "log": log,
            "rows": [],
            "held": 0,
            "events": list(self._parts.board.events)[: -MAX_EVENTS - 1 : -1],
            "at_ms": self._parts.clock.now_ms() if log else self._parts.answers.reach.answered_at_ms,
        }
        if log is None:
            return "decisions.html", values
        query = _query({**wanted, "session": session or wanted["session"]})
        if whole:
            found = await self._parts.answers.compute(
                ("log", *wanted.values()), lambda: asyncio.to_thread(_search, log, query), WHOLE_MS
            )
            return "decisions.html", {**values, "rows": found.value, "live": False, "at_ms": found.at_ms}
        return "decisions.html", {**values, "rows": log.find(query, MAX_ROWS), "held": len(log.entries)}

    def _session(self, digits: str) -> str:
        """Return the whole id of the session that ``digits`` begin; empty if there is none."""
        if _WHOLE_ID.fullmatch(digits):
            return digits
        found = self._parts.board.beginning(digits) if digits else []
        return found[0].hex() if len(found) == 1 else ""

    async def one(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and the values of one decision."""
        log, decision_id = self._parts.log, id_of(request, "decision", 16)
        if log is None:
            raise NotFound("no audit is read here, so single decisions are not known")
        reading = FolderReader(log.folder)
        found = await self._parts.answers.compute(
            ("decision", decision_id), lambda: asyncio.to_thread(load_context, reading, decision_id), WHOLE_MS
        )
        context: DecisionContext = found.value
        explained = context.explanation.removeprefix("ALLOWED").strip(" ;")
        explained = explained.removeprefix(f"{context.decision.reason.name}:").strip()
        return "decision.html", {
            "context": context,
            "decision": context.decision,
            "record": context.entry.record,
            "explained": explained if explained != context.meaning else "",
            "live": False,
            "at_ms": found.at_ms,
        }


def _query(wanted: dict[str, str]) -> Query:
    verdict = wanted["verdict"]
    return Query(
        session=wanted["session"],
        reason=wanted["reason"].upper(),
        action=wanted["action"],
        resource=wanted["resource"],
        allowed={"allowed": True, "denied": False}.get(verdict),
        observed=verdict == VERDICTS[3],
    )


def _search(log: DecisionLog, query: Query) -> list[LoggedDecision]:
    entries = (each for each in find(FolderReader(log.folder), query) if each.kind == "decision")
    latest = heapq.nlargest(MAX_ROWS, ((each.at_ms, number, each) for number, each in enumerate(entries)))
    return [LoggedDecision.of(each.record) for _, _, each in latest]


Connect = Callable[[], AsyncClient]


def application(
    connect: Connect,
    logins: Logins,
    hosts: Sequence[str],
    terms: ConsoleTerms,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> PageGate:
    """Return the application. It answers to ``hosts``, values of the header Host (HOST:PORT).

    ``connect`` makes the client, on the loop of the application. Streams end when ``stopping`` returns True.
    """
    clock = SystemClock()
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
    decisions, cut_off = DecisionPages(parts), CutOffPages(parts)
    if parts.terms.approvals_only:

        async def first(request: Request) -> Response:
            return RedirectResponse(f"{base_of(request)}/approvals", 303)

        return [Route("/", first), *_approval_routes(parts)]
    return [
        *_approval_routes(parts),
        Route("/decisions", live(decisions.list)),
        Route("/decisions/{decision}", live(decisions.one)),
        Route("/hosts", live(partial(_hosts, parts))),
        Route("/identity", live(partial(_identity, parts))),
        Route("/cut-off", cut_off.show),
        Route("/cut-off", cut_off.end, methods=["POST"]),
        Route("/cut-off/outcome/{form}", live(cut_off.outcome)),
        Route("/cut-off/user", cut_off.show_user),
        Route("/cut-off/user", cut_off.cut_user, methods=["POST"]),
        Route("/cut-off/ban", cut_off.show_ban),
        Route("/cut-off/ban", cut_off.lift, methods=["POST"]),
        Route("/freeze", cut_off.show_freeze),
        Route("/freeze", cut_off.freeze, methods=["POST"]),
        Route("/token", inspector.show),
        Route("/token", inspector.inspect, methods=["POST"]),
        Route("/", live(SessionsPage(parts).view)),
        Route("/sessions/{session}", live(partial(one_session, parts))),
        Route("/sessions/{session}/closure", live(closure.view)),
        Route("/sessions/{session}/receipt", closure.download),
        Route("/sessions/{session}/evidence/{kind}", closure.evidence, methods=["POST"]),
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
