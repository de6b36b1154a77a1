"""Decisions: their surface, and explanations good enough to act on."""

from __future__ import annotations

import json

import pytest

from sessauth.decisions.decision import Decision, DecisionBase, Denied
from sessauth.errors import UsageError
from sessauth.reasons import Reason, Stage
from sessauth.scopes.scope import Scope
from sessauth.tokens.token import Token
from tests.support.memory_fixture import AUDIENCE, NOW_MS, SESSION, MemoryFixture, memory_fixture

ROOT = 'read:mcp/github/* where owner == "acme" free *'
CHILD = 'read:mcp/github/* where owner == "acme" and repo == "web" free body'
PLANNER = "block 0 (label 'planner')"
IN_CHILD = f"block 1 (label 'sub-agent'), scope 0 `{CHILD}`"


@pytest.fixture
def token(memory: MemoryFixture) -> Token:
    """A root and a child of it."""
    root = memory.mint(ROOT, "write:notes/**", ending="open", label="planner")
    return root.attenuate(scopes=[CHILD, "write:notes/**"], where=["n? < 5"], label="sub-agent")


def test_an_allowed_decision_is_true(memory: MemoryFixture, token: Token) -> None:
    """It raises nothing, says who allowed, and its enums are enums over the kernel's numbers."""
    decision = memory.check(token, "read", "mcp/github/x", b'{"owner":"acme","repo":"web"}')

    assert decision and decision.allowed
    assert decision.reason is Reason.ALLOWED and decision.stage is Stage.NONE
    assert Decision.reason.__get__(decision) == 1  # type: ignore[attr-defined]
    decision.raise_if_denied()
    assert decision.explain(token) == f"ALLOWED by {IN_CHILD}"
    assert decision.explain() == "ALLOWED by block 1, scope 0"


def test_a_long_scope_is_shown_by_its_beginning(memory: MemoryFixture) -> None:
    """An explanation has 200 characters of a scope, and of each of those that it lists."""
    names = ", ".join(f'"{number:010}"' for number in range(60))
    long = memory.mint(f"read:files/* where n in [{names}]", *[f"read:files/{'x' * 300}"] * 9)

    failed = memory.check(long, "read", "files/a", b'{"n":"x"}').explain(long)
    assert f'scope 0 `read:files/* where n in ["{0:010}"' in failed and failed.count("…") == 2
    assert len(failed) < 600
    listed = memory.check(long, "write", "a").explain(long)
    assert listed.count("…") == 8 and listed.endswith("and 2 more") and len(listed) < 2000


def test_a_denied_decision_is_false_and_raises_itself(memory: MemoryFixture, token: Token) -> None:
    """Denied holds the decision and names reason and stage."""
    decision = memory.check(token, "delete", "x")

    assert not decision
    with pytest.raises(Denied, match="OUT_OF_SCOPE at stage scope") as caught:
        decision.raise_if_denied()
    assert caught.value.decision is decision
    assert decision.decision_id.hex() in repr(decision)


