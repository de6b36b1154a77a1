"""A server with audit and usage, sessions with calls, and the console before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from starlette.testclient import TestClient

from sessauth.cli.commands.local.evidence import console_files
from sessauth.cli.context import Settings
from sessauth.client import AsyncClient, Client
from sessauth.clock import SystemClock
from sessauth.console.app import application
from sessauth.console.logins import Logins
from sessauth.console.parts import ConsoleTerms
from sessauth.model.session import Session
from sessauth.tokens.token import Token
from tests.support.service import Service, running

HOST = "127.0.0.1:8099"
ORIGIN = f"http://{HOST}"
# Texts that agents write, and that try to be a page's own.
SCRIPT = "<script>document.title='taken'</script>"
IMAGE = "mcp/<img src=x onerror=document.title='taken'>/x"
HIDDEN = "\u202etxt.exe\u200b"


@dataclass(frozen=True)
class World:
    """A server, a client of its operator, and a session with a child and calls."""

    service: Service
    client: Client
    session: Session
    child: Session
    token: Token

    def open(self, subject: str = "agent:one", **terms: object) -> Session:
        """Open another session."""
        return self.client.open_session(
            **{"subject": subject, "ceiling": ["read:mcp/github/** free *"], **terms}
        )


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """Give a server that all tests of the console share."""
    with (
        running(audit={"enabled": True}, usage={"enabled": True}) as service,
        Client(f"unix:{service.made.socket}", timeout_ms=10_000) as client,
    ):
        session = client.open_session(
            subject="agent:orchestrator",
            purpose=f"ticket {SCRIPT}",
            ceiling=["read:mcp/** free *", "write:mcp/github/* free *"],
            lease_ms=3_600_000,
            labels={"team": "web"},
            facts={"case": HIDDEN},
        )
        child = client.open_session(
            subject="agent:child", parent_id=session.id, ceiling=["read:mcp/github/** free *"]
        )
        token = client.mint(session.id, ["read:mcp/github/* free *"], ["gateway"], label=SCRIPT)
        for number in range(5):
            client.check(token, "read", "mcp/github/get", f'{{"page": {number}}}', audience="gateway")
        client.check(token, "read", IMAGE, "{}", audience="gateway")
        client.check(token, "write", "mcp/github/drop", "{}", audience="gateway")
        yield World(service, client, session, child, token)


@dataclass
class Browser:
    """A browser without scripts."""

    http: TestClient
    logins: Logins
    codes: list[str]

    def get(self, path: str, **headers: str) -> str:
        """Return a page that must be there."""
        answer = self.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def form_token(self) -> str:
        """Return the token of the login's forms."""
        found = re.search(r'name="form_token" value="([^"]+)"', self.get("/"))
        assert found
        return found[1]

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form as the browser does; return the code and the page, redirects followed."""
        fields = {"form_token": self.form_token(), **fields}
        answer = self.http.post(path, data=fields, headers={"origin": ORIGIN})
        return answer.status_code, answer.text

    def log_in(self) -> None:
        """Use a new one-time link; paths are then below the login's prefix."""
        self.http.base_url = ORIGIN
        log_in(self.http, f"/login/{self.logins.new_link()}")

    def sign(self, path: str, shown: str) -> tuple[int, str]:
        """Press Sign, and type the code of the terminal; return the last code and page."""
        code, page = self.post(f"{path}/grant", shown=shown)
        if 'name="code"' not in page:
            return code, page
        return self.post(f"{path}/grant", shown=shown, code=self.codes[-1])


def log_in(http: TestClient, link: str) -> None:
    """Press the button of a one-time link; paths are then below the login's prefix."""
    answer = http.post(link, headers={"origin": ORIGIN}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    http.base_url = ORIGIN + answer.headers["location"]


@contextmanager
def console(
    world: World,
    *,
    login_ms: int = 3_600_000,
    timeout_ms: int = 10_000,
    connect: Callable[[], AsyncClient] | None = None,
    **terms: object,
) -> Iterator[Browser]:
    """A console, and a browser that is logged in."""
    logins = Logins(SystemClock(), login_ms=login_ms)
    target = f"unix:{world.service.made.socket}"
    codes: list[str] = []
    given = {
        "audit": world.service.made.home / "audit",
        "evidence": console_files(Settings(home=world.service.made.home, timeout_ms=10_000), ()),
        "show_code": lambda code, _: codes.append(code),
        **terms,
    }
    connect = connect or partial(AsyncClient, target, timeout_ms=timeout_ms)
    app = application(connect, logins, (HOST,), ConsoleTerms(**given))
    with TestClient(app, base_url=ORIGIN) as http:
        browser = Browser(http, logins, codes)
        browser.log_in()
        yield browser


@pytest.fixture(scope="package")
def reader(world: World) -> Iterator[Browser]:
    """Give a console that changes nothing."""
    with console(world) as browser:
        yield browser


@pytest.fixture(scope="package")
def changer(world: World) -> Iterator[Browser]:
    """Give a console that may change sessions."""
    with console(world, allow_changes=True) as browser:
        yield browser
