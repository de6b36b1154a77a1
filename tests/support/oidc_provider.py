"""An OpenID provider of another maker on loopback, and the logins of its users by a browser's redirects."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

import pytest

from tests.support.interop_server import INSTALLED

# An environment in which its absence fails: .ci/run has it.
REQUIRED: Final = "SESSAUTH_TEST_OIDC"
VERSION: Final = "9.13.3"
PACKAGE: Final = INSTALLED / "node_modules" / "oidc-provider"
CLIENT: Final = "desk"
MAX_AGE_S: Final = 3_600
_SCRIPT: Final = Path(__file__).with_suffix(".mjs")
_CALLBACK: Final = "http://127.0.0.1/callback"
_GOODBYE: Final = "http://127.0.0.1/goodbye"
_TIMEOUT_S: Final = 30.0
NO_HEADERS: Final[Mapping[str, str]] = {}


def node() -> str:
    """Return the path of Node; skips the test where it or the provider is missing."""
    found = shutil.which("node")
    if found is None or not PACKAGE.is_dir():
        assert not os.environ.get(REQUIRED), "oidc-provider is missing, and tests with it must not be skipped"
        pytest.skip(f"needs node and oidc-provider: npm install --prefix {INSTALLED} oidc-provider@{VERSION}")
    return found


class _StopsAtClient(HTTPRedirectHandler):
    """Follows the provider's redirects; one to an address of the client is the last answer."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the next request; None at the client's address."""
        if newurl.partition("?")[0] in (_CALLBACK, _GOODBYE):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _browser() -> OpenerDirector:
    """Return a browser without cookies: its login is another one."""
    return build_opener(ProxyHandler({}), HTTPCookieProcessor(), _StopsAtClient())


@dataclass(frozen=True)
class LoginTokens:
    """The tokens of a login, and the browser that it was made with."""

    id_token: str = field(repr=False)
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    browser: OpenerDirector = field(repr=False)

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the ID token."""
        return read_part(self.id_token, 1)


def read_part(token: str, number: int) -> dict[str, Any]:
    """Return the header (0) or the claims (1) of a JWT; nothing is verified."""
    text = token.split(".")[number]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


class OidcProvider:
    """A provider that runs as a process; its client is ``desk``."""

    def __init__(self, logout_uri: str = "") -> None:
        """Start it; returns once it answers. It posts logout tokens to ``logout_uri``."""
        pipe = subprocess.PIPE
        # Its input ends with this process, however that ends, and it then ends too.
        self._process = subprocess.Popen(
            [node(), str(_SCRIPT), str(PACKAGE), logout_uri], stdin=pipe, stdout=pipe, text=True
        )
        self.issuer = self._line()

    def login(
        self, account: str, service: str = "", prove: Callable[[str], str] | None = None
    ) -> LoginTokens:
        """Log an account in with a browser of its own: a code with PKCE, changed for tokens.

        Its access token is for ``service``, if that is stated. ``prove`` returns a proof (DPoP) for an
        address; with it the access token is bound to the key of the proof.
        """
        browser, verifier, state = _browser(), secrets.token_urlsafe(32), secrets.token_urlsafe(8)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": CLIENT,
            "redirect_uri": _CALLBACK,
            "response_type": "code",
            "scope": "openid offline_access groups",
            # It gives a refresh token for offline_access only with the user's consent.
            "prompt": "consent",
            "login_hint": account,
            "max_age": str(MAX_AGE_S),
            "nonce": secrets.token_urlsafe(8),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **({"resource": service} if service else {}),
        }
        answer = _last_redirect(browser, f"{self.issuer}/auth?{urlencode(query)}")
        assert (answer["state"], answer["iss"]) == (state, self.issuer), answer
        grant = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": _CALLBACK}
        if service:
            grant["resource"] = service
        headers = {"DPoP": prove(f"{self.issuer}/token")} if prove else {}
        return self._tokens(browser, {**grant, "code_verifier": verifier}, headers)

    def refresh(self, tokens: LoginTokens) -> LoginTokens:
        """Return new tokens of a login; its refresh token is used up."""
        return self._tokens(
            tokens.browser, {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
        )

    def logout(self, tokens: LoginTokens) -> None:
        """Log a login out (OpenID Connect RP-Initiated Logout 1.0), and confirm it in the provider's form.

        Returns after the provider has tried to post its logout token.
        """
        query = {"id_token_hint": tokens.id_token, "post_logout_redirect_uri": _GOODBYE, "state": "left"}
        with tokens.browser.open(f"{self.issuer}/session/end?{urlencode(query)}", timeout=_TIMEOUT_S) as page:
            text = page.read().decode()
        action, secret = (
            re.search(pattern, text) for pattern in (r'action="([^"]+)"', r'name="xsrf" value="([^"]+)"')
        )
        assert action and secret, text
        confirmed = urlencode({"xsrf": secret[1], "logout": "yes"}).encode()
        assert _last_redirect(tokens.browser, action[1], confirmed) == {"state": "left"}

    def rotate_keys(self) -> str:
        """Have it sign by another key from now on; returns the name of that."""
        assert self._process.stdin is not None
        self._process.stdin.write("rotate\n")
        self._process.stdin.flush()
        return self._line()

    def stop(self) -> None:
        """End it, if it runs."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the provider ended"
        return line

    def _tokens(
        self, browser: OpenerDirector, grant: Mapping[str, str], headers: Mapping[str, str] = NO_HEADERS
    ) -> LoginTokens:
        body = urlencode({"client_id": CLIENT, **grant}).encode()
        request = Request(f"{self.issuer}/token", body, dict(headers))
        with browser.open(request, timeout=_TIMEOUT_S) as answer:
            found = json.loads(answer.read())
        return LoginTokens(found["id_token"], found["access_token"], found["refresh_token"], browser)


def _last_redirect(browser: OpenerDirector, address: str, body: bytes | None = None) -> dict[str, str]:
    """Return the query of the client's address that a request leads to by redirects."""
    try:
        with browser.open(address, body, timeout=_TIMEOUT_S) as answer:
            raise AssertionError(f"{answer.status} is no redirect to the client: {answer.read()[:1000]!r}")
    except HTTPError as error:
        with error:
            location, text = error.headers["location"], error.read()
    assert location is not None, text
    return dict(parse_qsl(urlsplit(location).query))


@contextmanager
def oidc_provider(logout_uri: str = "") -> Iterator[OidcProvider]:
    """Run a provider."""
    provider = OidcProvider(logout_uri)
    try:
        yield provider
    finally:
        provider.stop()
