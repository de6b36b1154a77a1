"""A logout at ``oidc-provider``, by its own statement to our gateway: every gateway denies at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sessauth.client import AsyncClient, Client
from sessauth.errors import IdentityRefused
from sessauth.gateways.http_server import address_of, bind, server_of
from sessauth.gateways.security_events import SecurityEventsApp
from sessauth.model.receipt import Receipt, ReceiptState
from sessauth.model.session import SessionStatus
from sessauth.server.process.init import initialise
from sessauth.verifier.verifier import Verifier
from tests.interop.test_oidc_provider import CEILING, opened, refreshed_later
from tests.support.oidc_provider import OidcProvider, oidc_provider
from tests.support.service import ServerProcess, Service, home_folder, serves, wait_until

SETTINGS = """
[[identity_providers]]
name = "corp"
issuer = "{issuer}"
clients = ["desk"]
insecure_http = true
[[identity_providers.grants]]
when = {{ groups = "support" }}
ceiling = ["read:tickets/**"]
"""
GATEWAYS = ("files", "mail", "search")


class Deployment:
    """A provider, a server that takes its tokens, and the gateway that carries its statements."""

    def __init__(self, stack: ExitStack) -> None:
        self._target: tuple[str, str] | None = None
        bound = stack.enter_context(bind("127.0.0.1:0"))
        signals = server_of(SecurityEventsApp(self._client))
        thread = threading.Thread(target=signals.run, kwargs={"sockets": [bound]})
        self.provider: OidcProvider = stack.enter_context(
            oidc_provider(f"http://{address_of(bound)}/logout/corp")
        )
        made = initialise(stack.enter_context(home_folder()))
        (made.home / "sessauth.toml").write_text(SETTINGS.format(issuer=self.provider.issuer))
        service = Service(made)
        credentials = {role: service.add(role, role).credential for role in ("security-events", "issuer")}
        server = ServerProcess.start(made.home)
        stack.callback(server.kill)
        assert wait_until(lambda: serves(service.operator)), server.log
        self._target = str(made.socket), credentials["security-events"]
        thread.start()
        stack.callback(thread.join)
        stack.callback(setattr, signals, "should_exit", True)
        self.desk = stack.enter_context(Client(str(made.socket), credentials["issuer"], timeout_ms=20_000))
        self.operator = stack.enter_context(
            Client(str(made.socket), credential_file=made.credential_file, timeout_ms=20_000)
        )
        self.verifiers = [
            stack.enter_context(Verifier.embedded(made.state_dir, audience=name)) for name in GATEWAYS
        ]

    def _client(self) -> AsyncClient:
        assert self._target is not None
        target, credential = self._target
        return AsyncClient(target, credential, timeout_ms=5_000)


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    """All of it."""
    with ExitStack() as stack:
        yield Deployment(stack)


def test_a_logout_at_the_provider_ends_all_agents(deployment: Deployment) -> None:
    """An agent, a sub-agent and a narrowed token of it; the user's other login lives on."""
    desk, provider = deployment.desk, deployment.provider
    login, elsewhere = provider.login("ann"), provider.login("ann")
    agent = opened(desk, login)
    token = desk.mint(agent.id, CEILING, GATEWAYS, ending="open")
    _, sub_token = desk.open_and_mint(
        CEILING, GATEWAYS, subject="agent:sub", ceiling=CEILING, parent_id=agent.id
    )
    other = opened(desk, elsewhere)
    tokens = [token.attenuate(scopes=["read:tickets/7"]).text, sub_token.text]

    def allowed() -> set[bool]:
        return {
            verifier.check(each, "read", "tickets/7").allowed
            for verifier in deployment.verifiers
            for each in tokens
        }

    assert allowed() == {True}
    provider.logout(login)

    assert allowed() == {False}
    operator = deployment.operator
    receipt = Receipt.decode(operator.get_receipt(agent.parent_id).payload)
    assert receipt.state is ReceiptState.CLOSED
    assert operator.get_session(agent.parent_id).reason == "corp: logout"
    assert operator.get_session(other.id).status is SessionStatus.ACTIVE
    for late in (login, refreshed_later(provider, login)):
        with pytest.raises(IdentityRefused) as refused:
            opened(desk, late)
        assert refused.value.fault == "IDENTITY_CUT"
    assert opened(desk, provider.login("ann"))


def test_a_logout_before_any_agent(deployment: Deployment) -> None:
    """The token that the user's program still has opens nothing."""
    login = deployment.provider.login("ann")
    deployment.provider.logout(login)
    with pytest.raises(IdentityRefused) as refused:
        opened(deployment.desk, login)
    assert refused.value.fault == "IDENTITY_CUT"
