"""Two identity providers of other makers at one server: each proves, and ends, its own users alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import pytest

from sessauth.client import Client
from sessauth.clock import SystemClock
from sessauth.errors import IdentityRefused
from sessauth.model.session import Session, SessionStatus
from tests.support.identity_tokens import SERVICE
from tests.support.interop_server import INSTALLED, free_port
from tests.support.oidc_provider import CLIENT, REQUIRED, OidcProvider, node, oidc_provider
from tests.support.service import running, wait_until

VERSION = "8.2.3"
PROGRAM = INSTALLED / "node_modules" / ".bin" / "oauth2-mock-server"
CALLBACK = "http://127.0.0.1/callback"
# The one user that it knows.
USER = "johndoe"
CEILING = ["read:tickets/**"]


class _StopsAtClient(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class MockServer:
    """``oauth2-mock-server``: it logs in without a question, and its tokens say nothing of when."""

    def __init__(self, port: int) -> None:
        """Start it on a port of the loopback; returns once it answers."""
        self._process = subprocess.Popen(
            [node(), str(PROGRAM), "-a", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL
        )
        self.issuer = f"http://localhost:{port}"
        self._opener = build_opener(ProxyHandler({}), _StopsAtClient())
        try:
            assert wait_until(self._answers)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        try:
            self._opener.open(f"{self.issuer}/jwks", timeout=5).close()
        except OSError:
            return False
        return True

    def id_token(self) -> str:
        """Log its user in by a code; return the ID token."""
        query = {"response_type": "code", "client_id": CLIENT, "redirect_uri": CALLBACK}
        query |= {"scope": "openid", "state": "s", "nonce": "n"}
        with pytest.raises(HTTPError) as answer:
            self._opener.open(f"{self.issuer}/authorize?{urlencode(query)}", timeout=20)
        with answer.value as redirect:
            (code,) = parse_qs(urlsplit(redirect.headers["location"]).query)["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        request = Request(f"{self.issuer}/token", urlencode({**form, "client_id": CLIENT}).encode())
        with self._opener.open(request, timeout=20) as answered:
            found: str = json.loads(answered.read())["id_token"]
        return found

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def mock_server(port: int) -> Iterator[MockServer]:
    """Run it; skips the test where it is missing."""
    node()
    if not PROGRAM.exists():
        assert not os.environ.get(REQUIRED), "oauth2-mock-server is missing, and its test must not be skipped"
        pytest.skip(
            f"needs oauth2-mock-server: npm install --prefix {INSTALLED} oauth2-mock-server@{VERSION}"
        )
    made = MockServer(port)
    try:
        yield made
    finally:
        made.stop()


def entry(name: str, provider: OidcProvider | MockServer, **changed: Any) -> dict[str, Any]:
    """Return the settings of a provider, whose subjects have its name."""
    return {
        "name": name,
        "issuer": provider.issuer,
        "clients": [CLIENT],
        "insecure_http": True,
        "audience": SERVICE,
        "subject": f"{name}:{{sub}}",
        "grants": [{"ceiling": CEILING}],
        **changed,
    }


def opened(client: Client, token: str) -> Session:
    """Open an agent's session by an ID token."""
    return client.open_session(subject="agent:reader", ceiling=CEILING, identity_token=token)


def test_two_providers_share_a_server_and_nothing_else() -> None:
    """A user of one name at both: an end at one leaves the other's, also once the other is gone."""
    with (
        oidc_provider() as corp,
        mock_server(port := free_port()) as partner,
        running(
            SystemClock(),
            identity_providers=[entry("corp", corp), entry("partner", partner, require_auth_time=False)],
        ) as service,
        Client(
            str(service.made.socket), credential_file=service.made.credential_file, timeout_ms=20_000
        ) as operator,
    ):
        tokens = corp.login(USER)
        at_corp, at_partner = opened(operator, tokens.id_token), opened(operator, partner.id_token())
        logins = [operator.get_session(each.parent_id) for each in (at_corp, at_partner)]
        assert [each.subject for each in logins] == [f"corp:{USER}", f"partner:{USER}"]

        def statuses() -> list[SessionStatus]:
            return [operator.get_session(each.id).status for each in (at_corp, at_partner)]

        assert operator.cut_logins("corp", subject=USER).ended == 1
        assert statuses() == [SessionStatus.ENDED, SessionStatus.ACTIVE]
        with pytest.raises(IdentityRefused, match="IDENTITY_CUT"):
            opened(operator, tokens.id_token)

        kept = partner.id_token()
        partner.stop()
        # Its keys are known, and the other provider's logins need none of it.
        assert opened(operator, kept)
        assert wait_until(lambda: int(time.time()) > tokens.claims["auth_time"] + 1)
        assert opened(operator, corp.login(USER).id_token)
        with mock_server(port) as another:
            # Whoever takes the address has other keys, and the name of a key is not enough.
            forged = ".".join((kept.split(".")[0], *another.id_token().split(".")[1:]))
        with pytest.raises(IdentityRefused, match="IDENTITY_UNTRUSTED"):
            opened(operator, forged)
        assert operator.cut_logins("partner", subject=USER).ended >= 1
        assert statuses() == [SessionStatus.ENDED, SessionStatus.ENDED]
