"""A freeze: every process of the host denies and nothing is given, from the answer on until the thaw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from sessauth import Verifier
from sessauth.client import Client
from sessauth.errors import Rejected
from sessauth.model.session import EndCause, SessionStatus
from sessauth.reasons import Reason
from sessauth.server.config import load
from sessauth.server.process.control import Control
from sessauth.server.process.init import Initialised, initialise
from sessauth.tokens.token import Token
from tests.support.service import Caller, ServerProcess, home_folder, serves, wait_until

AUDIENCE = "gw"


@pytest.fixture(scope="module")
def made() -> Iterator[Initialised]:
    """A server that is a process of its own, with a check worker."""
    with home_folder() as home:
        found = initialise(home)
        server = ServerProcess.start(home, SESSAUTH_SERVER_WORKERS="1")
        try:
            for name in ("sessauth.sock", "check-0.sock"):
                with closing(Caller(f"unix:{home / 'run' / name}")) as caller:
                    assert wait_until(lambda caller=caller: serves(caller)), server.log  # type: ignore[misc]
            yield found
            assert server.terminate() == 0, server.log
        finally:
            server.kill()


def client_of(made: Initialised, check_target: str | None = None) -> Client:
    """Return a client of the operator, which a busy machine may let wait."""
    return Client(
        str(made.socket), credential_file=made.credential_file, timeout_ms=20_000, check_target=check_target
    )


@pytest.fixture(scope="module")
def client(made: Initialised) -> Iterator[Client]:
    """The operator's client."""
    with client_of(made) as found:
        yield found


def open_some(client: Client, count: int, **terms: int) -> list[bytes]:
    """Open sessions."""
    return [client.open_session(subject="agent:a", ceiling=["read:**"], **terms).id for _ in range(count)]


@pytest.fixture
def judges(made: Initialised, client: Client) -> Iterator[Callable[[Token], list[Reason]]]:
    """Check a token at the control process, at a worker and in an embedded verifier."""
    with ExitStack() as stack:
        worker = stack.enter_context(client_of(made, str(made.socket.parent / "check-0.sock")))
        embedded = stack.enter_context(Verifier.embedded(made.state_dir, audience=AUDIENCE))

        def reasons(token: Token) -> list[Reason]:
            found = [
                each.check(token, "read", "files/a", audience=AUDIENCE).reason for each in (client, worker)
            ]
            return [*found, embedded.check(token.text, "read", "files/a").reason]

        yield reasons
        client.thaw()


def test_frozen_nobody_allows_or_gives_anything(
    client: Client, judges: Callable[[Token], list[Reason]]
) -> None:
    """Every process denies from the answer on, and thawed each allows what lives; ends go through."""
    one, two = open_some(client, 2)
    tokens = [client.mint(each, ["read:files/**"], [AUDIENCE]) for each in (one, two)]
    client.suspend(one)
    client.resume(one)
    assert judges(tokens[0]) == [Reason.ALLOWED] * 3

    client.freeze("drill")

    assert judges(tokens[0]) == [Reason.STATE_BRAKED] * 3
    state = client.get_freeze()
    assert (state.brake, state.host, state.cluster) == ("frozen by operator: drill",) * 2 + ("",)
    client.suspend(one)
    for give in (
        lambda: client.open_session(subject="a", ceiling=["read:**"], request_id="frozen"),
        lambda: client.mint(two, ["read:files/**"], [AUDIENCE]),
        lambda: client.update_facts(two, {"a": 1}),
        lambda: client.resume(one),
    ):
        with pytest.raises(Rejected, match="drill") as refused:
            give()
        assert refused.value.word == "FROZEN"
    client.narrow(one, ["read:files/**"])
    client.end(two)
    client.freeze("worse")
    assert client.get_freeze().brake == "frozen by operator: worse"

    client.thaw()
    client.resume(one)
    assert judges(tokens[0]) == [Reason.ALLOWED] * 3
    assert judges(tokens[1]) == [Reason.SESSION_ENDED] * 3
    client.open_session(subject="a", ceiling=["read:**"], request_id="frozen")


def test_time_goes_on_while_frozen(client: Client, judges: Callable[[Token], list[Reason]]) -> None:
    """A lease that is renewed lives, one that is not lapses, and the sweep ends its session."""
    (renewed,) = open_some(client, 1, lease_ms=600_000)
    token = client.mint(renewed, ["read:files/**"], [AUDIENCE])
    (lapsing,) = open_some(client, 1, lease_ms=100)

    client.freeze()

    assert client.keep_alive(renewed)
    assert wait_until(lambda: client.get_session(lapsing).status is SessionStatus.ENDED)
    assert client.get_session(lapsing).end_cause is EndCause.LEASE_LAPSED
    client.thaw()
    assert judges(token) == [Reason.ALLOWED] * 3


def test_a_restart_does_not_thaw() -> None:
    """The next process denies as well, until it is thawed."""
    with home_folder() as home:
        made = initialise(home)
        for frozen in (False, True):
            control = Control(load(home, {}))
            control.start()
            try:
                with Client(
                    str(made.socket), credential_file=made.credential_file, timeout_ms=20_000
                ) as client:
                    assert bool(client.get_freeze().brake) is frozen
                    client.thaw() if frozen else client.freeze("night")
                    assert bool(client.get_freeze().brake) is not frozen
            finally:
                control.stop()
