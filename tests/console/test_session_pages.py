"""Pages of sessions: what they show, previews, changes, closures, and a server that is gone."""

from __future__ import annotations

import html
import re
import tempfile
from functools import partial
from pathlib import Path

import pytest
from httpx import Response

from sessauth.client import Activity, AsyncClient, Client
from sessauth.errors import NotFound, PermissionDenied, UsageError
from sessauth.model.receipt import SignedReceipt, verify
from sessauth.model.session import Session
from tests.cli.conftest import invoke
from tests.console.conftest import HIDDEN, IMAGE, ORIGIN, SCRIPT, Browser, World, console
from tests.support.receipts import LATE, SERVICE
from tests.support.service import running, wait_until


def _shown(page: str) -> str:
    """Return the text of a page as a person reads it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _rows(page: str) -> list[str]:
    return re.findall(r'<tr id="s-([0-9a-f]{32})"', page)


def _page(session: object, *rest: str) -> str:
    return "/".join(["/sessions", session.id.hex(), *rest])  # type: ignore[attr-defined]


def _has(browser: Browser, path: str, text: str) -> bool:
    return wait_until(lambda: text in _shown(browser.get(path)))


def test_sessions_are_shown_the_living_first(world: World, reader: Browser) -> None:
    """The newest of the living is the first, the ended are behind; events bring both without a reload."""
    first, second = world.open("agent:first"), world.open("agent:second")
    assert wait_until(lambda: _rows(reader.get("/"))[:2] == [second.id.hex(), first.id.hex()])
    world.client.end(second.id)
    assert wait_until(lambda: _rows(reader.get("/"))[0] == first.id.hex())

    ended = _rows(reader.get("/?status=ended"))
    assert second.id.hex() in ended and first.id.hex() not in ended
    assert _rows(reader.get("/?q=agent:first")) == [first.id.hex()]
    assert _rows(reader.get(f"/?q={first.id.hex()[:8]}")) == [first.id.hex()]
    assert _rows(reader.get("/?q=web")) == [world.session.id.hex()]
    assert "No session fits" in reader.get("/?q=nothing-like-it")


def test_sessions_are_found_by_words(world: World, reader: Browser) -> None:
    """The case does not matter; several words may be of several texts; a label is name=value."""
    found = world.open("agent:Mailer-Bad", purpose="Newsletter of ticket 4711", labels={"team": "sales"})
    assert wait_until(lambda: found.id.hex() in _rows(reader.get("/")))
    for wanted in (
        "mailer-bad",
        "4711 NEWSLETTER",
        "team%3Dsales+mailer",
        f"sales+{found.id.hex()[:6].upper()}",
    ):
        assert _rows(reader.get(f"/?q={wanted}")) == [found.id.hex()]
    assert _rows(reader.get("/?q=mailer+4712")) == []


@pytest.fixture(scope="module")
def callers(world: World) -> dict[str, Session]:
    """Give sessions of one purpose: one is denied most, one calls most, one makes no call."""
    counts = {"agent:denied": (1, 4), "agent:busy": (9, 1), "agent:quiet": (0, 0)}
    opened = {}
    for subject, (allowed, denied) in counts.items():
        opened[subject] = world.open(subject, purpose="the night's")
        token = world.client.mint(opened[subject].id, ["read:mcp/github/* free *"], ["gateway"])
        for action in ["read"] * allowed + ["write"] * denied:
            world.client.check(token, action, "mcp/github/get", "{}", audience="gateway")
    wanted = sum(sum(each) for each in counts.values())

    def counted() -> int:
        found = world.client.list_activity(words="night's").sessions
        return sum(sum(each.calls) for each in found)

    assert wait_until(lambda: counted() == wanted)
    return opened


def test_sessions_are_sorted_by_calls(callers: dict[str, Session], reader: Browser) -> None:
    """The most denied, or those that call most, stand first, with the counts of the last ten minutes."""
    denied, busy = callers["agent:denied"].id.hex(), callers["agent:busy"].id.hex()
    assert _has(reader, "/?q=night's&sort=denied", "Shown: 1 to 2 of 2")
    page = reader.get("/?q=night's&sort=denied")
    assert _rows(page) == [denied, busy]
    assert "Denied, 10 min" in page and re.search(r"agent:denied .* 1 4 .* agent:busy .* 9 1", _shown(page))
    assert _rows(reader.get("/?q=night's&sort=calls")) == [busy, denied]
    assert len(_rows(reader.get("/?q=night's"))) == 3
    assert len(_rows(reader.get("/?q=night's&sort=wild"))) == 3
    assert _rows(reader.get("/?q=night's&sort=calls&status=ended")) == []
    assert "that fits the filter made a call" in reader.get("/?q=night's&sort=calls&status=suspended")


def test_the_most_denied_stand_above_all(world: World, callers: dict[str, Session], reader: Browser) -> None:
    """Each has its curve and counts, whatever is searched for; one that has ended leads to its closure."""
    denied = callers["agent:denied"]
    entry = f'<li id="most-{denied.id.hex()}">'
    assert wait_until(lambda: entry in reader.get("/?q=nobody"))

    def shown() -> str:
        return reader.get("/?q=nobody").partition(entry)[2].partition("</li>")[0]

    assert "1 allowed and 4 denied, at most 4 of a kind in one minute" in shown()
    assert "4 denied, 1 allowed" in _shown(shown()) and "agent:denied" in shown()
    assert _page(denied, "closure") not in shown()
    assert callers["agent:quiet"].id.hex() not in reader.get("/?q=nobody")
    assert entry not in reader.get("/?q=nobody&sort=denied")
    world.client.end(denied.id)
    assert wait_until(lambda: _page(denied, "closure") in shown())


@pytest.mark.parametrize("path", ["/", "/?sort=calls"])
def test_calls_that_are_not_counted_are_said(world: World, path: str) -> None:
    """The page names the settings as `sessauth top` does, or the server's refusal; then it ranks nothing."""

    class Uncounted(AsyncClient):
        async def list_activity(self, **_: object) -> Activity:
            return Activity((), (), (), 0, 0)

    class Refused(AsyncClient):
        async def list_activity(self, **_: object) -> Activity:
            raise PermissionDenied("not for <this> role")

    expected = {Uncounted: Activity((), (), (), 0, 0).gaps[0], Refused: "not known: not for <this> role"}
    for kind, words in expected.items():
        connect = partial(kind, f"unix:{world.service.made.socket}", timeout_ms=10_000)
        with console(world, connect=connect) as browser:
            text = _shown(browser.get(path))
        assert words in text and "last ten minutes." not in text and "Denied most" not in text


