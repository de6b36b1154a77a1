"""Identity providers in the console: their logins and streams, and the end of a user's logins."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator

import pytest

from sessauth.client import Client
from sessauth.clock import FixedClock
from sessauth.errors import IdentityRefused, Unavailable
from sessauth.model.session import Session
from tests.console.conftest import SCRIPT, Browser, World, console
from tests.console.test_session_pages import _shown
from tests.server.test_login_sessions import Provider, opened
from tests.support.service import running, wait_until

SILENCE_MS = 600_000
USER = f"u 1 & {SCRIPT}"


@pytest.fixture(scope="module")
def corp(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    """Give a provider, and the clock that it has in common with the server."""
    clock = FixedClock((time.time_ns() // 1_000_000_000 + 2) * 1000)
    return Provider(tmp_path_factory.mktemp("corp") / "corp.json", clock)


@pytest.fixture(scope="module")
def own(corp: Provider, tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[World]:
    """Give a server with a provider that owes events, and with one that owes none."""
    quiet = Provider(tmp_path_factory.mktemp("quiet") / "quiet.json", corp.clock).settings
    providers = [
        {**corp.settings, "silence_ms": SILENCE_MS, "on_silence": "suspend"},
        {**quiet, "name": "quiet", "issuer": "https://quiet.example", "subject": "quiet:{sub}"},
    ]
    with (
        running(corp.clock, identity_providers=providers) as service,
        Client(f"unix:{service.made.socket}", timeout_ms=10_000) as client,
    ):
        session = client.open_session(subject="agent:other", ceiling=["read:**"])
        yield World(service, client, session, session, world.token)


@pytest.fixture(scope="module")
def desk(own: World) -> Iterator[Client]:
    """Give an issuer's client, which opens sessions by tokens of the provider."""
    credential = own.service.add("desk", "issuer").credential
    with Client(f"unix:{own.service.made.socket}", credential, timeout_ms=10_000) as made:
        yield made


@pytest.fixture(scope="module")
def browser(own: World) -> Iterator[Browser]:
    """Give a console that may change sessions."""
    with console(own, allow_changes=True, audit=None) as made:
        yield made


def _preview(browser: Browser, user: str) -> str:
    answer = browser.http.get("/cut-off/user", params={"provider": "corp", "user": user})
    assert answer.status_code == 200, answer.text
    return answer.text


def _form(page: str) -> dict[str, str]:
    names = ("provider", "user", "request_id")
    found = {name: re.search(f'name="{name}" value="([^"]*)"', page) for name in names}
    return {name: html.unescape(each[1]) for name, each in found.items() if each}


def _living(world: World, *sessions: Session) -> list[bool]:
    return [world.client.get_session(each.id).status.name == "ACTIVE" for each in sessions]


def _row(browser: Browser, name: str) -> str:
    rows = re.findall(r'<tr id="p-.*?</tr>', browser.get("/identity"), re.S)
    return next(row for row in rows if _shown(row).startswith(name + " "))


def test_providers_are_shown_with_their_logins_and_streams(
    own: World, desk: Client, browser: Browser, corp: Provider
) -> None:
    """The number of logins leads to their sessions, and to those alone."""
    quiet = _shown(_row(browser, "quiet"))
    assert "0 nobody waits for them (silence_ms is not set) not needed yet https://quiet.example" in quiet
    agent = opened(desk, corp.token(sub="counted", sid="counted"))
    assert wait_until(lambda: re.search(r'class="num"><a href="[^"]*"', _row(browser, "corp")))
    row = _row(browser, "corp")
    assert "none since the server began to write" in _shown(row) and "silent" not in _shown(row)
    link = re.search(r'<a href="[^"]*(/\?q=[^"]*)"', row)
    assert link
    logins = browser.get(html.unescape(link[1]))
    assert f"/sessions/{agent.parent_id.hex()}" in logins
    assert f"/sessions/{agent.id.hex()}" not in logins and f"/sessions/{own.session.id.hex()}" not in logins


