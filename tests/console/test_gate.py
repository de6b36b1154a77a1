"""Access to the pages of the console, and their headers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import socket
import threading
from collections import ChainMap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessauth.clock import SystemClock
from sessauth.console import board, logins, serving
from sessauth.console.gate import HEADERS, MAX_FORM_BYTES
from tests.console.conftest import HOST, ORIGIN, Browser, World, console


def test_every_answer_has_the_headers(reader: Browser) -> None:
    """Pages, files, refusals, redirects and unknown addresses say what a browser may do with them."""
    for path in ("/", "/static/console.js", "/login/wrong", "/nothing-here", "/sessions/zz"):
        for host in (HOST, "evil.example"):
            for place in (ORIGIN, ""):
                answer = reader.http.get(place + path, headers={"host": host}, follow_redirects=False)
                assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path

    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8099", "127.0.0.1", "127.0.0.1:8098", ""])
def test_another_host_is_not_answered(reader: Browser, host: str) -> None:
    """A name that was rebound to this address gets nothing, whatever its cookies are."""
    answer = reader.http.get("/", headers={"host": host})

    assert answer.status_code == 421
    assert "agent:" not in answer.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_page_of_another_port_loads_a_part(reader: Browser, site: str) -> None:
    """Not as an image, a frame or a fetch, although a browser sends the cookie; a link is followed."""
    for part in ("image", "iframe", "empty", "object", ""):
        answer = reader.http.get(
            "/decisions?whole=1", headers={"sec-fetch-site": site, "sec-fetch-dest": part}
        )
        assert answer.status_code == 403 and "Decisions" not in answer.text
    for own in ("same-origin", "none"):
        headers = {"sec-fetch-site": own, "sec-fetch-dest": "empty"}
        assert reader.http.get("/", headers=headers).status_code == 200
    link = {"sec-fetch-site": site, "sec-fetch-dest": "document"}
    assert reader.http.get("/", headers=link).status_code == 200


def test_nobody_sees_a_page_without_a_login(world: World) -> None:
    """Without a login each page is the way to one, and no change is made."""
    with console(world, allow_changes=True) as browser:
        browser.http.cookies.clear()
        session = world.open()
        for path in ("/", f"/sessions/{session.id.hex()}", f"/sessions/{session.id.hex()}/receipt"):
            answer = browser.http.get(path)
            assert answer.status_code == 401
            assert "one-time link" in answer.text and session.subject not in answer.text
        path = f"/sessions/{session.id.hex()}/change/end"
        answer = browser.http.post(path, data={"epoch": "1"}, headers={"origin": ORIGIN})
        assert answer.status_code == 401
        assert world.client.get_session(session.id).status.name == "ACTIVE"


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_every_route_is_behind_the_gate(world: World) -> None:
    """Each path and method, those to come too: its own host and site, a login, and a form of that login."""
    with console(world, allow_changes=True) as browser:
        routes = browser.http.app._app.routes  # type: ignore[attr-defined]
        paths = [re.sub(r"{\w+}", "00" * 16, each.path) for each in routes if isinstance(each, Route)]
        assert len(paths) > 15
        right = f"form_token={browser.form_token()}"
        own, none, other = {"origin": ORIGIN}, {"cookie": "x=y"}, {"origin": "http://127.0.0.1:8098"}
        part = {"sec-fetch-site": "same-site", "sec-fetch-dest": "empty"}
        for path, method in itertools.product(paths, METHODS):

            def code(form: str, *headers: dict[str, str], path: str = path, method: str = method) -> int:
                sent = dict(ChainMap(*headers, {"content-type": "application/x-www-form-urlencoded"}))
                http = browser.http
                return http.request(
                    method, path, content=form, headers=sent, follow_redirects=False
                ).status_code

            assert code(right, own, {"host": "evil.example"}) == 421
            assert code(right, own, part) == 403
            if path.startswith("/login/"):
                continue
            assert code(right, own, none) == 401, (method, path)
            if method not in ("GET", "HEAD"):
                refused = [code(right), code(right, other), code(right[:-1], own), code("", own)]
                assert refused == [403] * 4, (method, path)
                if path != "/logout":
                    assert code(right, own) in (200, 400, 404, 405) or path.endswith("/grant")


def test_an_address_of_nothing_is_a_page(world: World) -> None:
    """It has a title and a way back, for those who are logged in; a request for no path is answered too."""
    with console(world) as browser:
        for method, path in (("GET", "/nothing-here"), ("GET", "/static-"), ("PUT", "/hosts")):
            headers = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}
            form = f"form_token={browser.form_token()}"
            answer = browser.http.request(method, path, headers=headers, content=form)
            assert answer.status_code == 404 and "There is no such page" in answer.text
            assert '<html lang="en">' in answer.text and "Sessions</a>" in answer.text
        scope = {"type": "http", "method": "OPTIONS", "path": "*", "headers": [(b"host", HOST.encode())]}
        given = {"query_string": b"", "scheme": "http", "server": ("127.0.0.1", 8099)}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(browser.http.app({**scope, **given}, None, send))  # type: ignore[arg-type]
        assert sent[0]["status"] == 401


def test_static_files_lead_nowhere_else(world: World) -> None:
    """The folder that needs no login has its own files alone, however the address is written."""
    with console(world) as browser:
        browser.http.cookies.clear()
        for path in (
            "%2e%2e/",
            "%2e%2e/parts.py",
            "..%2fparts.py",
            "%2e%2e/%2e%2e/errors.py",
            "",
            "x/../../hosts",
        ):
            assert browser.http.get(f"{ORIGIN}/static/{path}").status_code in (401, 404), path
        assert browser.http.get(f"{ORIGIN}/static/console.css").status_code == 200


def test_the_way_on_leads_to_this_console(world: World) -> None:
    """The link of the page of those who are not logged in never leads to another site."""
    with console(world) as browser:
        browser.http.cookies.clear()
        for path in (
            "//evil.example/x",
            "/%5cevil.example/x",
            "/%2f%5c/evil.example/x",
            # Browsers take tabs and line feeds out of an address.
            "/%09/evil.example/x",
            "/%0a%5cevil.example/x",
            "/%0d%09//evil.example/x",
        ):
            page = browser.http.get(f"{ORIGIN}{path}").text
            (link,) = re.findall(r'href="([^"]*evil[^"]*)"', page)
            assert re.match(r"/[A-Za-z0-9%]", link), path
        assert (
            'href="/decisions?session=ab&amp;x=%22"'
            in browser.http.get(f"{ORIGIN}/decisions?session=ab&x=%22").text
        )


def test_a_link_logs_in_once(world: World) -> None:
    """A button makes one login, an older or wrong link none; programs that look at a link use up nothing."""
    with console(world) as browser:
        http, own = browser.http, {"origin": ORIGIN}
        http.cookies.clear()
        older, link = (f"{ORIGIN}/login/{browser.logins.new_link()}" for _ in range(2))
        assert http.get(older).status_code == http.post(older, headers=own).status_code == 401
        for _ in range(2):
            assert http.head(link).status_code == 200 and "Log in here" in http.get(link).text
        for foreign in ({}, {"origin": "null"}, {"origin": "http://127.0.0.1:3001"}):
            assert http.post(link, headers=foreign).status_code == 403
        first = http.post(link, headers=own)
        assert first.status_code == 200
        cookie = first.request.headers["cookie"]
        http.cookies.clear()
        assert http.post(link, headers=own).status_code == 401
        assert http.get(str(first.url), headers={"cookie": cookie}).status_code == 200


def test_the_cookie_is_for_the_pages_of_its_login_alone(world: World) -> None:
    """Scripts can't read it, no other site's page sends it, and it is for a path that no other port knows."""
    with console(world) as browser:
        link = f"{ORIGIN}/login/{browser.logins.new_link()}"
        answer = browser.http.post(link, headers={"origin": ORIGIN}, follow_redirects=False)
        cookie, *words = answer.headers["set-cookie"].split("; ")
        place = answer.headers["location"]
        assert sorted(words) == ["HttpOnly", f"Path={place}", "SameSite=strict"]
        assert re.fullmatch(r"/[A-Za-z0-9_-]{22}/", place)
        browser.http.cookies.clear()
        other = f"/{'A' * 22}/"
        for path, code in ((place, 200), ("/", 401), (other, 401), (f"{place}login/x", 404)):
            assert browser.http.get(ORIGIN + path, headers={"cookie": cookie}).status_code == code, path
        # Another port of the host sets a cookie of the name, for every path: it comes last or first.
        name = cookie.partition("=")[0]
        for both in (f"{cookie}; {name}=theirs", f"{name}=theirs; {cookie}"):
            assert browser.http.get(ORIGIN + place, headers={"cookie": both}).status_code == 200


def test_a_login_is_of_one_user_of_the_machine() -> None:
    """Another user's request with its cookie is of no login, nor is one whose user is not known."""
    kept = logins.Logins(SystemClock())
    cookie, login = kept.use_link(kept.new_link(), 1000) or ("", None)
    assert login
    for uid, found in ((1000, login), (1001, None), (0, None), (None, None)):
        assert kept.find([cookie], login.prefix, uid) is found
    assert kept.find([cookie], "", 1000) is None


