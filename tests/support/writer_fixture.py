"""A state folder with one session, tokens whose scopes cost something, and the writer's arbiter over it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sessauth.clock import FixedClock
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import Change, ChangeOutcome, add_key, open_session
from sessauth.scopes.scope import Scope
from sessauth.server.writer.authorizer import CallRequest, WriterAuthorizer, WriterDecision
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Issuer, Token
from sessauth.verifier.verifier import Verifier

NOW_MS = 1_800_000_000_000
SESSION = b"session-of-tests"
AUDIENCE = "gateway"
GATEWAY = "gw-1"


class WriterFixture:
    """Judges calls as the control process's writer does, at a time that stands still."""

    def __init__(self, folder: Path, *, ceiling: str = "*:**", ttl_ms: int = 3_600_000) -> None:
        """Make the folder, a key and a session."""
        self.clock = FixedClock(NOW_MS)
        self.state_writer = StateWriter.open(folder, create=True, map_size=16 << 20, clock=self.clock)
        self.verifier = Verifier(self.state_writer.source(), audience=AUDIENCE)
        self.authorizer = WriterAuthorizer(self.state_writer.source(), self.verifier, cache_bytes=1 << 20)
        self.issuer = Issuer(IssuerKey(bytes(range(32))), self.clock)
        self._ids = (f"change-{number}" for number in itertools.count(1))
        self.do(add_key(self.change_id(), IssuerKey(bytes(range(32))).public_key, status=KeyStatus.ACTIVE))
        records: list[Any] = [Scope.parse(ceiling).to_record()]
        self.do(open_session(self.change_id(), SESSION, records, subject="agent", ttl_ms=ttl_ms))

    def change_id(self) -> str:
        """A request id that was not used before."""
        return next(self._ids)

    def do(self, change: Change) -> ChangeOutcome:
        """Have a change made durable; raises Rejected if it is against the rules."""
        return self.state_writer.submit(change).result(10).raise_if_rejected()

    def mint(self, *scopes: str, **options: Any) -> Token:
        """Mint for the session, for an hour."""
        given = {"ttl_ms": 3_600_000, **options}
        return self.issuer.mint(SESSION, scopes, [AUDIENCE], **given)

    def ask(self, token: Token, resource: str = "doc/1", arguments: bytes = b"", **parts: Any) -> CallRequest:
        """A call to read a resource."""
        ask = CallRequest(GATEWAY, token.data, b"read", resource.encode(), arguments, audience=AUDIENCE)
        return replace(ask, **parts)

    def check(
        self, token: Token, resource: str = "doc/1", arguments: bytes = b"", **parts: Any
    ) -> WriterDecision:
        """Have the writer judge a call, and wait until what it took is durable."""
        return self.decide(self.ask(token, resource, arguments, **parts))

    def decide(self, ask: CallRequest) -> WriterDecision:
        """Have the writer judge a call."""
        return self.state_writer.decide(partial(self.authorizer.check, request=ask), 1024).result(10)

    def commit(self, ask: CallRequest, permit: bytes) -> WriterDecision:
        """Have the writer commit a permit."""
        return self.state_writer.decide(
            lambda group: self.authorizer.commit(group, ask, permit), 1024
        ).result(10)

    def release(self, permit: bytes, gateway: str = GATEWAY) -> ChangeOutcome:
        """Have the writer release a permit."""
        return self.state_writer.decide(
            lambda group: self.authorizer.release(group, gateway, permit), 1024
        ).result(10)

    def close(self) -> None:
        """Close the writer."""
        self.state_writer.close()
