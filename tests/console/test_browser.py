"""The console in a real Chromium: one browser, one server, one console as its user starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from sessauth.approvals.approver import ApproverKey
from tests.console.conftest import IMAGE, SCRIPT, World
from tests.support.console_program import Program, previewing, started
from tests.support.registered_gateway import Gateway

CHROMIUM = shutil.which("chromium") or ""
MISSING = "needs chromium (Debian's package) and playwright: .ci/run installs them"
if os.environ.get("SESSAUTH_TEST_CHROMIUM") and not (CHROMIUM and find_spec("playwright")):
    raise RuntimeError(MISSING)
playwright_api = pytest.importorskip("playwright.sync_api", reason=MISSING)
pytestmark = [pytest.mark.skipif(not CHROMIUM, reason=MISSING)]
# Milliseconds, for what a busy machine may let wait.
LONG = 60_000
# A name of another site that leads here, as a rebound one does.
RESOLVE = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def program(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Give a console that may change sessions."""
    output = tmp_path_factory.mktemp("console") / "output"
    with started(world.service.made.home, output, "console", "--allow-changes") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """Give a browser without windows."""
    with playwright_api.sync_playwright() as driver:
        # Chromium's own sandbox needs another user than root.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", RESOLVE])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, and what went wrong on it."""

    page: object
    # The beginning of the address of each page of the login.
    base: str
    faults: list[str]
    requests: list[str]
    # True where an attack, or a refusal, is what the test is about: the browser reports these.
    attacked: bool = False


def log_in(page, link: str) -> str:
    """Press the button of a link; return the beginning of the address of each page of the login."""
    page.goto(link)
    with page.expect_navigation(url=re.compile("^(?!.*/login/)")):
        page.get_by_role("button", name="Log in").click()
    return "/".join(page.url.split("/")[:4])


@pytest.fixture
def visit(chromium, program: Program) -> Iterator[Visit]:
    """Give a page of a browser that is logged in; nothing may fail on it or go elsewhere."""
    context = chromium.new_context()
    context.set_default_timeout(LONG)
    context.set_default_navigation_timeout(LONG)
    page = context.new_page()
    faults: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    visit = Visit(page, log_in(page, program.new_link()), faults, requests)
    yield visit
    assert page.title() != "taken"
    if not visit.attacked:
        assert [url for url in requests if not url.startswith(program.origin + "/")] == []
        assert faults == []
    context.close()


def _reported(page, words: str):
    """Expect that the browser reports a refusal with these words."""
    return page.expect_console_message(lambda message: words in message.text, timeout=LONG)


def expect_current(page, text: str) -> None:
    """Wait until the changing part of a page has a text."""
    playwright_api.expect(page.locator("#current")).to_contain_text(text, timeout=LONG)


def _updated(page) -> None:
    """Wait until parts of a page were replaced."""
    playwright_api.expect(page.locator("body")).to_have_attribute(
        "data-updates", re.compile(r"[2-9]|\d\d"), timeout=LONG
    )


def test_sessions_are_live(visit: Visit, program: Program, world: World) -> None:
    """A session that is opened elsewhere appears, and one that ends goes, without a reload; focus stays."""
    page = visit.page
    page.goto(visit.base + "/?q=agent:live")
    session = world.open("agent:live-one")
    row = page.locator(f"#s-{session.id.hex()}")
    row.wait_for()
    row.get_by_role("link").focus()
    world.open("agent:live-two")
    expect_current(page, "agent:live-two")
    assert page.evaluate("document.activeElement.textContent") == session.id.hex()[:8]
    world.client.end(session.id)
    playwright_api.expect(row).to_contain_text("ended", timeout=LONG)