def test_a_users_logins_are_previewed_ended_and_refused(
    own: World, desk: Client, browser: Browser, corp: Provider
) -> None:
    """A form that is sent again ends no later login; another user's login stays."""
    token = corp.token(sub=USER, sid="one")
    agent = opened(desk, token)
    again = opened(desk, corp.token(sub=USER, sid="two"))
    other = opened(desk, corp.token(sub="another", sid="three"))
    login = own.client.get_session(agent.parent_id)
    button = re.search(
        r'id="do-user" href="[^"]*(/cut-off/user\?[^"]*)"', browser.get(f"/sessions/{login.id.hex()}")
    )
    assert button
    page = browser.get(html.unescape(button[1]))
    assert "2 living logins 2 more below them" in _shown(page)
    assert SCRIPT not in page
    form = _form(page)
    assert (form["provider"], form["user"]) == ("corp", USER)
    assert _living(own, agent, again, other) == [True] * 3

    form["reason"] = "stolen laptop"
    code, page = browser.post("/cut-off/user", **form)
    assert code == 200 and "ENDED 2 logins and all sessions below" in _shown(page)
    assert _living(own, agent, login, again, other) == [False, False, False, True]
    with pytest.raises(IdentityRefused) as refused:
        opened(desk, token)
    assert refused.value.fault == "IDENTITY_CUT"

    corp.clock.advance(120_000)
    later = opened(desk, corp.token(sub=USER, sid="four"))
    code, page = browser.post("/cut-off/user", **form)
    assert code == 200 and "ENDED 2 logins" in _shown(page)
    assert _living(own, later) == [True]


def test_a_session_that_no_login_opened_has_no_button(own: World, browser: Browser) -> None:
    """A caller can't give a session the labels of a login: its owner is another."""
    labels = {"provider": "corp", "sub": "u1"}
    session = own.client.open_session(subject="agent:labelled", ceiling=["read:**"], labels=labels)
    assert wait_until(lambda: "agent:labelled" in browser.get(f"/sessions/{session.id.hex()}"))
    assert "do-user" not in browser.get(f"/sessions/{session.id.hex()}")
    assert "0 living logins" in _shown(_preview(browser, "u1"))


def test_a_silent_stream_says_so(own: World, desk: Client, browser: Browser, corp: Provider) -> None:
    """Its provider's tokens open nothing, as the page says."""
    corp.clock.advance(SILENCE_MS + 1)
    assert wait_until(lambda: "silent" in _shown(_row(browser, "corp")))
    words = "no token of it opens a session ; events may have been lost"
    assert words in _shown(_row(browser, "corp"))
    with pytest.raises(Unavailable, match="silent"):
        opened(desk, corp.token(sub="late", sid="late"))


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"user": ""}, 400, "state both"),
        ({"provider": ""}, 400, "state both"),
        ({"provider": "nowhere"}, 404, "no such identity provider"),
        ({"user": "u" * 2_000}, 400, "subject"),
        ({"request_id": ""}, 400, "has no id"),
    ],
)
def test_a_wrong_form_ends_nothing(
    own: World, browser: Browser, fields: dict[str, str], code: int, words: str
) -> None:
    """It is named what is wrong."""
    before = own.client.get_identity_status().cuts
    form = {"provider": "corp", "user": "u1", "request_id": "d" * 32, **fields}
    answer, page = browser.post("/cut-off/user", **form)
    assert answer == code and words in _shown(page)
    assert own.client.get_identity_status().cuts == before


@pytest.mark.parametrize(
    ("query", "code"),
    [("", 400), ("?provider=corp", 400), ("?user=u1", 400), ("?provider=nowhere&user=u1", 404)],
)
def test_a_preview_names_a_provider_and_a_user(browser: Browser, query: str, code: int) -> None:
    """Another one is no page."""
    assert browser.http.get(f"/cut-off/user{query}").status_code == code


def test_a_console_that_only_shows_ends_no_logins(own: World) -> None:
    """It previews, and names the command."""
    with console(own, audit=None) as reader:
        page = _preview(reader, "u1")
        assert "sessauth identity cut" in _shown(page) and "End the logins</button>" not in page
        assert reader.post("/cut-off/user", provider="corp", user="u1", request_id="c" * 32)[0] == 403


def test_a_server_without_providers_names_the_setting(reader: Browser) -> None:
    """The page has no form, for there is nobody to end."""
    page = reader.get("/identity")
    assert "no identity provider: [[identity_providers]]" in _shown(page)
    assert 'id="preview"' not in page
