"""Tokens that are bound to a key: they open and renew sessions by a proof of it, which counts once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessauth.client import Client
from sessauth.client._requests.sessions import keep_alive, open_session
from sessauth.clock import FixedClock
from sessauth.errors import IdentityRefused, UsageError
from sessauth.state.host.proof_keys import replay_path
from tests.support.identity_tokens import (
    ISSUER,
    SERVICE,
    bound_to,
    claims,
    key_proof,
    public_jwk,
    signed,
)
from tests.support.service import Service, running

CEILING = ["read:tickets/**"]


@pytest.fixture
def clock() -> FixedClock:
    """The clock of all, at a whole second after the home folder was made."""
    return FixedClock((time.time_ns() // 1_000_000_000 + 2) * 1000)


@pytest.fixture
def service(tmp_path: Path, clock: FixedClock) -> Iterator[Service]:
    """A server that takes proofs."""
    keys = tmp_path / "corp.json"
    keys.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    provider = {
        "name": "corp",
        "issuer": ISSUER,
        "clients": ["desk"],
        "jwks_file": str(keys),
        "proof_origin": SERVICE,
        "grants": [{"ceiling": CEILING}],
    }
    with running(clock, identity_providers=[provider]) as made:
        yield made


@pytest.fixture
def desk(service: Service) -> Iterator[Client]:
    """The client of an issuer."""
    credential = service.add("desk", "issuer").credential
    with Client(str(service.made.socket), credential, timeout_ms=20_000) as made:
        yield made


def bound(clock: FixedClock, ago_s: int = 0, **changed: Any) -> str:
    """Return an ID token that is bound to a key."""
    now = clock.now_ms() // 1000
    times = {"iat": now - ago_s, "exp": now + 300, "auth_time": now - 600}
    return signed(claims(**{**times, "cnf": bound_to("ES256"), **changed}))


def proof(clock: FixedClock, token: str, rpc: str = "OpenSession", **changed: Any) -> str:
    """Return a proof for a token that was made now."""
    return key_proof(token, rpc, **{"iat": clock.now_ms() // 1000, **changed})


def terms(token: str, shown: str) -> dict[str, Any]:
    """Return the terms of an agent's session."""
    return {"subject": "a", "ceiling": CEILING, "identity_token": token, "identity_proof": shown}


def fault_of(client: Client, token: str, shown: str, **more: Any) -> str:
    """Return the word that refuses an opening."""
    with pytest.raises(IdentityRefused) as refused:
        client.open_session(**terms(token, shown), **more)
    return refused.value.fault


def test_a_proof_opens_one_session(desk: Client, service: Service, clock: FixedClock) -> None:
    """A repeat of the same request gets the session that it opened, and nothing else does."""
    token = bound(clock)
    shown = proof(clock, token)
    opened = desk.open_session(**terms(token, shown), request_id="r1")

    assert desk.open_session(**terms(token, shown), request_id="r1").id == opened.id
    assert fault_of(desk, token, shown) == "IDENTITY_REPLAYED"
    assert fault_of(desk, token, shown, request_id="r2") == "IDENTITY_REPLAYED"
    assert fault_of(desk, token, "") == "IDENTITY_PROOF_REQUIRED"
    assert desk.open_session(**terms(token, proof(clock, token))).parent_id == opened.parent_id
    clock.advance(60_000)
    # Once it is old it needs no memory.
    assert fault_of(desk, token, shown) == "IDENTITY_PROOF_REQUIRED"
    assert service.control is not None
    counted = service.control.subsystems.logins.openings
    assert counted["corp", "IDENTITY_REPLAYED"] == 2


def test_a_name_counts_once_for_each_key(desk: Client, clock: FixedClock) -> None:
    """Another holder may have given its proof the same name."""
    for algorithm in ("ES256", "RS256"):
        token = bound(clock, cnf=bound_to(algorithm))
        assert desk.open_session(**terms(token, proof(clock, token, algorithm=algorithm, jti="1"))).parent_id
        again = proof(clock, token, algorithm=algorithm, jti="1")
        assert fault_of(desk, token, again) == "IDENTITY_REPLAYED"


def test_a_login_is_renewed_by_a_proof_for_that(desk: Client, clock: FixedClock) -> None:
    """One for an opening does not count, and one that was used neither."""
    token = bound(clock)
    agent = desk.open_session(**terms(token, proof(clock, token)))
    clock.advance(600_000)
    fresh = bound(clock)
    shown = proof(clock, fresh, "KeepAlive")

    for wrong in ("", proof(clock, fresh)):
        with pytest.raises(IdentityRefused, match="IDENTITY_PROOF_REQUIRED"):
            desk.keep_alive(agent.id, identity_token=fresh, identity_proof=wrong)
    deadline = desk.keep_alive(agent.id, identity_token=fresh, identity_proof=shown)
    assert deadline == clock.now_ms() + 900_000
    with pytest.raises(IdentityRefused, match="IDENTITY_REPLAYED"):
        desk.keep_alive(agent.id, identity_token=fresh, identity_proof=shown)


def test_a_proof_without_its_token_is_refused(desk: Client, clock: FixedClock) -> None:
    """A caller who sends one means a login, and must not get a session without."""
    token = bound(clock)

    with pytest.raises(UsageError, match="identity_proof"):
        desk.open_session(**terms("", proof(clock, token)))
    with pytest.raises(UsageError, match="identity_proof"):
        desk.keep_alive(bytes(16), identity_proof=proof(clock, token))
    assert not desk.list_sessions().sessions


def test_proofs_of_before_a_new_memory_are_refused(desk: Client, service: Service, clock: FixedClock) -> None:
    """A table that was lost may have had them; it is that of the calls of bound tokens."""
    token = bound(clock)
    desk.open_session(**terms(token, proof(clock, token)))
    assert service.control is not None
    replay_path(service.made.state_dir).unlink()
    assert fault_of(desk, token, proof(clock, token)) == "IDENTITY_PROOF_REQUIRED"
    service.control.host_keys.rotate()

    assert fault_of(desk, token, proof(clock, token)) == "IDENTITY_PROOF_REQUIRED"
    clock.advance(32_000)
    assert desk.open_session(**terms(token, proof(clock, token))).parent_id


def test_no_proof_is_shown_in_a_text(clock: FixedClock) -> None:
    """A request that holds one has no text of it."""
    token = bound(clock)
    shown = proof(clock, token)

    requests = open_session("", terms(token, shown)), keep_alive(bytes(16), token, shown)
    assert shown not in repr(requests)