def test_a_narrowing_begins_with_the_ceiling(world: World, changer: Browser) -> None:
    """The page shows the layers in force, and its box has the session's own."""
    session = world.open("agent:wide")
    child = world.open("agent:lower", parent_id=session.id, ceiling=["read:mcp/github/get free *"])
    page = html.unescape(changer.get(_page(child, "change", "narrow")))

    assert ">read:mcp/github/get free *</textarea>" in page
    assert "Ceiling in force" in page and "read:mcp/github/** free *" in page
    assert "What it hits" not in page


def test_sessions_are_in_pages(world: World, reader: Browser) -> None:
    """A page has 25 rows, the pages together have each session once, and wild numbers are pages, too."""
    for number in range(30):
        world.open(f"agent:paged-{number}")
    assert wait_until(lambda: "1 to 25 of 30" in _shown(reader.get("/?q=paged-")))
    pages = [_rows(reader.get(f"/?q=paged-&page={number}")) for number in (1, 2)]

    assert [len(page) for page in pages] == [25, 5]
    assert len({*pages[0], *pages[1]}) == 30
    for wild in ("0", "-1", "99999999999", "x", "²"):
        assert _rows(reader.get(f"/?q=paged-&page={wild}")) in pages


def test_texts_of_agents_are_only_texts(world: World, reader: Browser) -> None:
    """A subject, purpose, label, resource or fact is escaped, and what hides is shown."""
    for path in ("/", _page(world.session), _page(world.session, "change", "end")):
        page = reader.get(path)
        assert SCRIPT not in page and "<img" not in page and HIDDEN not in page
    assert _has(reader, _page(world.session), IMAGE)
    page = reader.get(_page(world.session))
    assert SCRIPT in _shown(page)
    assert "\\u202etxt.exe\\u200b" in _shown(page)


