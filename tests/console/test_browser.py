"""The console in a real Chromium: one browser, one server, one console as its user starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from sessauth.approvals.approver import ApproverKey
from sessauth.errors import Rejected
from tests.cli.conftest import invoke
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
AXE = Path(__file__).parents[2] / "build" / "interop" / "node_modules" / "axe-core" / "axe.min.js"
MISSING_AXE = "needs npm's axe-core in build/interop: `.ci/run install` puts it there"
RUN_AXE = "async () => (await axe.run()).violations.map((v) => [v.impact, v.id, v.nodes[0].html])"
# How an operator looks and presses: the options of the browser.
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
HANDS = {"pointer": {}, "keyboard": {}, "phone": PHONE}
MOST_PRESSES = 3


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


@contextmanager
def visiting(chromium, program: Program, **options: object) -> Iterator[Visit]:
    """A page of a browser with these options that is logged in; nothing may fail on it or go elsewhere."""
    context = chromium.new_context(**options)
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


@pytest.fixture
def visit(chromium, program: Program) -> Iterator[Visit]:
    """Give a page of a browser that is logged in."""
    with visiting(chromium, program) as made:
        yield made


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
        rows = "[...document.querySelectorAll('.scroll tbody tr, .most li')].map((each) => each.clientHeight)"
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


@dataclass
class Operator:
    """An operator at night, who presses links and buttons, and counts the presses of each step."""

    page: object
    hand: str
    presses: int = 0

    def press(self, target) -> None:
        """Press a link or button, as soon as it is there."""
        target.wait_for()
        self.presses += 1
        if self.hand == "phone":
            assert not is_wider(self.page), self.page.url
            target.tap()
        elif self.hand == "pointer":
            target.click()
        else:
            self._tab_to(target)
            self.page.keyboard.press("Enter")

    def _tab_to(self, target) -> None:
        for _ in range(100):
            self.page.keyboard.press("Tab")
            if target.evaluate("(each) => each === document.activeElement"):
                return
        raise AssertionError(f"no Tab leads to {target}")

    def download(self, target) -> Path:
        """Press what gives a file, and return the file."""
        with self.page.expect_download() as download:
            self.press(target)
        return Path(download.value.path())

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A step of the story, which must not need more presses than an operator has patience for."""
        self.presses = 0
        yield
        assert self.presses <= MOST_PRESSES, f"{what}: {self.presses} presses"


def is_wider(page) -> bool:
    """Return True if a page is wider than its screen, once it has its style."""
    page.wait_for_load_state("load")
    return page.evaluate("document.documentElement.scrollWidth > window.screen.width")


@pytest.mark.parametrize("hand", HANDS)
def test_an_agent_is_stopped_at_night(chromium, program: Program, world: World, hand: str) -> None:
    """Find, see, cut off, keep off, prove and hand over take at most three presses each."""
    session = world.open(f"agent:stormy-{hand}", purpose="at night")
    name = session.id.hex()[:8]
    token = world.client.mint(session.id, ["read:mcp/github/* free *"], ["gateway"])
    # More denials than any session of an earlier test has.
    for action in ["read"] + ["write"] * (30 + 10 * list(HANDS).index(hand)):
        world.client.check(token, action, "mcp/github/drop", "{}", audience="gateway")
    with visiting(chromium, program, **HANDS[hand]) as visit:
        page, operator = visit.page, Operator(visit.page, hand)
        with operator.step("find"):
            first = page.locator(".most li").first
            playwright_api.expect(first).to_contain_text(session.subject, timeout=LONG)
            operator.press(first.get_by_role("link", name=name))
            expect_current(page, "at night")
        with operator.step("see"):
            operator.press(page.get_by_role("link", name="denied", exact=True))
            operator.press(page.get_by_label("Latest decisions").get_by_role("link").first)
            expect_current(page, "no scope of ceiling layer 0")
        with operator.step("cut off"):
            operator.press(page.get_by_role("link", name=session.id.hex()))
            operator.press(page.locator("#do-end"))
            operator.press(page.get_by_role("button", name="End this session"))
            expect_current(page, "CLOSED")
        assert not world.client.check(token, "read", "mcp/github/drop", "{}", audience="gateway")
        with operator.step("keep off"):
            operator.press(page.locator("#keep-off"))
            operator.press(page.get_by_role("button", name="End these sessions"))
            expect_current(page, "are refused until")
        with pytest.raises(Rejected):
            world.open(session.subject)
        with operator.step("prove"):
            operator.press(page.get_by_role("link", name="Sessions"))
            operator.press(page.get_by_role("link", name=f"Closure of {name}"))
            pack = operator.download(page.get_by_role("button", name="Evidence pack"))
        with operator.step("hand over"):
            receipt = operator.download(page.get_by_role("link", name="Signed receipt"))
            story = operator.download(page.get_by_role("button", name="Story"))
        home = world.service.made.home
        ran = invoke("--home", home, "evidence", "verify", pack, "--key", home / "audit" / "audit.pub")
        assert ran.code == 0 and "PROVEN" in ran.out, ran.out
        assert receipt.read_text().startswith("sessauth_receipt_")
        assert "end_session" in story.read_text()