def test_a_session_is_ended_by_keyboard(visit: Visit, program: Program, world: World) -> None:
    """Tab and Enter alone lead from the list to the closure, which turns green by itself."""
    session = world.open("agent:keys", purpose="by hand")
    page = visit.page
    page.goto(visit.base + "/?q=agent:keys")
    expect_current(page, "agent:keys")

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()").startswith(name):
                return
        raise AssertionError(f"no Tab leads to {name}")

    for name in (session.id.hex()[:8], "End", "End this session"):
        tab_to(name)
        with page.expect_navigation():
            page.keyboard.press("Enter")
    expect_current(page, "CLOSED")
    assert page.locator(".closure.closed").count() == 1
    with page.expect_download() as download:
        page.locator("#receipt").click()
    assert download.value.suggested_filename == f"closure-{session.id.hex()}.receipt"
    assert Path(download.value.path()).read_text().startswith("sessauth_receipt_")


def test_a_closure_turns_verifier_by_verifier(visit: Visit, program: Program, world: World) -> None:
    """A gateway that hangs is waited for by name; the page turns green when it answers, without a reload."""
    made, page = world.service.made, visit.page
    session = world.open("agent:closing")
    with Gateway(made.state_dir, made.socket, made.credential_file, "gateway-slow", 60_000) as gateway:
        gateway.process.send_signal(signal.SIGSTOP)
        page.goto(f"{visit.base}/sessions/{session.id.hex()}/change/end")
        with page.expect_navigation():
            page.get_by_role("button", name="End this session").click()
        row = page.get_by_role("row").filter(has_text="gateway-slow")
        playwright_api.expect(row).to_contain_text("waiting", timeout=LONG)
        expect_current(page, "PARTIAL")
        assert page.locator(".closure.closed").count() == 0
        gateway.process.send_signal(signal.SIGCONT)
        playwright_api.expect(row).to_contain_text("acknowledged", timeout=LONG)
        page.locator(".closure.closed").wait_for()
        gateway.leave()


def test_a_decision_appears(visit: Visit, program: Program, world: World) -> None:
    """A call that is denied now is on the page of its session, and counted; so is its page of decisions."""
    session = world.open("agent:caller")
    token = world.client.mint(session.id, ["read:mcp/github/* free *"], ["gateway"])
    page = visit.page
    page.goto(f"{visit.base}/sessions/{session.id.hex()}")
    world.client.check(token, "read", IMAGE, "{}", audience="gateway")
    expect_current(page, IMAGE)
    expect_current(page, "1 denied")
    page.goto(f"{visit.base}/decisions?session={session.id.hex()}")
    world.client.check(token, "read", "mcp/github/live", "{}", audience="gateway")
    expect_current(page, "mcp/github/live")


def test_an_agents_text_is_no_script(visit: Visit, program: Program, world: World) -> None:
    """Texts that try to be a page's own are text, also in parts that are replaced."""
    page = visit.page
    for path in ("/", f"/sessions/{world.session.id.hex()}", "/decisions?verdict=denied"):
        page.goto(visit.base + path)
        _updated(page)
        assert page.locator("main script, main img").count() == 0
    page.goto(f"{visit.base}/sessions/{world.session.id.hex()}")
    expect_current(page, SCRIPT)
    # The policy holds even where a page would let one through.
    attack = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')"
    with _reported(page, "Content Security Policy"):
        page.evaluate(attack)
    assert page.title() not in ("taken", "1")
    visit.attacked = True


def test_an_agents_texts_hide_no_column(visit: Visit, world: World) -> None:
    """Subjects and denied calls of the widest texts widen no table of a desk, and heighten no row."""
    wide = world.open("agent:" + " " * 60 + "x", purpose="\u0301" * 100)
    token = world.client.mint(wide.id, ["read:mcp/github/* free *"], ["gateway"])
    for action in (" " * 60 + "x", "y" * 64):
        assert not world.client.check(token, action, "mcp/" + "z" * 900, "{}", audience="gateway")
    page = visit.page
    page.set_viewport_size({"width": 1440, "height": 900})
    for path in ("/", "/decisions?verdict=denied", f"/sessions/{wide.id.hex()}"):
        page.goto(visit.base + path)
        expect_current(page, "\\u0020" * 3)
        hidden = (
            "[...document.querySelectorAll('.scroll')].map((each) => each.scrollWidth - each.clientWidth)"
        )
        assert max(page.evaluate(hidden)) <= 0, path
        rows = "[...document.querySelectorAll('.scroll tbody tr')].map((each) => each.clientHeight)"
        assert max(page.evaluate(rows)) < 100, path


