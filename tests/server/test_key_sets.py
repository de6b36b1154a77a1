"""Key sets of identity providers: kept, fetched again when they are old, and never waited for long."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.errors import ServerError, StateError
from sessauth.server.identity import key_sets
from sessauth.server.identity.key_sets import (
    FOLDER,
    MAX_STALE_MS,
    REFRESH_MS,
    RETRY_MS,
    KeySets,
    PublicKeys,
)
from sessauth.server.identity.providers import IdentityProvider
from tests.support.identity_tokens import NOW_MS, key_set, provider, public_jwk

CORP = provider()


class Fetches:
    """A provider that is asked for its keys: it counts, and answers with those that it has, or not at all."""

    def __init__(self) -> None:
        self.count = 0
        self.keys: PublicKeys | None = key_set(public_jwk("RS256"))
        self.before: Callable[[], object] = lambda: None

    def __call__(self, provider: IdentityProvider, home: Path) -> PublicKeys:
        """Answer."""
        self.count += 1
        self.before()
        if self.keys is None:
            raise StateError("nobody answers")
        return self.keys


@pytest.fixture
def clock() -> FixedClock:
    """The server's clock."""
    return FixedClock(NOW_MS)


@pytest.fixture
def fetches() -> Fetches:
    """The provider."""
    return Fetches()


@pytest.fixture
def sets(tmp_path: Path, clock: FixedClock, fetches: Fetches) -> KeySets:
    """The sets of a server."""
    return KeySets(tmp_path, clock, fetches)


def test_a_set_is_fetched_again_once_it_is_old(sets: KeySets, clock: FixedClock, fetches: Fetches) -> None:
    """Ten minutes; a provider that is away then is asked each 30 s, and the last set counts for a day."""
    assert list(sets.keys(CORP, "RS256").keys) == ["RS256"]
    clock.advance(REFRESH_MS - 1)
    sets.keys(CORP, "RS256")
    assert fetches.count == 1
    fetches.keys = None
    clock.advance(1)
    assert list(sets.keys(CORP, "RS256").keys) == ["RS256"]
    sets.keys(CORP, "RS256")
    assert fetches.count == 2
    clock.advance(MAX_STALE_MS - REFRESH_MS)
    with pytest.raises(ServerError, match="provider corp can't be had") as refused:
        sets.keys(CORP, "RS256")

    assert refused.value.reason == "IDENTITY_KEYS_UNAVAILABLE"
    assert fetches.count == 3


def test_an_unknown_key_is_asked_for_once_in_half_a_minute(
    sets: KeySets, clock: FixedClock, fetches: Fetches
) -> None:
    """Names that nobody has cost the provider little; one that it rotated to just now counts at once."""
    sets.keys(CORP, "RS256")
    fetches.keys = key_set(public_jwk("ES256"))
    assert list(sets.keys(CORP, "ES256").keys) == ["ES256"]
    fetches.keys = key_set(public_jwk("EdDSA"))
    for _ in range(5):
        assert "EdDSA" not in sets.keys(CORP, "EdDSA").keys
    assert fetches.count == 2
    clock.advance(RETRY_MS)

    assert list(sets.keys(CORP, "EdDSA").keys) == ["EdDSA"]
    assert fetches.count == 3


def test_a_start_needs_no_provider(
    sets: KeySets, clock: FixedClock, fetches: Fetches, tmp_path: Path
) -> None:
    """The last set is in the home folder, for its owner alone, and counts for the addresses it came from."""
    sets.keys(CORP, "RS256")
    fetches.keys = None
    clock.advance(REFRESH_MS)
    file = tmp_path / FOLDER / "corp.json"

    assert list(KeySets(tmp_path, clock, fetches).keys(CORP, "RS256").keys) == ["RS256"]
    modes = (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode))
    assert modes == (0o600, 0o700)
    moved = provider(jwks_uri="https://keys.example/set")
    file_before = file.read_bytes()
    for other, content in ((moved, file_before), (CORP, b"{"), (CORP, b"")):
        file.write_bytes(content)
        with pytest.raises(ServerError, match="can't be had"):
            KeySets(tmp_path, clock, fetches).keys(other, "RS256")


def test_no_call_waits_long_for_a_provider_that_is_slow(
    sets: KeySets, clock: FixedClock, fetches: Fetches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the set that is there, and one fetch is under way whatever the number of calls."""
    sets.keys(CORP, "RS256")
    answered = threading.Event()
    fetches.before = answered.wait
    monkeypatch.setattr(key_sets, "WAIT_SECONDS", 0.0)
    clock.advance(REFRESH_MS + RETRY_MS)
    for _ in range(3):
        clock.advance(RETRY_MS)
        assert list(sets.keys(CORP, "RS256").keys) == ["RS256"]
    answered.set()

    assert fetches.count == 2


def test_a_clock_that_was_set_back_trusts_no_set_of_the_future(
    sets: KeySets, clock: FixedClock, fetches: Fetches
) -> None:
    """Its age is unknown, so it is fetched again."""
    sets.keys(CORP, "RS256")
    clock.step(-REFRESH_MS)
    clock.advance(RETRY_MS)
    sets.keys(CORP, "RS256")

    assert fetches.count == 2