@pytest.fixture(scope="module")
def places(world: World) -> list[str]:
    """Give the addresses of all pages, with something on each."""
    session = f"/sessions/{world.session.id.hex()}"
    ended, kept = world.open("agent:axe"), "subject=agent:axe-kept"
    world.client.end(ended.id)
    world.client.end_sessions(subject="agent:axe-kept", refuse_new_ms=600_000)
    scope = f'read:mcp/github/* free * needs approval(1, "{ApproverKey.generate().text}")'
    asking = world.open("agent:axe-asks", ceiling=["read:mcp/github/** free *"])
    token = world.client.mint(asking.id, [scope], ["gateway"])
    assert not world.client.check(token, "read", "mcp/github/get", "{}", audience="gateway")
    approval = world.client.list_approvals(session_id=asking.id).approvals[0].record
    return [
        *("/", "/?sort=denied", session, f"/sessions/{ended.id.hex()}/closure", "/approvals"),
        *(f"{session}/change/{kind}" for kind in ("end", "suspend", "narrow")),
        f"/approvals/{asking.id.hex()}/{approval.id.hex()}",
        *("/cut-off", "/cut-off?subject=agent:child", f"/cut-off/ban?{kept}", "/freeze"),
        *("/decisions", "/hosts", "/identity", "/token", "/nothing-here"),
    ]


def shown_pages(page, base: str, places: list[str]) -> Iterator[str]:
    """Show each page, one decision's, and the outcome of an end; yield the address of each."""
    for path in places:
        page.goto(base + path)
        yield path
    page.goto(f"{base}/decisions?verdict=denied")
    page.locator("tbody a").first.click()
    page.wait_for_url("**/decisions/*")
    yield "a decision"
    page.goto(f"{base}/cut-off?subject=agent:nobody")
    page.get_by_role("button", name="End these sessions").click()
    expect_current(page, "ENDED")
    yield "an outcome"


def test_no_page_is_wider_than_a_phone(chromium, program: Program, places: list[str]) -> None:
    """Nothing is scrolled sideways but tables, each by itself."""
    with visiting(chromium, program, **PHONE) as visit:
        wide = [path for path in shown_pages(visit.page, visit.base, places) if is_wider(visit.page)]
        visit.attacked = True
    assert wide == []


def test_every_page_is_accessible(chromium, program: Program, places: list[str]) -> None:
    """Rules of axe find nothing serious, in the light and in the dark, logged in and not."""
    if not AXE.exists():
        if os.environ.get("SESSAUTH_TEST_CHROMIUM"):
            pytest.fail(MISSING_AXE)
        pytest.skip(MISSING_AXE)
    rules, found = AXE.read_text("utf-8"), {}
    # The rules are a script of the test's own, which the policy of the pages refuses.
    for scheme in ("light", "dark"):
        with visiting(chromium, program, bypass_csp=True, color_scheme=scheme) as visit:
            visit.attacked = True

            def look(path: str, page=visit.page, scheme: str = scheme) -> None:
                page.evaluate(rules)
                found[scheme, path] = [each for each in page.evaluate(RUN_AXE) if each[0] in SERIOUS]

            for path in shown_pages(visit.page, visit.base, places):
                look(path)
            for path in (program.new_link(), program.origin + "/hosts"):
                visit.page.context.clear_cookies()
                visit.page.goto(path)
                look(path)
    assert {key: faults for key, faults in found.items() if faults} == {}


def test_ten_thousand_sessions_do_not_hitch(visit: Visit, program: Program) -> None:
    """Rows that a page holds don't grow with the sessions that there are."""
    page = visit.page
    page.goto(visit.base + "/?status=all")
    _updated(page)
    assert 0 < page.locator("tbody tr").count() <= 25
