"""A check of the token alone: one meaning by every way in, recorded as such, and never an allow of a call."""

from __future__ import annotations

import json
import pickle

import pytest

from sessauth._fast._check import CheckCounters
from sessauth.client import CheckItem
from sessauth.clock import SystemClock
from sessauth.crypto.keys import IssuerKey
from sessauth.decisions.decision import restore
from sessauth.decisions.tool_catalog import HANDSHAKE, ToolCatalog
from sessauth.errors import UsageError
from sessauth.reasons import Reason, Stage
from sessauth.tokens.token import Issuer, Token
from sessauth.verifier.verifier import Verifier
from tests.oracle.constants import KeyStatus, SessionStatus
from tests.oracle.model import OracleKey, OracleSession, OracleView
from tests.support import bulk_sessions
from tests.support.recorded import RecordedVerifier, bodies
from tests.support.view_source import MemorySource
from tests.vectors.world import AUDIENCE, NOW, child, root, token

SESSION = b"session-of-tests"
CATALOGUE = ToolCatalog.from_mcp("files", [{"name": "get", "annotations": {"readOnlyHint": True}}])
PLAIN = token(root("read:files/**"))


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """The issuer of the session's tokens."""
    return Issuer(IssuerKey(bytes(range(32))))


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    """A verifier of a session that lives now."""
    key, source = IssuerKey(bytes(range(32))), MemorySource()
    session = OracleSession(SESSION, SessionStatus.ACTIVE, SystemClock().now_ms() + 3_600_000)
    source.load(
        OracleView(
            revision=1,
            sessions={SESSION: session},
            keys={key.key_id: OracleKey(key.key_id, key.public_key, KeyStatus.ACTIVE)},
        ),
        {SESSION: []},
    )
    return Verifier(source, audience=AUDIENCE)


def mint(issuer: Issuer, *scopes: str) -> Token:
    """A sealed token of the session."""
    return issuer.mint(SESSION, scopes, [AUDIENCE], ttl_ms=600_000)


def test_an_allow_is_of_the_token_and_of_no_call(verifier: Verifier, issuer: Issuer) -> None:
    """It has session, blocks and expiry, and no scope; the token is still denied calls outside its scopes."""
    presented = mint(issuer, "read:files/nothing")
    decision = verifier.stands(presented)

    assert decision and decision.allowed is True
    assert (decision.reason, decision.stage) == (Reason.ALLOWED, Stage.NONE)
    assert (decision.matched_index, decision.matched_scope) == (-1, -1)
    assert (decision.session_id, decision.block_ids) == (presented.session_id, presented.block_ids)
    assert decision.expires_at_ms > decision.checked_at_ms
    assert decision.to_dict()["matched"] is None
    assert decision.explain(presented) == "ALLOWED by no scope: the token stands, and no call was judged"
    assert not verifier.check(presented, "", "")
    assert not verifier.check(presented, "read", "files/a")


def test_what_is_no_token_or_another_verifiers_does_not_stand(verifier: Verifier, issuer: Issuer) -> None:
    """Each form of token, and what the caller states, count as in a check."""
    presented = mint(issuer, "read:files/**")
    assert verifier.stands(presented.text) and verifier.stands(presented.data)
    assert verifier.stands(verifier.prepare(presented))
    for refused, reason in [
        (verifier.stands("no token"), Reason.MALFORMED_TOKEN),
        (verifier.stands(b""), Reason.MALFORMED_TOKEN),
        (verifier.stands(presented, audience="another"), Reason.WRONG_AUDIENCE),
        (verifier.stands(presented, session=bytes(16)), Reason.WRONG_SESSION),
        (verifier.stands(presented, at_least_revision=1 << 40), Reason.STALE_STATE),
    ]:
        assert (refused.reason, bool(refused)) == (reason, False)


def test_a_batch_may_ask_about_tokens_alone_beside_calls() -> None:
    """A tenth part asks it; a call beside it is refused, so that no call is allowed without being judged."""
    judge = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    alone = (PLAIN, b"", b"", b"", b"", b"", "", (), b"", True)
    call = (PLAIN, "write", "files/a")

    decisions = judge._check_batch([alone, call, (*alone[:9], False)], now_ms=NOW)
    assert [decision.reason.name for decision in decisions] == [
        *("ALLOWED", "OUT_OF_SCOPE", "MALFORMED_REQUEST"),
    ]
    assert decisions[0].matched_index == -1
    for action, resource in [("read", ""), ("", "files/a")]:
        with pytest.raises(TypeError, match="no action and no resource"):
            judge.check_batch([(PLAIN, action, resource, *alone[3:])])


def test_a_record_of_a_token_alone_is_marked() -> None:
    """The queue's record has it, the line of the log too; a call's line has not."""
    recorded = RecordedVerifier()
    judge = recorded.verifier
    judge._check(PLAIN, b"", b"", token_only=True, now_ms=NOW)
    recorded.check(PLAIN)
    judge._check("no token", b"", b"", token_only=True, now_ms=NOW)
    judge.check_batch([(PLAIN, b"", b"", b"", b"", b"", "", (), b"", True)])
    found = recorded.decision_queue.drain()

    assert [record.token_only for record in found] == [True, False, True, True]
    assert [(record.action, record.resource) for record in found[::2]] == [("", ""), ("", "")]
    assert found[0].allowed and found[0].matched_index == -1


