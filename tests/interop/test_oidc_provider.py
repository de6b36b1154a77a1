"""``oidc-provider`` as the identity provider: what its tokens open, and what it posts at a logout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from sessauth.client import Client
from sessauth.clock import SystemClock
from sessauth.errors import IdentityRefused
from sessauth.model.session import Session
from sessauth.server.identity.key_sets import fetch_keys
from sessauth.server.identity.providers import IdentityProvider
from sessauth.server.identity.statements import verify_logout
from tests.support.identity_tokens import SERVICE, bound_to, key_proof
from tests.support.oidc_provider import CLIENT, MAX_AGE_S, LoginTokens, OidcProvider, oidc_provider, read_part
from tests.support.service import Service, running, wait_until

CEILING = ["read:tickets/**"]
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
MINUTE_MS = 60_000


class MovedClock(SystemClock):
    """The machine's clock, and how far a server is ahead of it in ms."""

    ahead_ms = 0

    def now_ms(self) -> int:
        """Return the wall time in ms."""
        return super().now_ms() + self.ahead_ms

    def steady_ms(self) -> int:
        """Return the monotonic time in ms."""
        return super().steady_ms() + self.ahead_ms


@dataclass
class LogoutReceiver:
    """Requests that a client got at the address for its logouts, and the status that it answers with."""

    status: int = 200
    address: str = ""
    requests: list[tuple[str, Message, bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[LogoutReceiver]:
    """A client's address for logouts."""
    received = LogoutReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Keep the request."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, self.headers, body))
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.address = f"http://127.0.0.1:{server.server_port}/logout/corp"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def provider(receiver: LogoutReceiver) -> Iterator[OidcProvider]:
    """The provider."""
    with oidc_provider(receiver.address) as made:
        yield made


@pytest.fixture
def settings(provider: OidcProvider) -> dict[str, Any]:
    """The settings of a server that takes its tokens; the keys are found below the issuer."""
    return {
        "name": "corp",
        "issuer": provider.issuer,
        "clients": [CLIENT],
        "insecure_http": True,
        "audience": SERVICE,
        "proof_origin": SERVICE,
        "facts": ["groups"],
        "grants": [{"when": {"groups": "support"}, "ceiling": CEILING}],
    }


@pytest.fixture
def clock() -> MovedClock:
    """The server's clock."""
    return MovedClock()


@pytest.fixture
def service(clock: MovedClock, settings: dict[str, Any]) -> Iterator[Service]:
    """The server."""
    with running(clock, identity_providers=[settings]) as made:
        yield made


@pytest.fixture
def operator(service: Service) -> Iterator[Client]:
    """The operator's client."""
    file = service.made.credential_file
    with Client(str(service.made.socket), credential_file=file, timeout_ms=20_000) as made:
        yield made


@pytest.fixture
def desk(service: Service) -> Iterator[Client]:
    """The client of an orchestrator, an issuer."""
    credential = service.add("desk", "issuer").credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as made:
        yield made


def opened(client: Client, tokens: LoginTokens) -> Session:
    """Open an agent's session by an ID token."""
    return client.open_session(subject="agent:reader", ceiling=CEILING, identity_token=tokens.id_token)


def refreshed_later(provider: OidcProvider, tokens: LoginTokens) -> LoginTokens:
    """Return the tokens of a refresh in a later second than the present one."""
    present = int(time.time())
    assert wait_until(lambda: int(time.time()) > present)
    return provider.refresh(tokens)


def logout_token(receiver: LogoutReceiver) -> str:
    """Return the token of the one logout, which came as a form with nothing else."""
    ((path, headers, body),) = receiver.requests
    assert path == "/logout/corp"
    assert headers.get_content_type() == "application/x-www-form-urlencoded"
    form = parse_qs(body.decode("ascii"), strict_parsing=True)
    assert form.keys() == {"logout_token"}
    (token,) = form["logout_token"]
    return token


def test_an_id_token_opens_an_agents_session_below_its_login(
    provider: OidcProvider, desk: Client, operator: Client
) -> None:
    """Each login of a user is one of its own, with the groups that the provider states."""
    first, second = provider.login("ann"), provider.login("ann")
    agent, sibling, other = opened(desk, first), opened(desk, first), opened(desk, second)
    login = operator.get_session(agent.parent_id)

    assert first.claims["sid"] != second.claims["sid"]
    assert sibling.parent_id == agent.parent_id != other.parent_id
    assert (login.subject, login.labels["provider"]) == ("user:ann", "corp")
    assert login.labels["sid"] == first.claims["sid"]
    assert [(fact.name, fact.value) for fact in login.facts] == [("groups", '["staff","support"]')]


def test_a_refreshed_token_renews_and_has_the_time_of_its_login(
    provider: OidcProvider, desk: Client, operator: Client, clock: MovedClock
) -> None:
    """The refreshed one is fresh by its later ``iat``; the token that opened is not."""
    first = provider.login("ann")
    agent = opened(desk, first)
    before = operator.get_session(agent.parent_id).lease_deadline_ms
    refreshed = refreshed_later(provider, first)
    clock.ahead_ms = 8 * MINUTE_MS

    assert {name: refreshed.claims[name] for name in ("sub", "sid", "auth_time")} == {
        name: first.claims[name] for name in ("sub", "sid", "auth_time")
    }
    assert refreshed.claims["iat"] > first.claims["iat"]
    with pytest.raises(IdentityRefused, match="issued before the last renewal"):
        desk.keep_alive(agent.id, identity_token=first.id_token)
    assert desk.keep_alive(agent.id, identity_token=refreshed.id_token) >= before + 8 * MINUTE_MS


def test_an_access_token_of_a_key_opens_by_a_proof_of_it(
    provider: OidcProvider, settings: dict[str, Any]
) -> None:
    """The provider binds it to the key of the proof that it was asked with (RFC 9449, section 5)."""
    # Its access tokens have neither the time of the login nor the claims of the user.
    lenient = {**settings, "require_auth_time": False, "facts": [], "grants": [{"ceiling": CEILING}]}

    def proof(token: str = "", **more: Any) -> str:
        return key_proof(token, iat=int(time.time()), **more)

    with running(identity_providers=[lenient]) as service:
        # The server takes no proof that is older than its memory of used ones, and these have whole seconds.
        present = int(time.time())
        assert wait_until(lambda: int(time.time()) > present)
        tokens = provider.login("ann", SERVICE, lambda address: proof(htu=address, ath=None))
        token = tokens.access_token
        terms: dict[str, Any] = {"subject": "a", "ceiling": CEILING, "identity_token": token}
        place, file = str(service.made.socket), service.made.credential_file
        with Client(place, credential_file=file, timeout_ms=20_000) as client:
            shown = proof(token)
            assert client.get_session(client.open_session(**terms, identity_proof=shown).parent_id)
            for wrong in ("", proof(token, algorithm="EdDSA"), proof(tokens.id_token)):
                with pytest.raises(IdentityRefused, match="IDENTITY_PROOF_REQUIRED"):
                    client.open_session(**terms, identity_proof=wrong)
            with pytest.raises(IdentityRefused, match="IDENTITY_REPLAYED"):
                client.open_session(**terms, identity_proof=shown)

    assert read_part(token, 0)["typ"] == "at+jwt"
    assert read_part(token, 1)["cnf"] == bound_to("ES256")


def test_a_rotated_key_is_found(provider: OidcProvider, desk: Client) -> None:
    """The next login and the refresh of an earlier one open, and the earlier token by its key still does."""
    first = provider.login("ann")
    agent = opened(desk, first)
    name = provider.rotate_keys()
    second = provider.login("bob")

    assert read_part(first.id_token, 0)["kid"] != name == read_part(second.id_token, 0)["kid"]
    assert opened(desk, second).parent_id != agent.parent_id
    assert opened(desk, provider.refresh(first)).parent_id == agent.parent_id
    assert opened(desk, first).parent_id == agent.parent_id


def test_a_key_that_is_no_longer_published_opens_nothing(
    provider: OidcProvider, desk: Client, clock: MovedClock
) -> None:
    """A token of it is refused once the keys are fetched again, however young the token is."""
    tokens = provider.login("ann")
    opened(desk, tokens)
    provider.rotate_keys()
    provider.rotate_keys()
    clock.ahead_ms = 11 * MINUTE_MS

    with pytest.raises(IdentityRefused) as refused:
        opened(desk, tokens)
    assert refused.value.fault == "IDENTITY_UNTRUSTED"
    opened(desk, provider.refresh(tokens))


def test_openings_go_on_without_the_provider(provider: OidcProvider, desk: Client, clock: MovedClock) -> None:
    """The known keys count, also after they were due to be fetched again."""
    tokens, unused = provider.login("ann"), provider.login("bob")
    agent = opened(desk, tokens)
    provider.stop()
    clock.ahead_ms = 11 * MINUTE_MS

    assert opened(desk, tokens).parent_id == agent.parent_id
    assert opened(desk, unused).parent_id != agent.parent_id


def test_pyjwt_judges_the_tokens_alike(provider: OidcProvider, receiver: LogoutReceiver) -> None:
    """The second opinion of another library, on the ID token and the logout token."""
    jwt = pytest.importorskip("jwt", reason="needs PyJWT, which is no dependency: pip install pyjwt")
    tokens = provider.login("ann")
    provider.logout(tokens)
    keys = jwt.PyJWKClient(f"{provider.issuer}/jwks")

    for token in (tokens.id_token, logout_token(receiver)):
        key = keys.get_signing_key_from_jwt(token)
        meant = {"algorithms": ["RS256"], "issuer": provider.issuer}
        assert jwt.decode(token, key, audience=CLIENT, **meant) == read_part(token, 1)
        with pytest.raises(jwt.InvalidAudienceError):
            jwt.decode(token, key, audience="mail", **meant)


def test_a_logout_posts_a_token_that_names_the_login(
    provider: OidcProvider, receiver: LogoutReceiver, settings: dict[str, Any], tmp_path: Path
) -> None:
    """OpenID Connect Back-Channel Logout 1.0, section 2.4: its claims, and the server reads the same."""
    tokens = provider.login("ann")
    provider.logout(tokens)
    token = logout_token(receiver)
    header, claims = read_part(token, 0), read_part(token, 1)

    assert (header["typ"], header["alg"]) == ("logout+jwt", "RS256")
    assert claims.keys() == {"iss", "aud", "iat", "exp", "jti", "events", "sub", "sid"}
    assert (claims["iss"], claims["aud"], claims["events"]) == (provider.issuer, CLIENT, {LOGOUT_EVENT: {}})
    assert (claims["sub"], claims["sid"]) == ("ann", tokens.claims["sid"])
    assert claims["exp"] == claims["iat"] + 120
    corp = IdentityProvider.from_table("identity_providers[0]", settings)
    keys = fetch_keys(corp, tmp_path)
    signal = verify_logout(token, "corp", [corp], lambda *_: keys, claims["iat"] * 1000 + 999)
    assert (signal.named[0].sid, signal.named[1].subject, signal.token_id) == (
        tokens.claims["sid"],
        "ann",
        claims["jti"],
    )
    assert signal.moment_ms // 1000 == claims["iat"] >= tokens.claims["auth_time"]


def test_a_logout_is_posted_once(provider: OidcProvider, receiver: LogoutReceiver) -> None:
    """One that the client failed to take is not repeated, and the user is logged out all the same."""
    receiver.status = 503
    tokens = provider.login("ann")
    provider.logout(tokens)

    assert len(receiver.requests) == 1


def test_a_login_still_refreshes_after_its_logout(
    provider: OidcProvider, desk: Client, operator: Client
) -> None:
    """A refresh token for offline access outlives the logout; its tokens open nothing of an ended login."""
    tokens = provider.login("ann")
    agent = opened(desk, tokens)
    provider.logout(tokens)
    operator.end(agent.parent_id, "logged out")
    refreshed = refreshed_later(provider, tokens)

    assert refreshed.claims["sid"] == tokens.claims["sid"]
    assert refreshed.claims["auth_time"] == tokens.claims["auth_time"] > time.time() - MAX_AGE_S
    assert refreshed.claims["iat"] > tokens.claims["iat"]
    with pytest.raises(IdentityRefused) as refused:
        opened(desk, refreshed)
    assert refused.value.fault == "IDENTITY_SESSION_ENDED"
    assert opened(desk, provider.login("ann")).parent_id != agent.parent_id