def test_a_session_shows_granted_against_used(world: World, reader: Browser) -> None:
    """Counts, the suggestion, the token's chain, the child and the decisions are there."""
    path = _page(world.session)
    assert _has(reader, path, "5 allowed") and _has(reader, path, "2 denied")
    assert _has(reader, path, "OUT_OF_SCOPE")
    assert _has(reader, path, "write:mcp/github/* free * never nothing")
    text = _shown(reader.get(path))

    assert "read:mcp/github/get" in text
    assert "agent:child" in text
    assert "Narrow to what would have been enough" in text


def test_what_is_not_there_is_said(reader: Browser) -> None:
    """An unknown session, and an address that names none."""
    assert reader.http.get("/sessions/" + "0" * 32).status_code == 404
    assert reader.http.get("/sessions/zz").status_code == 404
    assert reader.http.get("/sessions/" + "0" * 32 + "/change/explode").status_code == 404


def test_an_end_is_previewed_made_and_proven(world: World, changer: Browser) -> None:
    """The preview names tokens, calls and children; the closure is signed, and its receipt verifies."""
    session = world.open("agent:to-end")
    child = world.open("agent:below", parent_id=session.id)
    token = world.client.mint(session.id, ["read:mcp/github/* free *"], ["gateway"], label="hit")
    world.client.check(token, "read", "mcp/github/get", "{}", audience="gateway")
    path = _page(session, "change", "end")
    assert _has(changer, path, "1 token in use")
    assert _has(changer, path, "read mcp/github/get 1")
    assert _has(changer, path, "1 living child session")
    assert "has not ended" in changer.get(_page(session, "closure"))

    code, page = changer.post(path, epoch="1", reason="no longer <b>needed</b>")
    assert code == 200 and "agent:to-end" in page
    assert _has(changer, _page(session, "closure"), "CLOSED No verifier")
    text = _shown(changer.get(_page(session, "closure")))
    assert "no longer <b>needed</b>" in text and "acknowledged" in text
    answer = changer.http.get(_page(session, "receipt"))
    assert (
        answer.headers["content-disposition"] == f'attachment; filename="closure-{session.id.hex()}.receipt"'
    )
    receipt = verify(SignedReceipt.from_text(answer.text.strip()), world.client.jwks(), session_id=session.id)
    assert receipt.state.name == "CLOSED"
    assert _has(changer, _page(child), "parent ended")
    assert wait_until(lambda: child.id.hex() in _rows(changer.get("/?q=agent:below&status=ended")))


def test_evidence_is_made_as_files(world: World, changer: Browser, tmp_path: Path) -> None:
    """The pack verifies by the log's key, the story names the end, and nothing stays on the disk."""
    session = world.open("agent:proven")
    token = world.client.mint(session.id, ["read:mcp/github/* free *"], ["gateway"])
    world.client.check(token, "read", "mcp/github/get", "{}", audience="gateway")
    page = _page(session, "evidence", "pack")
    assert "Evidence" not in changer.get(_page(session, "closure"))
    world.client.end(session.id, "enough")
    assert _has(changer, _page(session, "closure"), "Evidence pack")

    def made(kind: str) -> Response:
        fields = {"form_token": changer.form_token()}
        return changer.http.post(_page(session, "evidence", kind), data=fields, headers={"origin": ORIGIN})

    assert wait_until(lambda: made("pack").headers["content-type"] == "application/octet-stream")
    answer = made("pack")
    name = f'attachment; filename="pack-{session.id.hex()}.pack"'
    assert answer.headers["content-disposition"] == name
    pack = tmp_path / "session.pack"
    pack.write_bytes(answer.content)
    home = world.service.made.home
    ran = invoke("--home", home, "evidence", "verify", pack, "--key", home / "audit" / "audit.pub")
    assert ran.code == 0 and "PROVEN" in ran.out, ran.out
    assert session.id.hex() in ran.out
    assert "end_session" in made("story").text
    assert list(Path(tempfile.gettempdir()).glob("sessauth-*/evidence")) == []
    assert changer.post(page.replace("pack", "other"))[0] == 404


