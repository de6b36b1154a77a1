"""Sessions below a login: opened by tokens of an identity provider, and ended with the login's session."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessauth.client import Client
from sessauth.clock import FixedClock
from sessauth.errors import IdentityRefused, NotFound, Rejected, Unavailable, UsageError
from sessauth.model.session import EndCause, Session, SessionStatus
from sessauth.server.identity.login_sessions import OPENED, OWNER
from tests.support.identity_tokens import ISSUER, SERVICE, access_claims, claims, public_jwk, signed
from tests.support.service import Service, running

CEILING = ["read:tickets/**"]
MINUTE_MS = 60_000


class Provider:
    """An identity provider with a clock of its own: it signs tokens of a login now."""

    def __init__(self, keys_file: Path, clock: FixedClock) -> None:
        self.keys_file = keys_file
        self.clock = clock
        self.publish("RS256")

    def publish(self, *keys: str) -> None:
        """Publish these keys."""
        self.keys_file.write_text(json.dumps({"keys": [public_jwk(name) for name in keys]}))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a server that takes its tokens."""
        return {
            "name": "corp",
            "issuer": ISSUER,
            "audience": SERVICE,
            "clients": ["desk"],
            "algorithms": ["RS256", "ES256"],
            "jwks_file": str(self.keys_file),
            "labels": {"tenant": "{tid}"},
            "facts": ["acr"],
            "grants": [{"when": {"groups": "support"}, "ceiling": ["read:tickets/**", "write:tickets/**"]}],
        }

    def token(self, algorithm: str = "RS256", *, ago_s: int = 0, **changed: Any) -> str:
        """Return an ID token that was issued so long ago, of a login a minute before."""
        issued = self.clock.now_ms() // 1000 - ago_s
        times = {"iat": issued, "exp": issued + 300, "auth_time": self.clock.now_ms() // 1000 - 60}
        return signed(claims(**{"tid": "t1", "acr": "2", **times, **changed}), algorithm)


@pytest.fixture
def clock() -> FixedClock:
    """The clock of server and provider."""
    return FixedClock(time.time_ns() // 1_000_000_000 * 1000)


@pytest.fixture
def corp(tmp_path: Path, clock: FixedClock) -> Provider:
    """The provider."""
    return Provider(tmp_path / "corp.json", clock)


@pytest.fixture
def service(corp: Provider) -> Iterator[Service]:
    """A server that takes its tokens."""
    with running(corp.clock, identity_providers=[corp.settings]) as made:
        yield made


@pytest.fixture
def operator(service: Service) -> Iterator[Client]:
    """The operator's client."""
    with Client(
        str(service.made.socket), credential_file=service.made.credential_file, timeout_ms=20_000
    ) as made:
        yield made


@pytest.fixture
def desk(service: Service) -> Iterator[Client]:
    """The client of an orchestrator, an issuer."""
    credential = service.add("desk", "issuer").credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as made:
        yield made


def opened(client: Client, token: str, **terms: Any) -> Session:
    """Open an agent's session by a token."""
    return client.open_session(
        **{"subject": "agent:reader", "ceiling": CEILING, "identity_token": token, **terms}
    )


def fault_of(client: Client, token: str, **terms: Any) -> str:
    """Return the word that refuses an opening by a token."""
    with pytest.raises(IdentityRefused) as refused:
        opened(client, token, **terms)
    return refused.value.fault


def everything(client: Client) -> list[Session]:
    """Return all sessions."""
    return list(client.list_sessions().sessions)


def test_the_first_token_opens_the_session_of_the_login_too(
    desk: Client, operator: Client, corp: Provider, service: Service
) -> None:
    """Its terms are those of the mapping, and the agent's are the caller's."""
    agent = opened(desk, corp.token(act={"sub": "planner"}))
    login = operator.get_session(agent.parent_id)

    assert (agent.subject, agent.owner) == ("agent:reader", "desk")
    assert (login.subject, login.owner, login.parent_id) == ("user:ann", OWNER, b"")
    assert (login.lease_ms, len(login.ceilings[0])) == (900_000, 2)
    assert login.expires_at_ms == corp.clock.now_ms() - MINUTE_MS + 28_800_000
    assert {name: login.labels[name] for name in ("tenant", "provider", "sid", "actor")} == {
        "tenant": "t1",
        "provider": "corp",
        "sid": "s1",
        "actor": "planner",
    }
    assert [(fact.name, fact.value, fact.visible) for fact in login.facts] == [("acr", "2", False)]
    assert service.control is not None
    assert service.control.subsystems.logins.openings == {("corp", OPENED): 1}