def test_the_line_of_the_log_is_marked() -> None:
    """``token_only`` is true there, and absent for a call."""
    from sessauth._fast._codec import DecisionText

    recorded = RecordedVerifier()
    recorded.verifier._check(PLAIN, b"", b"", token_only=True, now_ms=NOW)
    recorded.check(PLAIN)
    text = DecisionText(bytes(32), {1: "ALLOWED"}, {0: "NONE"})
    written, count = text.write(recorded.decision_queue.drain())
    alone, call = (line for line in bodies(written) if line["kind"] == "decision")

    assert count == 2
    assert (alone["token_only"], alone["matched"], alone["action"]) == (True, None, "")
    assert "token_only" not in call and call["matched"] == [0, 0]
    assert json.dumps(alone).count("token_only") == 1


def test_it_is_counted_as_other_decisions_are() -> None:
    """Each is counted once, by stage and reason."""
    judge = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    judge.counters = CheckCounters()
    judge._check(PLAIN, b"", b"", token_only=True, now_ms=NOW)
    judge.stands("no token")

    assert judge.counters.decisions() == {(0, 1): 1, (Stage.DECODE, Reason.MALFORMED_TOKEN): 1}


def test_a_pickled_one_comes_back_as_it_was(verifier: Verifier, issuer: Issuer) -> None:
    """Without a scope, and never with half of one."""
    decision = verifier.stands(mint(issuer, "read:files/**"))
    again = pickle.loads(pickle.dumps(decision))
    assert again == decision and bool(again)

    facts = list(decision.__reduce__()[1][0])  # type: ignore[index]
    for matched in [(0, -1), (-1, 0), (-2, -2), (9, 0)]:
        facts[8:10] = matched
        with pytest.raises(ValueError, match="not the facts of an allow"):
            restore(tuple(facts))


@pytest.mark.parametrize(
    "method",
    [
        *("initialize", "ping", "server/discover", "tools/list"),
        *("notifications/initialized", "notifications/cancelled"),
    ],
)
def test_the_handshake_needs_a_token_that_stands_and_no_scope(
    verifier: Verifier, issuer: Issuer, method: str
) -> None:
    """A token without any scope for it passes; one that does not stand is denied as such."""
    presented = mint(issuer, "read:nothing")

    assert CATALOGUE.request("", method) == (HANDSHAKE, f"mcp/files/@{method}")
    allowed = verifier.check_tool(presented, CATALOGUE, "", method=method, audience=AUDIENCE, proof=b"p")
    assert allowed and allowed.matched_index == -1
    denied = verifier.check_tool(presented, CATALOGUE, "", method=method, audience="another")
    assert denied.reason is Reason.WRONG_AUDIENCE
    # Who checks the class as a call is denied.
    assert verifier.check(presented, *CATALOGUE.request("", method)).reason is Reason.OUT_OF_SCOPE
    with pytest.raises(TypeError):
        verifier.check_tool(presented, CATALOGUE, "", method=method, sesion=b"")


@pytest.mark.parametrize(
    ("method", "action"),
    [
        *((name, "read") for name in ("prompts/list", "resources/subscribe", "subscriptions/listen")),
        *((name, "read") for name in ("tasks/get", "tasks/list", "tasks/result")),
        *((name, "write") for name in ("tasks/cancel", "logging/setLevel", "sampling/createMessage")),
        # Names like those of the handshake are not part of it.
        *((name, "write") for name in ("Initialize", "initialize/x", "notifications/vendor/run", "pings")),
    ],
)
def test_every_other_method_needs_a_scope(
    verifier: Verifier, issuer: Issuer, method: str, action: str
) -> None:
    """It is a read or a write, and what no version of the protocol names is a write."""
    presented = mint(issuer, "read:nothing")

    assert CATALOGUE.request("", method)[0] == action
    decision = verifier.check_tool(presented, CATALOGUE, "", method=method)
    assert decision.reason is Reason.OUT_OF_SCOPE


def test_an_item_of_a_token_alone_has_no_call() -> None:
    """A client's item refuses one."""
    item = CheckItem.of_token("t", session=bytes(16), source="::1", peer=("p",))
    assert item.token_only and item.action == item.resource == b""
    for part in [
        {"action": "read"},
        {"resource": "a"},
        {"arguments": "{}"},
        {"tool": b"{}"},
        {"proof": b"p"},
    ]:
        with pytest.raises(UsageError, match="token_only"):
            CheckItem(**{"token": "t", "action": "", "resource": "", "token_only": True, **part})  # type: ignore[arg-type]


def test_a_chain_is_judged_whole() -> None:
    """A child that another verifier is named by does not stand, though its root does."""
    judge = Verifier(bulk_sessions.source(), audience=AUDIENCE)
    narrowed = token(root("read:files/**", audience=[AUDIENCE, "b"]), child(audience=["b"]))
    decision = judge._check(narrowed, b"", b"", token_only=True, now_ms=NOW)

    assert (decision.reason, decision.index) == (Reason.WRONG_AUDIENCE, 1)
    assert Token.parse(narrowed).block_ids == decision.block_ids