def test_evidence_that_is_not_made_here_is_named(world: World) -> None:
    """Without the audit the page has the commands; a file that can't be made says why, and the command."""
    session = world.open("agent:elsewhere")
    world.client.end(session.id)
    command = f"sessauth evidence --session {session.id.hex()} --out"

    def refuse(_: bytes, __: Path) -> None:
        raise UsageError("--signing-key: audit.key can't be read")

    with console(world, audit=None) as browser:
        text = _shown(browser.get(_page(session, "closure")))
        assert command in text and "Evidence pack" not in text
    with console(world, evidence={"pack": refuse}) as browser:
        code, page = browser.post(_page(session, "evidence", "pack"))
        assert code == 409 and "audit.key" in page and command in _shown(page)


def test_a_session_has_a_timeline(world: World, reader: Browser) -> None:
    """Opening, mint, narrowing, first denial, end and receipt are in order; verdicts are apart."""
    session = world.open("agent:lived", ceiling=["read:mcp/** free *"], purpose="to be followed")
    token = world.client.mint(session.id, ["read:mcp/** free *"], ["gateway"], label="its-token")
    world.client.check(token, "read", "mcp/github/fine", "{}", audience="gateway")
    world.client.narrow(session.id, ["read:mcp/github/* free *"])
    world.client.check(token, "read", "mcp/gitlab/no", "{}", audience="gateway")
    world.client.end(session.id, "seen enough")
    path = _page(session)
    assert _has(reader, path, "receipt") and _has(reader, path, "its-token")
    assert _has(reader, path, "OUT_OF_SCOPE read mcp/gitlab/no")
    text = _shown(reader.get(path))
    life = text[text.index("Timeline") :]
    steps = (
        "opened operator to be followed",
        "minted",
        "narrowed operator",
        "first denial",
        "ended operator",
    )
    places = [life.index(step) for step in (*steps, "receipt")]
    assert places == sorted(places)
    assert "1 allowed above, 1 denied below" in text and "1 allowed and 1 denied" in reader.get(path)

    denied = reader.get(f"{path}?verdict=denied")
    table = denied[denied.index('aria-label="Latest decisions"') : denied.index('id="h-life"')]
    assert "mcp/gitlab/no" in table and "mcp/github/fine" not in table
    allowed = reader.get(f"{path}?verdict=allowed")
    assert "mcp/github/fine" in allowed[allowed.index('id="h-decisions"') : allowed.index('id="h-life"')]
    with console(world, audit=None) as browser:
        assert "before this console was started are missing" in browser.get(path)
    with console(world) as browser:
        # A console that began later has the steps of the log.
        assert _has(browser, path, "narrowed operator") and _has(browser, f"{path}?whole=1", "narrowed")


def test_a_call_after_the_end_is_on_the_closure_page(world: World) -> None:
    """The page says in red what the receipt itself knows of calls that went on."""
    session = world.open("agent:goes-on")
    world.client.end(session.id)

    class Late(AsyncClient):
        async def get_receipt(self, session_id: bytes) -> SignedReceipt:
            return LATE.signed_by(SERVICE)

    connect = partial(Late, f"unix:{world.service.made.socket}", timeout_ms=10_000)
    with console(world, connect=connect) as browser:
        page = browser.get(_page(session, "closure"))
    assert '<p class="lost">A call was allowed 5s after the end' in page


def test_a_suspension_is_made_and_taken_back(world: World, changer: Browser) -> None:
    """The pages of a suspended session say so, and offer to resume."""
    session = world.open("agent:paused")
    changer.post(_page(session, "change", "suspend"), epoch="1", reason="let me see")
    assert world.client.get_session(session.id).status.name == "SUSPENDED"
    assert "Resume" in changer.get(_page(session))
    assert "suspended already" in changer.get(_page(session, "change", "suspend"))
    changer.post(_page(session, "change", "resume"), epoch="2")
    assert world.client.get_session(session.id).status.name == "ACTIVE"


