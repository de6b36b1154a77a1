"""Pages of approvals, decisions, hosts and tokens."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.approvals.request import ApprovalRequest
from sessauth.client import AsyncClient
from tests.console.conftest import HIDDEN, IMAGE, SCRIPT, Browser, World, console
from tests.console.test_session_pages import _has, _shown
from tests.support.service import wait_until

ANN, BOB = ApproverKey.generate(), ApproverKey.generate()


@pytest.fixture(scope="module")
def signer(world: World) -> Iterator[Browser]:
    """Give an approver's console, with Ann's key."""
    with console(world, audit=None, approver=ANN, approvals_only=True) as browser:
        yield browser


class WaitingCall:
    """Calls that wait for Ann's or Bob's signature."""

    def __init__(self, world: World, threshold: int = 1) -> None:
        self.world = world
        self.session = world.open("agent:deployer", ceiling=["deploy:** free *"], purpose=HIDDEN)
        scope = f'deploy:prod/** free * needs approval({threshold}, "{ANN.text}", "{BOB.text}")'
        self.token = world.client.mint(self.session.id, [scope], ["gateway"], label="<i>d</i>")

    def check(self) -> bool:
        """Make the call, or ask for its approval."""
        arguments = f'{{"note": "{SCRIPT}"}}'
        return bool(self.world.client.check(self.token, "deploy", "prod/api", arguments, audience="gateway"))

    def request(self) -> ApprovalRequest:
        """Return the approval that was asked for last."""
        return self.world.client.list_approvals(session_id=self.session.id).approvals[0]

    @property
    def path(self) -> str:
        """The address of its page."""
        return f"/approvals/{self.session.id.hex()}/{self.request().record.id.hex()}"


def _shown_digest(page: str) -> str:
    found = re.search(r'name="shown" value="([0-9a-f]+)"', page)
    assert found, page
    return found[1]


def test_a_grant_is_signed_here(world: World, signer: Browser) -> None:
    """The page shows what ``approval show`` does, escaped; the signature lets the call happen, once."""
    asked = WaitingCall(world)
    assert not asked.check()
    assert wait_until(lambda: asked.request().record.id.hex() in signer.get("/approvals"))
    path = asked.path
    page = signer.get(path)
    rendered = world.client.get_approval(asked.session.id, asked.request().record.id).render()
    assert [line for line in rendered.splitlines() if line not in html.unescape(page)] == []
    assert SCRIPT not in page and HIDDEN not in page and "\\u202e" in page

    code, after = signer.sign(path, _shown_digest(page))
    assert code == 200 and "1 of 1 signed; it is granted" in _shown(after)
    assert asked.check() and not asked.check()


def test_a_cookie_alone_signs_nothing(world: World, signer: Browser) -> None:
    """A signature takes the code that the terminal shows: for this call and login, typed once, in time."""
    asked, other = WaitingCall(world), WaitingCall(world)
    for each in (asked, other):
        each.check()
    shown = {each: _shown_digest(signer.get(each.path)) for each in (asked, other)}

    def press(each: WaitingCall, code: str) -> tuple[int, str]:
        return signer.post(f"{each.path}/grant", shown=shown[each], code=code)

    assert press(asked, "abcd-efgh")[0] == 403
    code, page = press(asked, "")
    assert code == 200 and "Code that the terminal shows" in _shown(page) and signer.codes[-1] not in page
    assert press(other, signer.codes[-1])[0] == 403
    # One try used it up.
    assert press(asked, signer.codes[-1])[0] == 403
    press(asked, "")
    other_login = Browser(signer.http, signer.logins, signer.codes)
    other_login.log_in()
    assert press(asked, signer.codes[-1])[0] == 403
    assert not asked.request().record.statements and not other.request().record.statements
    press(asked, "")
    code, page = press(asked, signer.codes[-1].upper().replace("-", " "))
    assert code == 200 and "it is granted" in _shown(page)


def test_an_approval_that_was_answered_elsewhere(world: World, signer: Browser) -> None:
    """The page says what became of it, and nothing is signed; so of one that was denied."""
    granted, denied = WaitingCall(world), WaitingCall(world)
    for each, words in ((granted, "granted"), (denied, "denied")):
        each.check()
        path, page = each.path, signer.get(each.path)
        request = each.request()
        if each is granted:
            world.client.grant_approval(request, Approver(BOB))
        else:
            world.client.deny_approval(each.session.id, request.record.id, "not today")
        code, after = signer.sign(path, _shown_digest(page))
        assert code == 409 and f"is {words} now" in _shown(after)
        assert request.record.id.hex() in (rows := signer.get(f"/approvals?status={words}"))
        assert "yours to answer" not in rows
        assert "Nobody can answer it any more" in _shown(signer.get(path))
    assert "not today" in _shown(after)


def test_the_second_of_two_signatures(world: World, signer: Browser) -> None:
    """A key signs once; the page says who is still waited for."""
    asked = WaitingCall(world, threshold=2)
    asked.check()
    path, page = asked.path, signer.get(asked.path)
    code, after = signer.sign(path, _shown_digest(page))
    assert code == 200 and "1 of 2 signed" in _shown(after)
    code, again = signer.sign(path, _shown_digest(page))
    assert code == 409 and "has signed already" in _shown(again)


def test_only_what_was_shown_is_signed(world: World, signer: Browser, changer: Browser) -> None:
    """Another digest is refused; a console without the key signs nothing; its denial is one."""
    asked = WaitingCall(world)
    asked.check()
    path = asked.path
    for digest in ("", "0" * 64):
        code, page = signer.post(f"{path}/grant", shown=digest)
        assert code == 409 and "nothing was signed" in _shown(page)
    page = changer.get(path)
    assert "approval ui" in _shown(page) and 'name="shown"' not in page
    assert changer.post(f"{path}/grant", shown="0" * 64)[0] == 403
    code, page = changer.post(f"{path}/deny", reason="<u>no</u>")
    assert code == 200 and "denied" in _shown(page) and "<u>" not in page


def test_another_request_for_the_same_call_is_not_signed(world: World) -> None:
    """A server that answers with another session's request behind the button gets no signature for it."""
    shown, other = WaitingCall(world), WaitingCall(world)
    for each in (shown, other):
        each.check()
    assert shown.request().digest() == other.request().digest()
    path, swapped, handed_in = shown.path, other.request(), []

    class Swapping(AsyncClient):
        swaps = False

        async def get_approval(self, session_id: bytes, approval_id: bytes) -> ApprovalRequest:
            return swapped if Swapping.swaps else await super().get_approval(session_id, approval_id)

        async def grant_approval(self, *given: Any, **options: Any) -> ApprovalRequest:
            handed_in.append(given)
            return await super().grant_approval(*given, **options)

    connect = partial(Swapping, f"unix:{world.service.made.socket}", timeout_ms=10_000)
    with console(world, audit=None, approver=ANN, approvals_only=True, connect=connect) as browser:
        page = browser.get(path)
        Swapping.swaps = True
        code, after = browser.post(f"{path}/grant", shown=_shown_digest(page))
    assert code == 409 and "nothing was signed" in _shown(after)
    assert not handed_in and not other.request().record.statements