@pytest.mark.parametrize(
    ("action", "resource", "arguments", "expected"),
    [
        (
            "read",
            "mcp/github/x",
            {"owner": "acme", "repo": "api"},
            f"CONDITION_FAILED: {IN_CHILD}: condition 1 on argument `repo` does not hold;"
            ' it would allow `repo == "web"`',
        ),
        (
            "read",
            "mcp/github/x",
            {"owner": "acme", "repo": "web", "page": 1},
            f"CONDITION_FAILED: {IN_CHILD}: argument `page` is named by no condition and is not free;"
            " it would allow only `owner`, `repo`, `body`",
        ),
        (
            "write",
            "notes/a",
            {"n": 7},
            "CONDITION_FAILED: block 1 (label 'sub-agent'), where: condition 0 on argument `n` does not hold;"
            " it would allow `n? < 5`",
        ),
        (
            "write",
            "mcp/github/x",
            {},
            "OUT_OF_SCOPE: no scope of block 0 (label 'planner') covers this action on this resource;"
            f" it would allow `{ROOT}`, `write:notes/**`",
        ),
        (
            "read",
            "mcp//x",
            {},
            "MALFORMED_REQUEST: the request's `resource` is not 1 to 32 segments joined by `/`, 1024 bytes at"
            r" most: a segment is not empty, `.` or `..`, and has no control character, none of `\ * { }`,"
            " and no `%` before two hexadecimal digits",
        ),
        (
            "re ad",
            "mcp/github/x",
            {},
            "MALFORMED_REQUEST: the request's `action` is not 1 to 64 characters of `A-Z a-z 0-9 _ . -`",
        ),
        (
            "read",
            "mcp/github/x",
            {"n": float("nan")},
            "MALFORMED_REQUEST: the request's `arguments` is no JSON object of the format: at most 1 MiB of"
            " valid UTF-8, 32 levels and 10,000 values, no name twice in an object, no NaN, nothing behind"
            " it",
        ),
    ],
)
def test_a_denial_says_what_failed_and_what_would_be_allowed(
    memory: MemoryFixture,
    token: Token,
    action: str,
    resource: str,
    arguments: dict[str, object],
    expected: str,
) -> None:
    """Block, scope, clause and argument, from the token's own bytes."""
    decision = memory.check(token, action, resource, json.dumps(arguments).encode())

    assert decision.explain(token) == expected
    assert decision.explain(token.data) == decision.explain(token.text) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"audience": "other"},
            f"WRONG_AUDIENCE: {PLANNER} is not for this verifier, only for `{AUDIENCE}`",
        ),
        (
            {"now_ms": NOW_MS + 60_000},
            f"EXPIRED: {PLANNER} expired at 2027-01-15T08:01:00.000+00:00; mint another",
        ),
        (
            {"now_ms": NOW_MS - 60_000},
            f"NOT_YET_VALID: {PLANNER} is not valid yet; it begins 2027-01-15T08:00:00.000+00:00",
        ),
        (
            {"session": bytes(16)},
            "WRONG_SESSION: the token belongs to another session than the one that the caller states",
        ),
        (
            {"at_least_revision": 9},
            "STALE_STATE: the verifier's view is too old to allow by, or older than was asked for; "
            "retry once it has caught up",
        ),
    ],
)
def test_the_stages_before_scope_explain_themselves(
    memory: MemoryFixture, token: Token, options: dict[str, object], expected: str
) -> None:
    """Time, audience and session name the block, the limit or the remedy."""
    assert memory.check(token, "write", "notes/a", **options).explain(token) == expected


def test_source_and_peer_are_named(memory: MemoryFixture) -> None:
    """The admitted addresses and identities are listed."""
    by_source = memory.mint("read:x", source=["10.0.0.0/8"])
    by_peer = memory.mint("read:x", peer=["spiffe://a/b"])

    assert memory.check(by_source, "read", "x").explain(by_source).endswith("only for `10.0.0.0/8`")
    assert memory.check(by_peer, "read", "x").explain(by_peer).endswith("only for `spiffe://a/b`")


def test_a_revoked_block_is_named_by_its_id(token: Token) -> None:
    """So that the operator finds the revocation."""
    memory = memory_fixture(revoked=frozenset({token.block_ids[1]}))
    told = memory.check(token, "write", "notes/a").explain(token)

    assert told.startswith(f"REVOKED: block 1 (label 'sub-agent') (id {token.block_ids[1].hex()})")


def test_a_ceiling_is_named_by_its_layer(token: Token) -> None:
    """Scopes are shown if the ceilings are known, else the position."""
    layers = [["*:**"], ["write:notes/{a,b}"]]
    memory = memory_fixture(ceilings=layers)
    decision = memory.check(token, "write", "notes/c")
    told = "OUT_OF_SCOPE: no scope of ceiling layer 1 covers this action on this resource"

    assert decision.explain(token) == told
    scopes = [[Scope.parse(text) for text in layer] for layer in layers]
    assert decision.explain(token, scopes) == f"{told}; it would allow `write:notes/{{a,b}}`"


def test_needs_are_named(memory: MemoryFixture) -> None:
    """The needs of the deciding scope are shown."""
    token = memory.mint("read:x needs uses(3)")

    told = memory.check(token, "read", "x").explain(token)
    assert told.endswith("`read:x needs uses(3)` has a cost that only the server can charge")


