"""A log for tests of queries, contexts and exports."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessauth._fast._check import Chain
from sessauth.audit import layout
from sessauth.audit.layout import ArgumentsKey
from sessauth.clock import FixedClock
from sessauth.crypto.keys import IssuerKey
from sessauth.model.change import end_session, narrow_session, open_session, revoke, suspend_session
from sessauth.tokens.token import Issuer, Token
from tests.support.audit_log import SESSION, START_MS, change, decision, open_stream
from tests.support.changes import scopes
from tests.support.replay_script import Script

ARGUMENTS = b'{"repo": "web"}'
PARENT = bytes(range(100, 116))


@dataclass(frozen=True)
class SampleLog:
    """The folder of a log, the token of its decisions, and its arguments key."""

    folder: Path
    token: Token
    key: ArgumentsKey

    @property
    def blocks(self) -> list[str]:
        """The ids of the token's blocks."""
        return [block.hex() for block in self.token.block_ids]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a script's stream."""
    return tmp_path / "audit"


@pytest.fixture
def script(folder: Path) -> Script:
    """A script with a session."""
    return Script(folder)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleLog:
    """Give a log of two processes: a session from its opening to its end, with decisions."""
    folder = tmp_path_factory.mktemp("sample")
    clock = FixedClock(START_MS)
    root = Issuer(IssuerKey.generate(), clock).mint(
        SESSION, ['read:mcp/github/* where repo == "web"'], ["mcp"], ttl_ms=3_600_000, ending="open"
    )
    token = root.attenuate(scopes=['read:mcp/github/issues where repo == "web"'], label="sub-agent").present()
    control = open_stream(folder, clock)
    worker = open_stream(folder, clock, process="worker-0")
    ceiling = scopes("*:mcp/**")
    opened = open_session("open", SESSION, ceiling, subject="agent", actor="ci", parent_id=PARENT, ttl_ms=9)
    made = [
        change(0, open_session("parent", PARENT, scopes("*:**"), subject="boss", ttl_ms=9), 1),
        change(1, opened, 2),
        change(2, narrow_session("narrow", SESSION, scopes("read:mcp/**"), actor="ci"), 3),
        change(4, suspend_session("suspend", SESSION, "look", actor="ops"), 0, "EPOCH_MISMATCH"),
        change(9, revoke("revoke", SESSION, [token.block_ids[1]], "leak", actor="ops"), 4),
        change(20, end_session("end", SESSION, "done", actor="ci"), 5),
    ]
    control.append(b"".join(layout.body("change", record) for record in made))
    payloads = Chain.parse(token.data).payloads
    chain = [
        {"id": block.hex(), "payload": base64.b64encode(payload).decode()}
        for block, payload in zip(token.block_ids, payloads, strict=True)
    ]
    digest = worker.arguments_key.digest(ARGUMENTS)
    named = {"blocks": [block.hex() for block in token.block_ids], "revision": 3, "arguments": digest}
    denied = {**named, "allowed": False, "matched": None}
    refused = {
        "allowed": False,
        "reason": "BAD_SIGNATURE",
        "stage": "SIGNATURE",
        "matched": None,
        "claimed": SESSION.hex(),
    }
    forged = decision(8, **refused)
    for name in ("session", "epoch", "blocks"):
        del forged[name]
    at = {"level": "BLOCK", "index": 1, "scope": 0, "clause": 0, "argument": "repo"}
    records = [
        decision(5, **named, resource="mcp/github/issues"),
        decision(6, **denied, reason="CONDITION_FAILED", stage="SCOPE", at=at, resource="mcp/github/issues"),
        decision(
            7,
            **{**denied, "arguments": ""},
            reason="OUT_OF_SCOPE",
            stage="SCOPE",
            at={"level": "CEILING", "index": 1, "scope": -1, "clause": -1, "argument": ""},
            action="write",
        ),
        forged,
        decision(30, **{**denied, "revision": 5}, reason="SESSION_ENDED", stage="SESSION"),
    ]
    worker.append(
        layout.body("chain", {"at_ms": START_MS + 5, "blocks": chain})
        + b"".join(layout.body("decision", record) for record in records)
        + layout.body("lost", {"at_ms": START_MS + 31, "count": 2, "since_ms": START_MS, "why": "full"})
    )
    worker.close()
    control.close()
    return SampleLog(folder, token, worker.arguments_key)
