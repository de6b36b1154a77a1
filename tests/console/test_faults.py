"""Pages while the server fails, leaves a question to another one, or denies everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from sessauth.client import AsyncClient, EventKind, SessionEvent
from sessauth.clock import FixedClock
from sessauth.console import board
from sessauth.console.board import Board
from sessauth.console.recent import RecentAnswers
from sessauth.console.serving import host_headers
from sessauth.console.sessions import actor_of
from sessauth.errors import (
    OutcomeUnknown,
    SessauthError,
    StateFull,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from sessauth.model.session import EndCause, SessionStatus
from tests.console.conftest import Browser, World, console
from tests.console.test_other_pages import ANN, WaitingCall, _shown_digest
from tests.console.test_session_pages import _has, _page, _shown
from tests.support.service import wait_until

LEADER = Unavailable("b leads the cluster; ask it at 10.0.0.2:8443", "NOT_LEADER")


def _failing(world: World, error: SessauthError, *names: str) -> Callable[[], AsyncClient]:
    """Return what makes clients whose calls with these names fail."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    changed = type("Failing", (AsyncClient,), dict.fromkeys(names, fail))
    return partial(changed, f"unix:{world.service.made.socket}", timeout_ms=10_000)


@contextmanager
def _failing_console(world: World, error: SessauthError, *names: str, **terms: object) -> Iterator[Browser]:
    with console(world, connect=_failing(world, error, *names), **terms) as browser:
        yield browser


def test_a_server_that_does_not_lead_is_no_lost_one(world: World) -> None:
    """Its pages show what it knows and name the server that knows the rest; they claim no zeros."""
    session = world.open("agent:followed", lease_ms=3_600_000)
    world.open("agent:below", parent_id=session.id)
    names = ("get_report", "get_reports", "get_census", "get_receipt")
    with _failing_console(world, LEADER, *names, audit=None) as browser:
        assert _has(browser, "/", "agent:followed")
        assert _has(browser, _page(session), "agent:below")
        page = _shown(browser.get(_page(session)))
        assert "Its use is known elsewhere: b leads the cluster" in page
        assert "read:mcp/github/** free *" in page and "0 allowed" not in page and "No verifier" not in page
        page = _shown(browser.get(_page(session, "change", "end")))
        assert "Not known here: how the session was used" in page and "1 living child session" in page
        assert "has not ended" not in browser.get(_page(session, "closure"))
        world.client.end(session.id)
        assert _has(browser, _page(session, "closure"), "No receipt can be made here: b leads the cluster")
        assert _has(browser, _page(session, "closure"), "The session ended at")
        assert "can't be reached" not in browser.get("/")


def test_a_refusal_to_list_sessions_is_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The page says why it has none, and the terminal once; it is no list of no sessions."""
    error = Unauthenticated("the credential is missing or not accepted")
    with _failing_console(world, error, "list_sessions") as browser:
        assert _has(browser, "/", "Sessions can't be read: the credential is missing or not accepted")
    assert caplog.text.count("sessions can't be read") == 1


def test_what_became_of_a_change_is_said(world: World) -> None:
    """It may be made, where an answer was lost; it is not, where nothing was sent or the server refused."""
    session = world.open("agent:unheard")
    asked = WaitingCall(world)
    asked.check()
    for error, unknown in (
        (Unavailable("no answer"), True),
        (OutcomeUnknown("the disk is slow"), True),
        (Unreachable("nobody there, so nothing was done"), False),
        (StateFull("no space"), False),
    ):
        names = ("suspend", "deny_approval", "grant_approval")
        with _failing_console(world, error, *names, allow_changes=True, approver=ANN) as browser:
            shown = _shown_digest(browser.get(asked.path))
            for path, fields in (
                (_page(session, "change", "suspend"), {"epoch": "1"}),
                (f"{asked.path}/deny", {}),
                (f"{asked.path}/grant", {"shown": shown, "code": ""}),
            ):
                if "code" in fields:
                    browser.post(path, **fields)
                    fields["code"] = browser.codes[-1]
                code, page = browser.post(path, **fields)
                assert code in (409, 503)
                assert ("Whether it was done is not known" in _shown(page)) is unknown, (path, error)
                assert "Nothing to show" not in page


def test_an_approval_that_can_not_be_read_is_not_signed(world: World) -> None:
    """The page does not say that a signature may have been handed in."""
    asked = WaitingCall(world)
    asked.check()
    with _failing_console(world, Unavailable("no answer"), "get_approval", approver=ANN) as browser:
        code, page = browser.post(f"{asked.path}/grant", shown="0" * 64)
    assert code == 503 and "not known" not in _shown(page)


def test_an_end_needs_nothing_that_its_page_shows(world: World) -> None:
    """A server that answers no report ends a session all the same; an empty form changes nothing."""
    session = world.open("agent:urgent")
    names = ("get_report", "get_reports", "get_census")
    with _failing_console(world, Unavailable("overloaded"), *names, allow_changes=True) as browser:
        code, page = browser.post(_page(session, "change", "end"))
        assert code == 400 and "Nothing was done" in page
        browser.post(_page(session, "change", "end"), epoch="1")
    assert world.client.get_session(session.id).status is SessionStatus.ENDED


def test_what_is_made_here_hides_no_lost_server() -> None:
    """Suggestions and searches of the audit are no answer of the server; a clock set back keeps no answer."""
    clock = FixedClock(1_000_000)
    answers = RecentAnswers(lambda: None, clock)  # type: ignore[arg-type, return-value]

    async def value() -> str:
        return "here"

    async def lost() -> str:
        raise Unavailable("gone")

    async def run() -> None:
        assert (await answers.get("a", value)).value == "here"
        clock.advance(10_000)
        assert (await answers.get("a", lost)).at_ms == 1_000_000
        lost_at_ms = answers.reach.lost_at_ms
        clock.advance(2_000)
        await answers.compute("b", value, 4_000)
        assert answers.reach.lost_at_ms == lost_at_ms > 0 and answers.reach.answered_at_ms == 1_000_000
        # Others do not wait for it once more, also for what it never answered.
        await answers.get("a", lost)
        with pytest.raises(Unavailable, match="gone"):
            await answers.get("new", value)
        clock.advance(2_000)
        await answers.get("a", value)
        assert answers.reach.lost_at_ms == 0
        clock.step(-3_600_000)
        assert (await answers.get("a", value)).at_ms < 1_000_000

    asyncio.run(run())


def test_a_page_that_is_open_says_that_its_session_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is opened anew tells it, so that the page does not go on showing what was."""
    monkeypatch.setattr(board, "TICK_S", board.LIVE_PAUSE_S)
    sent: list[str] = []
    event = board._event
    monkeypatch.setattr(board, "_event", lambda name, html: (sent.append(html), event(name, html))[1])
    path = "/sessions/" + "0" * 32
    with console(world) as browser, ThreadPoolExecutor(1) as pool:
        page = pool.submit(browser.http.get, path, headers={"accept": board.EVENT_STREAM})
        assert wait_until(lambda: bool(sent))
        browser.post("/logout")
        assert page.result(30).status_code == 200
    assert "Nothing to show" in sent[0]


