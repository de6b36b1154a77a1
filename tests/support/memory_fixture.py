"""One session, one active issuer key and a checker over them, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessauth._fast._check import Checker, View
from sessauth.clock import FixedClock
from sessauth.crypto.keys import IssuerKey
from sessauth.decisions.decision import Decision
from sessauth.scopes.scope import Scope
from sessauth.tokens.token import Issuer, Token
from tests.oracle.model import OracleKey, OracleSession, OracleView
from tests.support.view_source import MemorySource

NOW_MS = 1_800_000_000_000
SESSION = b"session-of-tests"
AUDIENCE = "gateway"
ACTIVE = 1
KEY_ACTIVE = 2


@dataclass(frozen=True, slots=True)
class MemoryFixture:
    """An issuer and a checker for tests, at a time that stands still."""

    key: IssuerKey
    clock: FixedClock
    issuer: Issuer
    checker: Checker

    def mint(self, *scopes: str | Scope, ending: str = "sealed", **options: object) -> Token:
        """Mint for the session, a minute long unless said otherwise."""
        given = {"ttl_ms": 60_000, **options}
        return self.issuer.mint(SESSION, scopes, [AUDIENCE], ending=ending, **given)  # type: ignore[arg-type]

    def check(
        self, token: Token, action: str, resource: str, arguments: bytes = b"", **options: object
    ) -> Decision:
        """Judge one call by the kernel."""
        given = {"audience": AUDIENCE, "now_ms": self.clock.now_ms(), **options}
        decision = self.checker._check(token.data, action, resource, arguments, **given)  # type: ignore[arg-type]
        assert isinstance(decision, Decision)
        return decision


def memory_fixture(
    ceilings: Sequence[Sequence[str]] = (("*:**",),), revoked: frozenset[bytes] = frozenset()
) -> MemoryFixture:
    """Return a world whose session has these layers of ceiling, as scope text."""
    key, clock = IssuerKey(bytes(range(32))), FixedClock(NOW_MS)
    source = MemorySource()
    view = OracleView(
        revision=1,
        sessions={SESSION: OracleSession(SESSION, ACTIVE, NOW_MS + 3_600_000)},
        keys={key.key_id: OracleKey(key.key_id, key.public_key, KEY_ACTIVE)},
        revoked=revoked,
    )
    layers = [[Scope.parse(text).to_record() for text in layer] for layer in ceilings]
    source.load(view, {SESSION: layers})
    return MemoryFixture(key, clock, Issuer(key, clock), Checker(View(source)))
