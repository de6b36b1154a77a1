"""The sessions as the console shows them, kept current by the server's events.

A server lists sessions by id; people want the living first, and the newest first. So the board reads all
sessions once. Then it reads those that events name, and their descendants where these inherit the change.

Two changes come without an event of the board's own: leases move, and a session may inherit from that of
another issuer, whose events are not sent here. So the rows on a page are read again whenever it is shown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import compress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..client import EventKind, SessionEvent
from ..errors import (
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Rejected,
    ServerError,
    SessauthError,
    StateError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from ..limits import MAX_ANCESTORS
from ..model.session import Session, SessionStatus, search_text
from .pages import Pages
from .recent import RecentAnswers, leads_elsewhere

# Sessions of one status that are read; of more the board says so.
READ_AT_MOST: Final = 100_000
PAGE: Final = 1000
EVENTS: Final = 2_000
# Sessions that are read one by one; if events name more, all are read again.
SINGLY: Final = 200
PAUSE_S: Final = 0.25
RETRY_S: Final = 1.0
BRAKE_S: Final = 2.0
# Kinds of events that move the status of all descendants too.
_INHERITED: Final = (EventKind.ENDED, EventKind.LAPSED, EventKind.SUSPENDED, EventKind.RESUMED)
_ORDER: Final = (SessionStatus.ACTIVE, SessionStatus.SUSPENDED, SessionStatus.ENDED)
_DIGITS: Final = re.compile(r"[0-9a-f]{1,32}", re.ASCII)
_ID_CHARS: Final = 32
_LOG: Final = logging.getLogger("sessauth.console")


class Board:
    """All sessions by id, in memory; and the latest events.

    They are held without ceilings, facts and keys, which are most of a session and are read where they are
    shown. Order, counts and texts of a search are kept at each change, so that no page sorts or counts.
    """

    def __init__(self, answers: RecentAnswers) -> None:
        """Know nothing yet."""
        self._answers = answers
        self._sessions: dict[bytes, Session] = {}
        self._sorted: list[Session] = []
        self._children: dict[bytes, set[bytes]] = {}
        # In the order of ``_sorted``, so that a search reads it in one go: the id in hex, then the texts that
        # a search finds, each a line, casefolded.
        self._texts: list[str] = []
        self._dirty: set[bytes] = set()
        # Those of the dirty ones whose descendants are to be read after them.
        self._moved: set[bytes] = set()
        self._stale = False
        self._news = asyncio.Event()
        self.events: deque[SessionEvent] = deque(maxlen=EVENTS)
        # False until all were read once; ``more``: there are more than are read.
        self.complete = False
        self.more = False
        self.living = 0
        self.revision = 0
        # Calls that a reachable server refuses, and the reasons.
        self._faults: dict[str, str] = {}

    async def run(self) -> None:
        """Stay current until cancelled."""
        await asyncio.gather(self._watch(), self._read(), self._ask_brake())

    async def wait(self, seconds: float) -> None:
        """Return when something changed, at the latest after ``seconds``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    @property
    def known(self) -> int:
        """The number of sessions that are held."""
        return len(self._sessions)

    def find(self, wanted: str, status: str) -> Sequence[Session]:
        """Return the sessions that fit, the living first, the newest first.

        Each word of ``wanted`` begins the id, or is in a text; a label is ``name=value``. ``status`` is
        ``all``, ``living`` or the name of a status in lower case.
        """
        of_status = slice(None)
        if status == "ended":
            of_status = slice(self.living, None)
        elif status != "all":
            of_status = slice(self.living)
        found, texts = self._sorted[of_status], self._texts[of_status]
        for word in wanted.casefold().split():
            if _DIGITS.fullmatch(word):
                fits = [text.startswith(word) or word in text[_ID_CHARS:] for text in texts]
            else:
                fits = [word in text for text in texts]
            found, texts = list(compress(found, fits)), list(compress(texts, fits))
        if status not in ("all", "living", "ended"):
            found = [each for each in found if each.status.name == status.upper()]
        return found

    def beginning(self, digits: str) -> list[bytes]:
        """Return the ids of the sessions whose ids in hex begin so."""
        return [
            each.id for each, text in zip(self._sorted, self._texts, strict=True) if text.startswith(digits)
        ]

    def ancestors(self, session: Session) -> list[Session]:
        """Return the sessions above one that are known, its parent first."""
        found: list[Session] = []
        while len(found) < MAX_ANCESTORS and (above := self._sessions.get(session.parent_id)):
            found.append(above)
            session = above
        return found

    def put(self, session: Session) -> None:
        """Take over a session that was read elsewhere."""
        session = replace(session, ceilings=(), facts=(), issuer_key_ids=())
        if self._sessions.get(session.id) == session:
            return
        self._forget(session.id)
        self._sessions[session.id] = session
        place = bisect_left(self._sorted, _place(session), key=_place)
        self._sorted.insert(place, session)
        self._texts.insert(place, search_text(session))
        if session.parent_id:
            self._children.setdefault(session.parent_id, set()).add(session.id)
        self.living += session.status is not SessionStatus.ENDED

    def _forget(self, session_id: bytes) -> None:
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        place = bisect_left(self._sorted, _place(session), key=_place)
        del self._sorted[place], self._texts[place]
        if siblings := self._children.get(session.parent_id):
            siblings.discard(session_id)
            if not siblings:
                del self._children[session.parent_id]
        self.living -= session.status is not SessionStatus.ENDED

    def events_of(self, session_id: bytes) -> list[SessionEvent]:
        """Return the latest events of a session, the newest first; those that it inherits too."""
        session = self._sessions.get(session_id)
        above = {each.id for each in self.ancestors(session)} if session else ()
        return [
            event
            for event in reversed(self.events)
            if event.session_id == session_id or (event.kind in _INHERITED and event.session_id in above)
        ]

    def descendants(self, session_id: bytes) -> list[Session]:
        """Return the sessions below one, parents before their children."""
        found: list[Session] = []
        open_ids = deque([session_id])
        while open_ids:
            children = self._children.get(open_ids.popleft(), ())
            for child in sorted((self._sessions[each] for each in children), key=_place):
                found.append(child)
                open_ids.append(child.id)
        return found

    async def _watch(self) -> None:
        """Take over events; a gap in them has all read again."""
        while True:
            try:
                async with self._answers.client.watch_sessions(heartbeats=True) as watch:
                    established = False
                    async for event in watch:
                        # All are read after the events began, so that none is missed in between.
                        self._stale |= not established
                        established = True
                        self._faults.pop("events", None)
                        self._answers.reach.lost_at_ms = 0
                        self._answers.reach.answered_at_ms = self._answers.clock.now_ms()
                        self._take(event)
            except SessauthError as error:
                self._refused("events", error)
                self._stale = True
                await asyncio.sleep(RETRY_S)

    @property
    def fault(self) -> str:
        """The refusal of a server that is there, empty if it answers or is lost."""
        return next(iter(self._faults.values()), "")

    def _refused(self, part: str, error: SessauthError) -> None:
        """Note a refusal, for the page and once for the terminal; a server that is lost refuses nothing."""
        if isinstance(error, Unavailable) or str(error) == self._faults.get(part):
            return
        self._faults[part] = str(error)
        _LOG.warning("%s can't be read: %s", part, type(error).__name__)
        self.changed()

    def _take(self, event: SessionEvent) -> None:
        self.revision = max(self.revision, event.revision)
        if event.kind is EventKind.SYNCED:
            return
        self.events.append(event)
        if event.kind is EventKind.RESTORED:
            self._stale = True
        elif event.kind is EventKind.PURGED:
            self._forget(event.session_id)
            # A reading of all that is under way may have it still.
            self._dirty.add(event.session_id)
        else:
            self._dirty.add(event.session_id)
            if event.kind in _INHERITED:
                self._moved.add(event.session_id)
        self.changed()

    def changed(self) -> None:
        """Wake those who wait."""
        before, self._news = self._news, asyncio.Event()
        before.set()

    async def _read(self) -> None:
        while True:
            try:
                if self._stale or len(self._dirty) > SINGLY:
                    self._stale = False
                    self._dirty.clear()
                    self._moved.clear()
                    await self._read_all()
                    self._faults.pop("sessions", None)
                elif self._dirty:
                    dirty, self._dirty = self._dirty, set()
                    moved, self._moved = self._moved, set()
                    await self._read_some(dirty)
                    # Only now: a session that was opened below one shortly before is known by now.
                    self._dirty.update(each.id for above in moved for each in self.descendants(above))
                    self.changed()
                else:
                    await self.wait(PAUSE_S)
                    await asyncio.sleep(PAUSE_S / 5)
            except SessauthError as error:
                self._stale = True
                self._refused("sessions", error)
                await asyncio.sleep(RETRY_S)

    async def _ask_brake(self) -> None:
        """Note whether the server denies every check; some roles may not ask."""
        while True:
            try:
                status = await self._answers.ask(self._answers.client.server_status())
                self._answers.reach.brake = status.brake or status.cluster_brake
            except PermissionDenied:
                return
            except SessauthError:
                # The top of each page says if the server is lost.
                pass
            await asyncio.sleep(BRAKE_S)

    async def _read_some(self, ids: Iterable[bytes]) -> None:
        for session_id in ids:
            try:
                self.put(await self._answers.ask(self._answers.client.get_session(session_id)))
            except NotFound:
                self._forget(session_id)

    async def _read_all(self) -> None:
        """Read all sessions, the living first, so that these are shown before the rest is known."""
        found: set[bytes] = set()
        more = False
        for status in _ORDER:
            count, token = 0, ""
            while True:
                page = await self._answers.ask(
                    self._answers.client.list_sessions(page_size=PAGE, page_token=token, status=status.name)
                )
                for session in page.sessions:
                    self.put(session)
                found.update(each.id for each in page.sessions)
                count, token = count + len(page.sessions), page.next_page_token
                if not token or count >= READ_AT_MOST:
                    more |= bool(token)
                    break
            self.changed()
        for session_id in self._sessions.keys() - found:
            self._forget(session_id)
        self.complete, self.more = True, more
        self.changed()