def test_a_freeze_is_on_every_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that are active and can do nothing are not shown without the cause; a thaw takes it away."""
    words = "Every check is denied: frozen by operator: <b>why</b>"
    monkeypatch.setattr(board, "BRAKE_S", 0.05)
    with console(world) as browser:
        world.client.freeze("<b>why</b>")
        try:
            for path in ("/", "/approvals", _page(world.session)):
                assert _has(browser, path, words)
        finally:
            world.client.thaw()
        assert wait_until(lambda: words not in _shown(browser.get("/")))


def test_nobody_ends_a_session_that_ends_by_itself(world: World) -> None:
    """An end is not of who suspended it before, nor a change of an earlier one's principal."""

    def event(kind: EventKind, revision: int, at_ms: int, actor: str) -> SessionEvent:
        return SessionEvent(kind, revision, at_ms, session_id=world.session.id, actor=actor)

    events = [event(EventKind.LAPSED, 7, 70, "sessauth"), event(EventKind.SUSPENDED, 6, 60, "ann")]
    suspended = replace(world.session, revision=6)
    over = replace(
        suspended, status=SessionStatus.ENDED, ended_at_ms=70, end_cause=EndCause.LEASE_LAPSED, revision=7
    )
    assert actor_of(over, events) == ""
    assert actor_of(suspended, events[1:]) == "ann"
    assert actor_of(replace(suspended, revision=8), events) == ""
    assert actor_of(over, [event(EventKind.ENDED, 7, 70, "bob"), *events]) == "bob"


def test_the_end_of_a_parent_is_on_its_childs_page(world: World, reader: Browser) -> None:
    """The page names who ended or suspended it, although events name the parent alone."""
    parent = world.open("agent:parent")
    child = world.open("agent:its-child", parent_id=parent.id)
    world.client.suspend(parent.id)
    assert _has(reader, _page(child), "changed by operator")
    assert _has(reader, _page(child), f"suspended, with session {parent.id.hex()[:8]} above operator")
    world.client.end(parent.id, "for both")
    assert _has(reader, _page(child), "ended by operator")
    assert _has(reader, _page(child), f"ended, with session {parent.id.hex()[:8]} above operator for both")
    assert _has(reader, _page(child, "closure"), ", parent ended, by operator")


def test_a_session_that_was_purged_while_all_were_read_goes(world: World) -> None:
    """The list that was under way has it still; it is read once more."""
    known = Board(RecentAnswers(lambda: None, FixedClock(1)))  # type: ignore[arg-type, return-value]
    known._take(SessionEvent(EventKind.PURGED, 2, 2, session_id=world.session.id))
    assert known._dirty == {world.session.id}


def test_hosts_of_the_schemes_port_have_none() -> None:
    """Browsers leave the port 80 out."""
    assert host_headers(80) == ["127.0.0.1", "localhost"]
    assert host_headers(8090) == ["127.0.0.1:8090", "localhost:8090"]