@pytest.mark.skipif(not serving.SOCKETS.exists(), reason="needs Linux's table of connections")
def test_the_user_of_a_connection_is_known() -> None:
    """The system states who is at the other end, until that end begins to close."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as peer, server.accept()[0] as own:
            ends = own.getpeername(), own.getsockname()
            assert serving.connected_uid(*ends) == os.getuid()
            peer.shutdown(socket.SHUT_WR)
            assert own.recv(1) == b""
            assert serving.connected_uid(*ends) is None
        assert serving.connected_uid(("127.0.0.1", 1), ends[1]) is None


@pytest.fixture
def answering() -> Iterator[tuple[str, int]]:
    """Give the address of a server as the console has it."""

    async def peer(request: Request) -> Response:
        return Response(str(request.state.peer_uid))

    app = Starlette(routes=[Route("/", peer)])
    bound = serving.bind(0)
    server = serving.server_of(app)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    yield bound.getsockname()
    server.should_exit = True
    thread.join()
    bound.close()


def _ask(connection: socket.socket) -> str:
    """Send a request over a connection, and return the answer's text."""
    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.read().decode()


def test_silent_connections_keep_nobody_out(answering: tuple[str, int]) -> None:
    """The oldest of many give way, also after an answer; a request among them is answered."""
    user = str(os.getuid()) if serving.SOCKETS.exists() else "None"
    with contextlib.ExitStack() as stack:
        silent = []
        for number in range(serving.MAX_CONNECTIONS + 10):
            silent.append(stack.enter_context(socket.create_connection(answering, 30)))
            if number % 2:
                assert _ask(silent[-1]) == user
        with socket.create_connection(answering, 30) as asks:
            assert _ask(asks) == user
        for each in silent[: -serving.MAX_SILENT]:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1000) == b""