def _place(session: Session) -> tuple[bool, int, bytes]:
    ended = session.status is SessionStatus.ENDED
    return ended, -(session.ended_at_ms if ended else session.opened_at_ms), session.id


EVENT_STREAM: Final = "text/event-stream"
# Interval at which values that change without an event (ages, leases, counts of calls) are read.
TICK_S: Final = 1.0
# Shortest time between two renderings, however many events there are.
LIVE_PAUSE_S: Final = 0.2
_REACH: Final = "reach.html"
# Titles and status codes of pages of errors: the first that fits.
_FAILURES: Final[tuple[tuple[tuple[type[SessauthError], ...], str, int], ...]] = (
    ((NotFound,), "Nothing to show", 404),
    ((PermissionDenied,), "Not permitted", 403),
    ((Unauthenticated,), "The server does not accept the console's credential", 502),
    ((Unavailable,), "The server can't be reached", 503),
    ((Rejected,), "The server refused", 409),
    ((ServerError,), "The server failed", 502),
    ((StateError,), "Nothing to show", 503),
)
_OTHERS: Final = ("Nothing to show", 400)

View = Callable[[Request], Awaitable[tuple[str, dict[str, Any]]]]


class LivePages:
    """Makes handlers of views: functions that return a template and its values."""

    def __init__(self, pages: Pages, board: Board, stopping: Callable[[], bool]) -> None:
        """Streams end when ``stopping()`` or their login is over."""
        self._pages = pages
        self._board = board
        self._stopping = stopping

    def handler(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of a view."""

        async def handle(request: Request) -> Response:
            if request.headers.get("accept", "").startswith(EVENT_STREAM):
                # A page that is open is told of a failure as of anything else that it shows.
                return StreamingResponse(self._stream(request, view), media_type=EVENT_STREAM)
            try:
                template, values = await view(request)
            except SessauthError as error:
                return self.failure(request, error)
            return self._pages.answer(request, template, **{"live": True, **values})

        return handle

    def failure(self, request: Request, error: SessauthError) -> Response:
        """Return the page of an error."""
        title, code = _title_and_code(error)
        if title == _OTHERS[0] and request.method == "POST":
            title = "Nothing was done"
        return self._pages.answer(request, "message.html", code=code, title=title, message=str(error))

    def not_made(self, request: Request, error: SessauthError, again: str) -> Response:
        """Return the page of a change that failed.

        ``again`` tells the person how to go on if it is unknown whether the change was made.
        """
        unknown = isinstance(error, Unavailable | OutcomeUnknown) and not isinstance(error, Unreachable)
        if not unknown:
            return self.failure(request, error)
        message = f"Whether it was done is not known: {error}. {again}"
        return self._pages.answer(request, "message.html", code=503, title="No answer came", message=message)

    async def _stream(self, request: Request, view: View) -> AsyncIterator[bytes]:
        shown: dict[str, str] = {}
        while not self._stopping():
            login = request.state.login
            if self._pages.is_over(login):
                yield _event("over", "")
                return
            try:
                template, values = await view(request)
                context = self._pages.context(request, **{"live": True, **values})
                parts = {"current": self._pages.part(template, "current", context)}
            except SessauthError as error:
                title, _ = _title_and_code(error)
                context = self._pages.context(request, title=title, message=str(error))
                parts = {"current": self._pages.part("message.html", "current", context)}
            parts["reach"] = self._pages.part(_REACH, "reach", context)
            for part, html in parts.items():
                if shown.get(part) != html:
                    shown[part] = html
                    yield _event(part, html)
            await asyncio.sleep(LIVE_PAUSE_S)
            await self._board.wait(TICK_S - LIVE_PAUSE_S)
        yield _event("stopped", "")


def _title_and_code(error: SessauthError) -> tuple[str, int]:
    if leads_elsewhere(error):
        return "Another server knows this", 503
    fitting = ((title, code) for kinds, title, code in _FAILURES if isinstance(error, kinds))
    return next(fitting, _OTHERS)


def _event(name: str, html: str) -> bytes:
    return f"event: {name}\ndata: {json.dumps(html)}\n\n".encode()
