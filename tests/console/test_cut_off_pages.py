"""Many sessions are ended, new ones refused, and everything is frozen, from the console."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest

from sessauth.client import Client
from sessauth.errors import Rejected
from tests.console.conftest import Browser, World, console
from tests.console.test_session_pages import _shown
from tests.support.service import running, wait_until


@pytest.fixture(scope="module")
def own(world: World) -> Iterator[World]:
    """Give a server of this module's own: a freeze stops every session."""
    with (
        running(usage={"enabled": True}) as service,
        Client(f"unix:{service.made.socket}", timeout_ms=10_000) as client,
    ):
        session = client.open_session(subject="agent:first", ceiling=["read:**"])
        yield World(service, client, session, session, world.token)


@pytest.fixture(scope="module")
def browser(own: World) -> Iterator[Browser]:
    """Give a console that may change sessions."""
    with console(own, allow_changes=True, audit=None) as made:
        yield made


def _fields(page: str, *names: str) -> dict[str, str]:
    """Return hidden fields of the form that changes something."""
    form = page[page.rindex('class="stack confirm"') :]
    found = {name: re.search(f'name="{name}" value="([^"]*)"', form) for name in names}
    return {name: html.unescape(each[1]) if each else "" for name, each in found.items()}


def _living(world: World, *ids: bytes) -> list[bool]:
    return [world.client.get_session(each).status.name == "ACTIVE" for each in ids]


def test_a_closure_leads_to_refusing_the_subject(own: World, browser: Browser) -> None:
    """The page behind its link has the subject and a length; another selection keeps the length."""
    session = own.client.open_session(subject="agent:again & again", ceiling=["read:**"])
    own.client.end(session.id)
    closure = browser.get(f"/sessions/{session.id.hex()}/closure")
    link = re.search(r'id="keep-off" href="[^"]*(/cut-off[^"]*)"', closure)
    assert link
    page = browser.get(html.unescape(link[1]))

    assert _fields(page, "subject") == {"subject": "agent:again & again"}
    assert "<option selected>8 hours</option>" in page
    assert page.index('<input type="hidden" name="refuse_new" value="8 hours">') < page.index('id="preview"')
    assert "selected" not in browser.get("/cut-off?subject=agent:again&refuse_new=for+ever")


def test_many_are_previewed_ended_and_kept_off(own: World, browser: Browser) -> None:
    """The preview counts what is in use; a form that is sent again ends nothing that was opened since."""
    labels = {"team": "cut", "of": "a = b"}
    first, second = (
        own.client.open_session(subject="agent:cut", ceiling=["read:**"], labels=labels) for _ in range(2)
    )
    kept = own.client.open_session(subject="agent:kept", ceiling=["read:**"], labels={"team": "cut"})
    child = own.client.open_session(subject="agent:below", ceiling=["read:**"], parent_id=first.id)
    token = own.client.mint(first.id, ["read:**"], ["gateway"])
    assert own.client.check(token, "read", "x", audience="gateway")
    place = "/cut-off?subject=agent:cut&label=team%3Dcut&label=of%3Da+%3D+b"
    words = "2 sessions 1 more below them 1 token in use"
    assert wait_until(lambda: words in _shown(browser.get(place))), _shown(browser.get(place))
    form = _fields(browser.get(place), "subject", "owner", "labels", "all", "request_id")
    assert _living(own, first.id, second.id, kept.id, child.id) == [True] * 4

    form |= {"refuse_new": "10 minutes", "reason": "leak"}
    code, page = browser.post("/cut-off", **form)
    outcome = f"/cut-off/outcome/{form['request_id']}"
    assert code == 200 and wait_until(lambda: "ENDED 2 sessions" in _shown(browser.get(outcome)))
    assert f"/sessions/{first.id.hex()}/closure" in browser.get(outcome)
    assert "are refused until" in _shown(browser.get(outcome))
    assert _living(own, first.id, second.id, kept.id) == [False, False, True]
    with pytest.raises(Rejected, match="BANNED"):
        own.client.open_session(subject="agent:cut", ceiling=["read:**"], labels=labels)

    page = browser.get("/cut-off")
    assert "leak" in page
    (lift,) = re.findall(r'href="[^"]*(/cut-off/ban\?[^"]*)"', page)
    lifting = _fields(browser.get(html.unescape(lift)), "subject", "owner", "labels", "all", "request_id")
    assert browser.post("/cut-off/ban", **lifting)[0] == 200
    assert own.client.list_bans() == []
    again = own.client.open_session(subject="agent:cut", ceiling=["read:**"], labels=labels)
    assert "ENDED 2 sessions" in _shown(browser.post("/cut-off", **form)[1])
    assert _living(own, again.id) == [True] and own.client.list_bans() == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give subject, owner or labels"),
        ({"subject": "agent:first", "all": "1"}, "give subject, owner or labels"),
        ({"labels": "no sign"}, "name=value"),
        ({"all": "1"}, "type the word all"),
        ({"subject": "agent:first", "refuse_new": "for ever"}, "there is no such time"),
        ({"subject": "agent:first", "request_id": ""}, "has no id"),
    ],
)
def test_a_wrong_form_ends_nothing(own: World, browser: Browser, fields: dict[str, str], words: str) -> None:
    """It is named what is missing."""
    code, page = browser.post("/cut-off", **{"request_id": "a" * 32, **fields})
    assert code == 400 and words in _shown(page)
    assert _living(own, own.session.id) == [True]


def test_everything_is_frozen_and_thawed_once(own: World, browser: Browser) -> None:
    """A form that is sent again after the thaw freezes nothing; one that is late says so."""
    page = browser.get("/freeze")
    assert "Every check is denied and no new authority" in _shown(page)
    form = {**_fields(page, "step", "request_id"), "reason": "look"}
    late = {**form, "request_id": "b" * 32}
    assert "FROZEN" not in page and browser.post("/freeze", **form)[0] == 200
    assert "look" in own.client.get_freeze().host
    assert "Everything is frozen" in _shown(browser.get("/cut-off"))
    assert browser.post("/freeze", **late)[0] == 409
    thaw = _fields(browser.get("/freeze"), "step", "request_id")
    assert thaw["step"] == "thaw" and browser.post("/freeze", **thaw)[0] == 200
    assert own.client.get_freeze().brake == ""
    assert browser.post("/freeze", **form)[0] == 200
    assert own.client.get_freeze().brake == ""


def test_a_console_that_only_shows_cuts_nothing_off(own: World) -> None:
    """Previews are there, and neither a button nor its form is taken."""
    form = {"request_id": "c" * 32, "subject": "agent:first", "step": "freeze"}
    with console(own, audit=None) as reader:
        assert "End these sessions" not in reader.get("/cut-off?subject=agent:first")
        assert "Freeze everything</button>" not in reader.get("/freeze")
        for path in ("/cut-off", "/cut-off/ban", "/freeze"):
            assert reader.post(path, **form)[0] == 403
    assert own.client.get_freeze().brake == "" and _living(own, own.session.id) == [True]