def test_nothing_of_a_token_is_repeated_before_its_signature_stands(
    memory: MemoryFixture, token: Token
) -> None:
    """A forged label or scope does not reach the operator's screen."""
    forged = Token.parse(token.data.replace(b"sub-agent", b"sub-agenx"))
    decision = memory.check(forged, "write", "notes/a")

    assert decision.reason is Reason.BAD_SIGNATURE
    assert (
        decision.explain(forged)
        == "BAD_SIGNATURE: the signature of block 1 is wrong; it was altered or forged"
    )


def test_a_malformed_token_is_explained_by_its_form(memory: MemoryFixture, token: Token) -> None:
    """The fault of the bytes, or of the text, is named without a part of them."""
    decision = memory.checker.check(b"\x08\x01", "read", "x", audience=AUDIENCE)

    assert decision.explain(b"\x08\x01").startswith("MALFORMED_TOKEN: the token is against the format")
    assert "truncated" in decision.explain(token.text[:60])
    assert token.text[20:50] not in decision.explain(token.text[:60])


def test_another_token_than_the_one_judged_is_refused(memory: MemoryFixture, token: Token) -> None:
    """An explanation from other bytes would be wrong."""
    with pytest.raises(UsageError, match="another token"):
        memory.check(token, "delete", "x").explain(memory.mint("read:x"))


def test_an_agents_argument_name_can_not_disturb_a_terminal(memory: MemoryFixture) -> None:
    """Control characters are escaped, and a long name is cut."""
    token = memory.mint('read:x where a? == "b"')
    clear = memory.check(token, "read", "x", b'{"\\u001b[2J\\u202e":1}').explain(token)
    long = memory.check(token, "read", "x", json.dumps({"n" * 100_000: 1}).encode()).explain(token)

    assert clear.isprintable()
    assert len(long) < 1_000


def test_the_dict_is_json_with_words_and_hex(memory: MemoryFixture, token: Token) -> None:
    """Programs read no numbers of enums, and None where nothing applies."""
    allowed = memory.check(token, "write", "notes/a").to_dict()
    denied = memory.check(token, "write", "notes/a", b'{"n":9}').to_dict()

    assert json.loads(json.dumps(allowed)) == allowed
    assert (allowed["reason"], allowed["stage"], allowed["failed"]) == ("ALLOWED", "NONE", None)
    assert allowed["matched"] == {"block": 1, "scope": 1}
    assert allowed["session_id"] == SESSION.hex()
    assert allowed["block_ids"] == [block_id.hex() for block_id in token.block_ids]
    assert denied["matched"] is None
    assert denied["failed"] == {"level": "BLOCK", "index": 1, "scope": -1, "clause": 0, "argument": "n"}


class Remote(DecisionBase):
    """A decision as a client rebuilds it from an answer."""

    def __init__(self, *, allowed: bool, reason: Reason) -> None:
        """Fill what the base reads."""
        fields = {
            **{"allowed": allowed, "reason": reason, "stage": Stage.NONE, "level": 0, "argument": ""},
            **dict.fromkeys(("index", "scope", "clause", "matched_index", "matched_scope"), -1),
            **dict.fromkeys(("epoch", "revision", "view_age_ms", "expires_at_ms"), 0),
            **{"session_id": b"", "block_ids": (), "decision_id": bytes(16)},
        }
        self.__dict__.update(fields)


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.ALLOWED])
def test_only_an_explicit_allow_is_true(reason: Reason) -> None:
    """A reason other than ALLOWED denies whatever the flag says, and every reason has words."""
    contradictory = Remote(allowed=True, reason=reason)

    assert not contradictory
    with pytest.raises(Denied):
        contradictory.raise_if_denied()
    told = contradictory.explain()
    assert told.startswith(f"{reason.name}: ") and len(told) > len(reason.name) + 10
    assert not Remote(allowed=False, reason=Reason.ALLOWED)
    assert Remote(allowed=True, reason=Reason.ALLOWED)


def test_local_and_remote_decisions_share_one_surface() -> None:
    """Decision, which is the kernel's, counts as the common base and offers all of it."""
    assert issubclass(Decision, DecisionBase)
    assert [
        name for name in vars(DecisionBase) if not name.startswith("_") and not hasattr(Decision, name)
    ] == []
