"""Logouts that were answered outlive the server's death, again and again; nothing else ends."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random

import httpx

from sessauth.client import AsyncClient, Client
from sessauth.errors import IdentityRefused, SessauthError
from sessauth.gateways.http_server import address_of, bind, server_of
from sessauth.gateways.security_events import SecurityEventsApp
from sessauth.model.session import SessionStatus
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from tests.support.cases import CASES
from tests.support.identity_tokens import ISSUER, SERVICE, claims, public_jwk, signed
from tests.support.service import ServerProcess, home_folder, wait_until

ROUNDS = max(20, CASES // 1_000)
CEILING = ["read:tickets/**"]
EVENT = "http://schemas.openid.net/event/backchannel-logout"
PROVIDER = f"""
[[identity_providers]]
name = "corp"
issuer = "{ISSUER}"
audience = "{SERVICE}"
clients = ["desk"]
jwks_file = "corp.json"
lease_ms = 0
grants = [{{ ceiling = ["read:tickets/**"] }}]
"""


@dataclass(eq=False)
class Login:
    """A login, the session of an agent below it, and the agent's token."""

    user: str
    sid: str
    at_s: int
    agent_id: bytes = b""
    token: str = ""

    def identity_token(self) -> str:
        """Return a token of now."""
        now_s = int(time.time())
        terms = {"iat": now_s, "exp": now_s + 300, "auth_time": self.at_s}
        return signed(claims(sub=self.user, sid=self.sid, **terms), "ES256")


@contextmanager
def gateway(target: Path, credential: str) -> Iterator[str]:
    """Serve statements over HTTP; returns the address."""
    app = SecurityEventsApp(lambda: AsyncClient(str(target), credential, timeout_ms=500))
    server, bound = server_of(app), bind("127.0.0.1:0")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield f"http://{address_of(bound)}"
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


def post(address: str, login: Login, *, of_user: bool) -> bool:
    """Have the provider say that a login is over; True if this was answered."""
    now_s = int(time.time())
    stated = {"iss": ISSUER, "iat": now_s, "jti": os.urandom(8).hex()}
    if of_user:
        bearer = signed({**stated, "aud": SERVICE}, "ES256", typ="global-token-revocation+jwt")
        body = {"sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": login.user}}
        answer = httpx.post(
            f"{address}/revoke/corp", json=body, headers={"authorization": f"Bearer {bearer}"}, timeout=20
        )
    else:
        terms = {"aud": "desk", "exp": now_s + 120, "events": {EVENT: {}}, "sid": login.sid}
        token = signed({**stated, **terms}, "ES256", typ="logout+jwt")
        answer = httpx.post(f"{address}/logout/corp", data={"logout_token": token}, timeout=20)
    assert answer.status_code in (200, 204, 503), answer.text
    return answer.status_code != 503


def post_all(address: str, logins: list[Login]) -> list[Login]:
    """Post for one login after the other until a statement is not answered; returns the logins before it."""
    answered: list[Login] = []
    for number, login in enumerate(logins):
        if not post(address, login, of_user=number % 2 == 1):
            break
        answered.append(login)
    return answered


def answers(client: Client) -> bool:
    """Return True if a server answers."""
    try:
        client.list_keys()
    except SessauthError:
        return False
    return True


def lives(desk: Client, operator: Client, login: Login) -> bool:
    """Return whether a login's agent may act, by its session, its token and a new opening alike."""
    active = operator.get_session(login.agent_id).status is SessionStatus.ACTIVE
    allowed = operator.check(login.token, "read", "tickets/1", audience="gw").allowed
    word = ""
    try:
        desk.open_session(subject="agent:more", ceiling=CEILING, identity_token=login.identity_token())
    except IdentityRefused as refused:
        word = refused.fault
    assert (active, allowed, word) in ((True, True, ""), (False, False, "IDENTITY_CUT")), login
    return active


def test_answered_logouts_outlive_kills() -> None:
    """Killed while statements arrive: each that was answered has ended its login, and no other has."""
    rng, numbers = Random("kills"), count(1)
    living: list[Login] = []
    ended: list[Login] = []
    with home_folder() as home, ExitStack() as stack:
        made = initialise(home)
        (home / "corp.json").write_text(json.dumps({"keys": [public_jwk("ES256")]}))
        with made.config_file.open("a") as file:
            file.write(PROVIDER)
        credentials = CredentialFile(made.state_dir / "credentials.toml")
        address = stack.enter_context(gateway(made.socket, credentials.add("signals", "security-events")))
        desk = stack.enter_context(
            Client(str(made.socket), credentials.add("desk", "issuer"), timeout_ms=20_000)
        )
        operator = stack.enter_context(
            Client(str(made.socket), credential_file=made.credential_file, timeout_ms=20_000)
        )
        start = partial(ServerProcess.start, home, SESSAUTH_SERVER_WORKERS="0")
        server = start()
        try:
            assert wait_until(lambda: answers(operator)), server.log
            for _ in range(ROUNDS):
                logins = [
                    Login(f"u{number}", f"s{number}", int(time.time())) for number in islice(numbers, 28)
                ]
                for login in logins:
                    agent, login.token = desk.open_and_mint(
                        CEILING, ["gw"], subject="agent:reader", ceiling=CEILING,
                        identity_token=login.identity_token(),
                    )  # fmt: skip
                    login.agent_id = agent.id
                silent, stated = logins[:4], logins[4:]
                with ThreadPoolExecutor(3) as providers:
                    posted = [providers.submit(post_all, address, stated[first::3]) for first in range(3)]
                    time.sleep(rng.random() * 0.2)
                    server.kill()
                    answered = [login for each in posted for login in each.result()]
                server = start()
                assert wait_until(lambda: answers(operator)), server.log
                assert all(lives(desk, operator, login) for login in silent)
                assert not any(lives(desk, operator, login) for login in answered)
                for login in stated:
                    # Of the others some are durable; sent again all are.
                    assert login in answered or wait_until(partial(post, address, login, of_user=False))
                living += silent
                ended += stated
            assert all(lives(desk, operator, login) for login in living)
            assert not any(lives(desk, operator, login) for login in ended)
        finally:
            server.kill()
        # The beginning of each token of the provider: none is in a log, the state or the audit.
        beginning = signed({}, "ES256").encode()[:12]
        assert not [file for file in home.rglob("*") if file.is_file() and beginning in file.read_bytes()]