def test_a_silent_connection_ends(answering: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a complete head of a request is closed, whatever trickles in."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    for begun in (b"", b"GET / HTTP/1.1\r\n"):
        with socket.create_connection(answering, 30) as silent:
            silent.sendall(begun)
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1000) == b""


def test_a_login_ends(world: World) -> None:
    """A login that is over is none, and the page says how to go on; so it does behind a log out."""
    with console(world, login_ms=1) as browser:
        answer = browser.http.get("/")
        assert answer.status_code == 401 and "Enter" in answer.text
    with console(world) as browser:
        assert browser.post("/logout")[0] == 401


@pytest.mark.parametrize("way", ["log out", "too many"])
def test_a_page_that_is_open_ends_with_its_login(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Nothing more is sent to it behind a logout, nor when another login took its place."""
    began = threading.Event()
    sent = board._event

    def noted(name: str, html: str) -> bytes:
        began.set()
        return sent(name, html)

    monkeypatch.setattr(board, "_event", noted)
    monkeypatch.setattr(board, "TICK_S", board.LIVE_PAUSE_S)
    with console(world) as browser, ThreadPoolExecutor(1) as pool:
        page = pool.submit(browser.http.get, "/", headers={"accept": board.EVENT_STREAM})
        assert began.wait(30)
        if way == "log out":
            assert browser.post("/logout")[0] == 401
        else:
            for _ in range(logins.MAX_LOGINS):
                assert browser.logins.use_link(browser.logins.new_link())
        assert page.result(30).text.endswith('event: over\ndata: ""\n\n')


def test_a_form_of_another_site_does_nothing(world: World, changer: Browser) -> None:
    """A change needs the console's own origin and the token of the login; so does a preview."""
    session = world.open()
    path = f"/sessions/{session.id.hex()}/change/end"
    right = {"form_token": changer.form_token(), "epoch": "1", "reason": "x"}
    for fields, headers in (
        (right, {"origin": "http://evil.example"}),
        (right, {"origin": "null"}),
        (right, {}),
        ({**right, "form_token": ""}, {"origin": ORIGIN}),
        ({**right, "form_token": "0" * 43}, {"origin": ORIGIN}),
        ({"epoch": "1"}, {"origin": ORIGIN}),
    ):
        assert changer.http.post(path, data=fields, headers=headers).status_code == 403
    too_long = {**right, "reason": "x" * MAX_FORM_BYTES}
    assert changer.http.post(path, data=too_long, headers={"origin": ORIGIN}).status_code == 413
    body = '{"form_token": "x"}'
    assert changer.http.post(path, content=body, headers={"origin": ORIGIN}).status_code == 403

    assert world.client.get_session(session.id).status.name == "ACTIVE"


def test_read_only_changes_nothing(world: World, reader: Browser) -> None:
    """Without --allow-changes the previews are there, and neither a button nor its form is taken."""
    session = world.open()
    for kind in ("end", "suspend", "narrow", "resume"):
        path = f"/sessions/{session.id.hex()}/change/{kind}"
        assert f"{kind.capitalize()} this session" not in reader.get(path)
        code, text = reader.post(path, epoch="1", step="do", scopes="read:x")
        assert code == 403 and "only shows" in text

    assert world.client.get_session(session.id).epoch == session.epoch