def test_an_approvers_console_has_nothing_else(signer: Browser, reader: Browser, world: World) -> None:
    """Sessions, tokens and changes are no pages of it; a reader's console denies nothing."""
    assert signer.http.get("/").url.path.endswith("/approvals")
    assert "signs approvals" in signer.get("/approvals") and "read only" in reader.get("/approvals")
    for path in ("/decisions", "/hosts", "/identity", "/token", f"/sessions/{world.session.id.hex()}"):
        assert signer.http.get(path).status_code == 404
    asked = WaitingCall(world)
    asked.check()
    assert reader.post(f"{asked.path}/deny")[0] == 403


def test_decisions_are_searched_and_explained(world: World, reader: Browser) -> None:
    """Filters find what they name; the page of one says why exactly, with the ceiling of that time."""
    session = world.session.id.hex()
    assert _has(reader, f"/decisions?session={session}&verdict=denied", "of the last")
    assert _has(reader, f"/decisions?session={session}&verdict=denied", IMAGE)
    denied = reader.get(f"/decisions?session={session}&verdict=denied")
    assert denied.count('<tr id="d-') == 2 and "<img" not in denied
    assert reader.get(f"/decisions?session={session}&verdict=allowed").count('<tr id="d-') == 5
    assert reader.get(f"/decisions?session={session}&resource=mcp/github/*").count('<tr id="d-') == 6
    # First digits name a session only once the console has read it.
    by_digits = f"/decisions?session={session[:8]}&action=write"
    assert wait_until(lambda: reader.get(by_digits).count('<tr id="d-') == 1)
    assert "only one known session has" in reader.get("/decisions?session=zz")
    assert "None matches" in reader.get("/decisions?reason=REVOKED")
    whole = reader.get(f"/decisions?session={session}&action=write&whole=1")
    assert whole.count('<tr id="d-') == 1 and "of the whole log" in whole

    found = re.search(r'<tr id="d-([0-9a-f]{32})"', whole)
    assert found
    text = _shown(reader.get(f"/decisions/{found[1]}"))
    assert "OUT_OF_SCOPE" in text and "it would allow" in text and "read:mcp/github/* free *" in text
    assert "write:mcp/github/* free *" in text and SCRIPT in text
    assert reader.http.get("/decisions/" + "0" * 32).status_code == 404


def test_without_an_audit_changes_are_shown(world: World) -> None:
    """The page says that decisions are not known, and shows the changes of sessions."""
    with console(world, audit=None) as browser:
        # Events are watched once the sessions are read; one from before has none to show.
        assert wait_until(lambda: "being read" not in browser.get("/"))
        world.open("agent:witness")
        assert _has(browser, "/decisions", "agent:witness")
        assert "audit.enabled" in browser.get("/decisions")
        assert browser.http.get("/decisions/" + "0" * 32).status_code == 404


def test_verifiers_are_shown(reader: Browser) -> None:
    """The control process is fresh, at the last revision."""
    assert _has(reader, "/hosts", "sessauth/control control")
    assert wait_until(lambda: "fresh" in _shown(reader.get("/hosts")))


def test_a_token_is_read_and_not_held(
    world: World, reader: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """It says UNVERIFIED and what the blocks say; neither the page nor a log has the token."""
    caplog.set_level(logging.DEBUG)
    open_token = world.client.mint(world.session.id, ["read:mcp/** free *"], ["gateway"], ending="open")
    for token in (world.token.text, open_token.stored_text()):
        code, page = reader.post("/token", token=token)
        text = _shown(page)
        assert code == 200 and "UNVERIFIED" in text and world.session.id.hex() in text
        assert "read:mcp/" in text and "audience gateway" in text
        assert token not in page and token[20:60] not in page
        assert token[20:60] not in caplog.text
    assert SCRIPT in _shown(reader.post("/token", token=world.token.text)[1])
    for wrong in ("", "sessauth_x", world.token.text[:-5], "x" * 30_000, "<script>"):
        code, page = reader.post("/token", token=wrong)
        assert code == 200 and "UNVERIFIED" not in page and 'aria-invalid="true"' in page
    assert reader.http.get(f"/token?token={world.token.text}").text.count(world.token.text) == 0