def test_a_status_is_inherited_as_the_server_says(world: World, changer: Browser) -> None:
    """A session below a suspended one is suspended, says by which, and can't be resumed by itself."""
    session = world.open("agent:above")
    child = world.open("agent:held-below", parent_id=session.id)
    search = "/?q=agent:held-below&status=suspended"
    assert wait_until(lambda: child.id.hex() in _rows(changer.get("/?q=agent:held-below")))
    world.client.suspend(session.id, "wait")
    assert wait_until(lambda: child.id.hex() in _rows(changer.get(search)))
    assert _has(changer, _page(child), f"inherited from {session.id.hex()[:8]}")
    text = changer.get(_page(child))
    assert "Suspend …" in text and "Resume …" not in text
    assert f"suspended with session {session.id.hex()}" in changer.get(_page(child, "change", "resume"))
    assert "suspended already" not in changer.get(_page(child, "change", "suspend"))
    world.client.resume(session.id)
    assert wait_until(lambda: child.id.hex() not in _rows(changer.get(search)))


def test_a_narrowing_says_what_it_hits(world: World, changer: Browser) -> None:
    """Each recent call and each token has what becomes of it; then the narrowing is made."""
    session = world.open("agent:wide", ceiling=["read:mcp/** free *", "write:mcp/** free *"])
    token = world.client.mint(session.id, ["write:mcp/github/* free *"], ["gateway"], label="writer")
    for action, name in (("write", "put"), ("write", "drop")):
        world.client.check(token, action, f"mcp/github/{name}", '{"n": 1}', audience="gateway")
    path = _page(session, "change", "narrow")
    assert _has(changer, path, "Scopes, one a line")
    assert wait_until(
        lambda: (
            "Of 2 calls" in (text := _shown(changer.post(path, scopes="write:mcp/github/put free *")[1]))
            and "mcp/github/drop 1" in text
            and "mcp/github/put 1" in text
            and "writer 2" in text
        )
    )
    text = _shown(changer.post(path, scopes="# fewer\nwrite:mcp/github/put free *\n")[1])
    assert re.search(r"mcp/github/drop 1 .{0,20} denied", text)
    assert re.search(r"mcp/github/put 1 .{0,20} allowed", text)
    assert re.search(r"writer 2 .{0,20} keeps a part", text)
    assert "about 1 would have been denied" in text
    assert world.client.get_session(session.id).epoch == 1
    text = _shown(changer.post(path, scopes="except write:mcp/github/drop\nexcept *:** where n > 5")[1])
    assert re.search(r"mcp/github/drop 1 .{0,20} denied", text)
    assert re.search(r"mcp/github/put 1 .{0,20} by arguments", text)
    assert "about 1 would have been denied" in text

    changer.post(path, scopes="write:mcp/github/put free *", step="do", epoch="1")
    assert world.client.get_session(session.id).epoch == 2
    assert not world.client.check(token, "write", "mcp/github/drop", "{}", audience="gateway")


def test_a_preview_counts_what_is_open_below(world: World, changer: Browser) -> None:
    """Permits of child sessions end, too; what could not be read is named; observe mode refuses nothing."""
    session = world.open("agent:above", observe=True)
    child = world.open("agent:with-permit", parent_id=session.id)
    token = world.client.mint(child.id, ["read:mcp/github/** free * needs uses(3)"], ["gateway"])
    assert world.client.check(token, "read", "mcp/github/get", "{}", audience="gateway", permit_ms=60_000)
    path = _page(session, "change", "end")
    assert _has(changer, path, "1 living child session") and _has(changer, path, "1 open permit ")
    assert "Not known here" not in changer.get(path)
    page = changer.post(_page(session, "change", "narrow"), scopes="read:mcp/github/get free *")[1]
    assert "its ceiling refuses nothing, nor does this narrowing" in _shown(page)

    async def forget(*_: object) -> None:
        raise NotFound("no such session")

    reading = type("Reading", (AsyncClient,), {"get_session": forget})
    connect = partial(reading, f"unix:{world.service.made.socket}", timeout_ms=10_000)
    with console(world, connect=connect) as browser:
        assert _has(browser, path, "Not known here: tokens, permits and approvals of 1 of the child sessions")