def test_another_site_frames_and_sends_nothing(visit: Visit, program: Program, world: World) -> None:
    """A page elsewhere can't frame the console, and its form does nothing, whoever is logged in."""
    session = world.open("agent:framed")
    page = visit.page
    target = f"{visit.base}/sessions/{session.id.hex()}/change/end"
    attack = (
        f'<iframe src="{visit.base}/"></iframe><form method="post" action="{target}">'
        '<input name="epoch" value="1"><input name="step" value="do"></form>'
    )
    page.route("http://evil.example/", lambda route: route.fulfill(body=attack, content_type="text/html"))
    # It is over whether the frame was refused here or by the browser before it asked.
    page.goto("http://evil.example/", wait_until="load")
    frames = [frame for frame in page.frames if frame.parent_frame]
    assert all("agent:" not in frame.content() for frame in frames)
    with page.expect_navigation():
        page.evaluate("document.forms[0].submit()")
    assert "Not logged in" in page.content() or "another site" in page.content()
    assert world.client.get_session(session.id).status.name == "ACTIVE"
    visit.attacked = True


def test_another_port_gets_no_cookie(visit: Visit, program: Program) -> None:
    """A program on another port of this host, that a link leads to, is sent no login."""
    with previewing() as preview:
        visit.page.goto(f"http://localhost:{preview.server_port}/")
        visit.page.wait_for_url("**/last")
    came = preview.cookies
    assert came["localhost/"] == "" and "127.0.0.1/last" in came
    assert {value for key, value in came.items() if key.startswith("127.")} <= {"", "theirs=1"}
    # An address without the prefix of the login leads to the page of it.
    visit.page.goto(program.origin + "/decisions?verdict=denied")
    visit.page.wait_for_url(f"{visit.base}/decisions?verdict=denied")
    expect_current(visit.page, IMAGE)
    visit.attacked = True


def test_a_rebound_name_gets_no_page(visit: Visit, program: Program) -> None:
    """A name that leads to the console's address is not answered, though a request reaches it."""
    page = visit.page
    answer = page.goto(program.origin.replace("127.0.0.1", "rebound.example"))
    assert answer.status == 421
    assert "its own address only" in page.content()
    visit.attacked = True


def test_two_people_press_at_once(visit: Visit, program: Program, world: World) -> None:
    """Both have the preview open; the second reads what the first did."""
    session = world.open("agent:both")
    first, second = visit.page, visit.page.context.new_page()
    for page in (first, second):
        page.goto(f"{visit.base}/sessions/{session.id.hex()}/change/suspend")
        page.get_by_label("Reason").fill("mine" if page is first else "theirs")
    for page in (first, second):
        with page.expect_navigation():
            page.get_by_role("button", name="Suspend this session").click()
    expect_current(first, "suspended")
    assert "Somebody was faster" in second.content() and "mine" in second.content()
    assert world.client.get_session(session.id).reason == "mine"
    visit.attacked = True


def test_a_log_out_ends_every_page(visit: Visit, program: Program) -> None:
    """A page that is open in another tab says that the login has ended."""
    first, second = visit.page, visit.page.context.new_page()
    first.goto(visit.base + "/hosts")
    second.goto(visit.base + "/")
    second.get_by_role("button", name="Log out").click()
    playwright_api.expect(first.locator("#notice")).to_contain_text("login has ended", timeout=LONG)
    visit.attacked = True


def test_a_link_and_a_login_end(chromium, program: Program, world: World, tmp_path: Path) -> None:
    """A used link logs nobody in; a page that is open when its login ends says so, and how to go on."""
    context = chromium.new_context()
    page = context.new_page()
    link = program.new_link()
    log_in(page, link)
    context.clear_cookies()
    page.goto(link)
    page.wait_for_url(f"{program.origin}/*/")
    assert "press Enter in the terminal" in page.locator("main").inner_text()
    with started(world.service.made.home, tmp_path / "short", "console", "--login-for", "3s") as short:
        log_in(page, short.links[-1])
        playwright_api.expect(page.locator("#notice")).to_contain_text("login has ended", timeout=LONG)
        page.reload()
        assert "Not logged in" in page.content()
    context.close()


