"""The lane of a caller: operators', other known callers', strangers'; and strangers that are counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.errors import ConfigError
from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import CredentialFile, Principal, WorkerCredential
from sessauth.server.process.init import initialise
from sessauth.server.rpc import call
from sessauth.server.rpc.access import WORKER
from sessauth.server.rpc.authenticate import (
    KNOWN,
    OPERATORS,
    STRANGERS,
    Authenticator,
    Lanes,
    stranger_status,
)
from sessauth.server.rpc.call import REFUSALS_PER_SECOND, Accounting
from tests.support.pool_calls import CountedCalls
from tests.support.service import SHORT, home_folder, running

CHECK = "/sessauth.v1.AuthorizationService/Check"
HEALTH = "/grpc.health.v1.Health/Check"
WORKERS = WorkerCredential.make(WORKER)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An initialised home folder."""
    with home_folder() as folder:
        initialise(folder)
        yield folder


@pytest.fixture
def authenticator(home: Path) -> Authenticator:
    """The callers of the folder."""
    return Authenticator.of(from_dict({"home": str(home)}), WORKERS)


@pytest.fixture
def lanes(authenticator: Authenticator) -> Lanes:
    """The lanes of two methods."""
    return Lanes(authenticator, Accounting(), [CHECK, HEALTH])


def test_each_caller_has_a_lane(home: Path, lanes: Lanes) -> None:
    """The credential counts, from its first call on; a verified certificate makes no stranger."""
    file = CredentialFile(home / "state" / "credentials.toml")
    gateway = file.add(f"gw-{time.monotonic_ns()}", "gateway", ["gw"]).encode()
    operator = (home / "operator.credential").read_bytes().strip()
    facts = {"peer_uri": [b"spiffe://a/b"], "x509_pem_cert": [b""]}
    cases: list[tuple[bytes | None, Any, int]] = [
        (b"Bearer " + operator, None, OPERATORS),
        (b"bearer " + operator, None, OPERATORS),
        (b"Bearer " + gateway, None, KNOWN),
        (b"Bearer " + WORKERS.text.encode(), None, KNOWN),
        (b"Bearer " + operator + b"x", None, STRANGERS),
        (b"Bearer  " + operator, None, STRANGERS),
        (b"Basic " + operator, None, STRANGERS),
        (b"Bearer \xff", None, STRANGERS),
        (b"", None, STRANGERS),
        (None, None, STRANGERS),
        (None, {}, STRANGERS),
        (None, facts, KNOWN),
    ]
    for authorization, seen, lane in cases:
        assert lanes.lane_of(authorization, seen) == lane, (authorization or b"")[:8]


def test_nobody_is_a_stranger_while_credentials_cannot_be_read(
    lanes: Lanes, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router says what is wrong."""

    def fail() -> None:
        raise ConfigError("injected")

    monkeypatch.setattr(authenticator.credentials, "current", fail)
    assert lanes.lane_of(b"Bearer sessauth_key_a_b", None) == KNOWN


def test_refusals_beyond_those_that_are_logged_are_counted(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health, unknown methods, and all calls where other hosts state callers, go the long way."""
    counted = CountedCalls()
    counting = Accounting(counted)  # type: ignore[arg-type]
    lanes = Lanes(authenticator, counting, [CHECK, HEALTH])
    assert not lanes.counts_refusal(CHECK.encode())
    monkeypatch.setattr(call.time, "monotonic", lambda: 1_000.5)
    counting._second, counting._logged = 1_000, REFUSALS_PER_SECOND

    assert lanes.counts_refusal(CHECK.encode())
    assert not lanes.counts_refusal(HEALTH.encode())
    assert not lanes.counts_refusal(b"/a.B/C")
    assert counted == {(CHECK, "UNAUTHENTICATED"): 1}
    monkeypatch.setattr(authenticator, "statements", object())
    assert not lanes.counts_refusal(CHECK.encode())


def test_strangers_are_refused_alike_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logged or counted, the client learns the same."""
    path = SHORT["SessionService/ListSessions"]
    with running() as service:
        ends = []
        for counted in (False, True):
            monkeypatch.setattr(Accounting, "counts_stranger", lambda self, method, counted=counted: counted)
            for metadata in ((), (("authorization", "Bearer sessauth_key_a_b"),)):
                with pytest.raises(grpc.RpcError) as refused:
                    service.operator.channel.unary_unary(path)(b"", timeout=10, metadata=metadata)
                error: Any = refused.value
                ends.append((error.code(), error.details(), tuple(error.trailing_metadata() or ())))
    assert len(set(map(str, ends))) == 1
    assert ends[0][0].value[0] == stranger_status()[0]


def test_a_host_that_states_callers_is_not_answered_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop can't tell by a certificate whose the call is; a caller with a key is its own."""
    facts: dict[str, list[bytes]] = {"peer_uri": [b"spiffe://a/server/b"]}
    host = Principal("host", "gateway", ())
    with running() as service:
        gateway = service.add("gw-1", "gateway", ("gw",))
        assert service.control is not None
        direct = service.control.serving._direct
        assert direct is not None
        authenticator = direct._authenticator
        monkeypatch.setattr(authenticator, "from_facts", lambda facts: host)
        assert direct.admit(CHECK.encode(), None, facts) is not None

        monkeypatch.setattr(authenticator, "statements", object())
        assert direct.admit(CHECK.encode(), None, facts) is None
        key = f"Bearer {gateway.credential}".encode()
        assert authenticator.from_authorization(key) is not None
        assert direct.admit(CHECK.encode(), key, facts) is not None
