"""Actors on a test server: entry points, approvers, and the model's sessions and tokens."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sessauth.approvals.approver import Approver, ApproverKey
from sessauth.client import Client
from sessauth.decisions.decision import DecisionBase
from sessauth.errors import Rejected
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import ServerBackedVerifier
from tests.support.server_fixture import AUDIENCE, ServerFixture
from tests.support.service_model import CHILD, ROOT, Call, ModelSession, ModelToken

PERMIT_MS = 240_000
APPROVER_KEYS = tuple(ApproverKey(bytes([number]) * 32) for number in (1, 2, 3))
APPROVERS = tuple(map(Approver, APPROVER_KEYS))


@dataclass(frozen=True)
class Door:
    """One way to ask, and the gateway that asks."""

    gateway: str
    client: Client | ServerBackedVerifier

    def check(self, token: ModelToken, call: Call, *, permit: bool = False, **options: Any) -> DecisionBase:
        """Ask about a call."""
        options.setdefault("permit_ms", PERMIT_MS if permit else 0)
        return self.client.check(token.data, "read", call.resource, call.arguments, **options)

    def commit(self, permit: bytes, token: ModelToken, call: Call) -> DecisionBase:
        """Commit a permit."""
        return self.client.commit(permit, token.data, "read", call.resource, call.arguments)

    def release(self, permit: bytes) -> int:
        """Release a permit."""
        return self.client.release(permit)


def doors_of(server: ServerFixture) -> list[Door]:
    """Every way to ask: two gateways by the control process, one by its worker and embedded as well."""
    return [
        Door("gateway", server.control),
        Door("gateway", server.workers[0]),
        Door("gateway", server.verifier),
        Door("other", server.other),
    ]


def open_family(server: ServerFixture) -> list[ModelSession]:
    """Open a session and a child of it, each with two root tokens and two below the first."""
    parent = _open(server, None)
    return [parent, _open(server, parent)]


def _open(server: ServerFixture, parent: ModelSession | None) -> ModelSession:
    opened = server.operator.open_session(
        subject="agent",
        ceiling=["read:**"],
        facts={"tier": "gold"},
        parent_id=parent.id if parent is not None else b"",
    )
    session = ModelSession(opened.id, parent)
    names = [key.text for key in APPROVER_KEYS]
    root_scopes, child_scopes = ([each.text(names) for each in offers] for offers in (ROOT, CHILD))

    def of(token: Token, *offers: Any) -> ModelToken:
        # A sealing block, where there is one, states no scopes.
        stated = [*offers, *[()] * (len(token.block_ids) - len(offers))]
        return ModelToken(session.id, token.data, tuple(zip(token.block_ids, stated, strict=True)))

    minted = server.operator.mint(session.id, root_scopes, [AUDIENCE], ending="open")
    other = server.operator.mint(session.id, root_scopes, [AUDIENCE])
    session.tokens = [of(minted.present(), ROOT), of(other, ROOT)]
    for _ in range(2):
        session.tokens.append(of(minted.attenuate(scopes=child_scopes).present(), ROOT, CHILD))
    return session


def word_of(work: Callable[[], object]) -> str:
    """Return the word that a change is refused with; nothing if it is not."""
    try:
        work()
    except Rejected as refused:
        return refused.word
    return ""


def retry_ids(count: int) -> list[bytes]:
    """Return so many names of attempts that nobody used."""
    return [secrets.token_bytes(12) for _ in range(count)]