@pytest.mark.parametrize(
    ("scopes", "words"),
    [
        ("read:mcp/** free *", "This narrows nothing"),
        ("read:**", "This narrows nothing"),
        ("read mcp", "line 1:"),
        ("read:mcp/github/get\nread:mcp/<script>*</script>", "line 2:"),
        ("# only a comment", "no scope is stated"),
        ("pay:hotel", "nothing of it lies inside the ceiling"),
    ],
)
def test_a_narrowing_that_is_none_says_so(world: World, changer: Browser, scopes: str, words: str) -> None:
    """Scopes that can't be read, widen, or refuse nothing are named, and nothing is changed."""
    session = world.open("agent:narrow", ceiling=["read:mcp/** free *"])
    page = changer.post(_page(session, "change", "narrow"), scopes=scopes)[1]

    assert words in _shown(page)
    assert "<script>" not in page.replace('<script src="/static/console.js" defer></script>', "")
    assert world.client.get_session(session.id).epoch == 1


def test_two_who_press_at_once(world: World, changer: Browser) -> None:
    """The second learns what the first did; the same form sent twice is one change."""
    session = world.open("agent:contested")
    path = _page(session, "change", "suspend")
    world.client.suspend(session.id, "the first was here")
    code, page = changer.post(path, epoch="1")
    assert code == 409 and "Somebody was faster" in page
    assert wait_until(lambda: "by operator" in _shown(changer.post(path, epoch="1")[1]))
    assert "the first was here" in _shown(page)

    end = _page(session, "change", "end")
    form = {"epoch": "2", "request_id": "form-1", "reason": "mine"}
    assert [changer.post(end, **form)[0] for _ in range(2)] == [200, 200]
    code, page = changer.post(end, epoch="2", reason="theirs")
    assert code == 409 and "Closure" in page
    assert world.client.get_session(session.id).reason == "mine"
    assert "nothing of it can be changed" in changer.get(end)


def test_a_server_that_is_gone_is_said(world: World) -> None:
    """Pages that were shown stay, with their age; a page that was not says that the server is gone."""
    with running() as service, Client(f"unix:{service.made.socket}", timeout_ms=10_000) as client:
        session = client.open_session(subject="agent:left", ceiling=["read:x"])
        other = client.open_session(subject="agent:never", ceiling=["read:x"])
        there = World(service, client, session, session, world.token)
        with console(there, timeout_ms=500, allow_changes=True, audit=None) as browser:
            assert _has(browser, "/", "agent:left")
            assert "agent:left" in browser.get(_page(session))
            assert service.control is not None
            service.control.stop()
            for path in ("/", _page(session)):
                assert wait_until(lambda path=path: "can't be reached" in _shown(browser.get(path)))
                text = _shown(browser.get(path))
                assert "agent:left" in text and "This page shows what was known" in text
            page = browser.get("/")
            assert (
                """role="alert">The server can't be reached</strong> for""" in page
                and "aria-live" not in page
            )
            answer = browser.http.get(_page(other))
            assert answer.status_code == 503 and "can't be reached" in _shown(answer.text)
            code, page = browser.post(_page(session, "change", "suspend"), epoch="1")
            assert code == 503 and "so nothing was done" in _shown(page)


def test_an_address_or_a_form_that_nobody_sends_is_refused(world: World, changer: Browser) -> None:
    """Ids that are none and epochs of many digits get a page that says so."""
    for place in ("", "/receipt", "/closure", "/change/end"):
        for name in ("zz", "%00", "9" * 300):
            assert changer.http.get(f"/sessions/{name}{place}").status_code == 404
    session = world.open()
    for epoch in ("9" * 5000, "9" * 19, "-1", ""):
        path = f"/sessions/{session.id.hex()}/change/suspend"
        assert changer.post(path, epoch=epoch, step="do")[0] in (400, 409)
    assert world.client.get_session(session.id).status.name == "ACTIVE"