def test_a_console_that_stops_is_said(chromium, world: World, tmp_path: Path) -> None:
    """The page stays, and says that it is old."""
    context = chromium.new_context()
    page = context.new_page()
    world.open("agent:newest")
    with started(world.service.made.home, tmp_path / "gone", "console") as short:
        log_in(page, short.links[-1])
        expect_current(page, "agent:newest")
    playwright_api.expect(page.locator("#notice")).to_contain_text("does not answer", timeout=LONG)
    assert "agent:newest" in page.content()
    # An alert is read out whenever its text changes: it states a time, and no age that runs.
    notice = page.locator("#notice").inner_text()
    assert re.search(r"what was known at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", notice)
    context.close()


def test_an_approver_signs_in_a_browser(chromium, world: World, tmp_path: Path) -> None:
    """`approval ui` shows the call at the address that an agent's client opens, and a press signs it."""
    key = ApproverKey.generate()
    key.save(tmp_path / "ann.key")
    session = world.open("agent:deployer", ceiling=["deploy:** free *"])
    scope = f'deploy:prod/** free * needs approval(1, "{key.text}")'
    token = world.client.mint(session.id, [scope], ["gateway"])
    call = (token, "deploy", "prod/api", f'{{"note": "{SCRIPT}"}}')
    assert not world.client.check(*call, audience="gateway")
    approval = world.client.list_approvals(session_id=session.id).approvals[0].record
    context = chromium.new_context()
    page = context.new_page()
    with started(
        world.service.made.home,
        tmp_path / "ui",
        "approval",
        "ui",
        "--approver-key",
        str(tmp_path / "ann.key"),
    ) as ui:
        log_in(page, ui.links[-1])
        page.goto(f"{ui.origin}/approvals/{session.id.hex()}/{approval.id.hex()}")
        expect_current(page, SCRIPT)
        page.get_by_role("button", name="Sign: this call may happen, once").click()
        page.get_by_label("Code that the terminal shows").fill(ui.code())
        page.keyboard.press("Enter")
        expect_current(page, "it is granted")
        assert page.title() != "taken"
    context.close()
    assert world.client.check(*call, audience="gateway")


def test_every_page_is_accessible(visit: Visit, program: Program, world: World) -> None:
    """Rules of axe find nothing serious, in the light and in the dark."""
    from axe_core_python.sync_playwright import Axe

    axe, page = Axe(), visit.page
    # The rules are a script of the test's own, which the policy of the pages refuses.
    context = page.context.browser.new_context(bypass_csp=True, storage_state=page.context.storage_state())
    page = context.new_page()
    session = f"/sessions/{world.session.id.hex()}"
    ended = world.open("agent:axe")
    world.client.end(ended.id)
    paths = [
        *("/", session, f"{session}/change/end", f"{session}/change/narrow"),
        *(f"/sessions/{ended.id.hex()}/closure", "/approvals", "/decisions", "/hosts", "/token"),
        "/nothing-here",
    ]
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for path in paths:
            page.goto(visit.base + path)
            page.wait_for_load_state("domcontentloaded")
            violations = axe.run(page)["violations"]
            serious = [each for each in violations if each["impact"] in SERIOUS]
            found[scheme, path] = [(each["id"], each["nodes"][0]["html"][:200]) for each in serious]
    context.close()
    assert {key: faults for key, faults in found.items() if faults} == {}


def test_ten_thousand_sessions_do_not_hitch(visit: Visit, program: Program) -> None:
    """Rows that a page holds don't grow with the sessions that there are."""
    page = visit.page
    page.goto(visit.base + "/?status=all")
    _updated(page)
    assert 0 < page.locator("tbody tr").count() <= 25
