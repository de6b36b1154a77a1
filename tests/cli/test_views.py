from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from sessauth.cli.commands import check, token
from sessauth.cli.commands.token import SignatureStatus
from sessauth.cli.output import fields, moment, moment_and_distance, printable, span, table
from sessauth.cli.render import session as session_view
from sessauth.client import RemoteDecision
from sessauth.model.session import EndCause, Fact, Session, SessionStatus
from sessauth.reasons import Level, Reason, Stage
from sessauth.scopes.scope import Condition, Scope
from sessauth.tokens.block_draft import BlockInfo, Ending, TokenInfo

NOW_MS = 1_770_000_000_000
MINUTE = 60_000


def _block(index: int, ending: Ending, **fields: object) -> BlockInfo:
    expected: dict[str, object] = {
        "label": "", "issued_at_ms": 0, "expires_at_ms": 0, "not_before_ms": 0, "audience": (), "scopes": (),
        "where": (), "source": (), "peer": (), "max_blocks": 0, "next_key": b"", "proof_key": b"",
        "may_seal": False,
    }  # fmt: skip
    return BlockInfo(index=index, block_id=bytes([index]) * 32, ending=ending, **{**expected, **fields})  # type: ignore[arg-type]


INFO = TokenInfo(
    issuer_key_id=b"\x11" * 32,
    session_id=b"\x22" * 16,
    token_id=b"\x33" * 16,
    min_revision=0,
    expires_at_ms=NOW_MS + 5 * MINUTE,
    not_before_ms=0,
    max_blocks=4,
    size_bytes=512,
    blocks=(
        _block(
            0,
            Ending.OPEN,
            issued_at_ms=NOW_MS - MINUTE,
            expires_at_ms=NOW_MS + 15 * MINUTE,
            audience=("gateway", "billing"),
            scopes=(Scope.parse('read:mcp/github/* where owner == "acme" free *'),),
            max_blocks=4,
        ),
        _block(
            1,
            Ending.OPEN,
            label="sub-agent",
            expires_at_ms=NOW_MS + 5 * MINUTE,
            where=(Condition.parse('repo == "web"'),),
            source=("10.0.0.0/8",),
        ),
        _block(2, Ending.SEALED),
    ),
)

TREE = """\
VERIFIED by the server: signed by key 1; whether a call is allowed, only a check says
session     22222222222222222222222222222222 (ACTIVE)
token       33333333333333333333333333333333
issuer key  1111111111111111111111111111111111111111111111111111111111111111
expires     2026-02-02T02:45:00Z (in 5m)
size        512 bytes
root block, open, 0000000000000000000000000000000000000000000000000000000000000000
│  issued      2026-02-02T02:39:00Z (1m ago)
│  expires     2026-02-02T02:55:00Z (in 15m)
│  audience    gateway, billing
│  scope 0     read:mcp/github/* where owner == "acme" free *
│  max blocks  4
└─ block 1 'sub-agent', open, 0101010101010101010101010101010101010101010101010101010101010101 REVOKED
   │  expires  2026-02-02T02:45:00Z (in 5m)
   │  where 0  repo == "web"
   │  source   10.0.0.0/8
   └─ block 2, sealed, 0202020202020202020202020202020202020202020202020202020202020202
         limits  none of its own
"""


def test_token_as_a_tree() -> None:
    """A chain is a tree in which each block hangs from the one it narrows, with all that it says."""
    verdict = SignatureStatus(True, True, "the server", "signed by key 1", (1,), "ACTIVE")

    assert "\n".join(token.to_lines(INFO, verdict, NOW_MS)) + "\n" == TREE


def test_token_as_json() -> None:
    """The JSON of an inspection has the verdict beside what the token says."""
    document = token.to_json(INFO, SignatureStatus(True, False, "the server", "forged", (), ""))

    assert (document["verdict"], document["verified"], document["detail"]) == (
        "NOT VERIFIED",
        False,
        "forged",
    )
    assert token.to_json(INFO, SignatureStatus())["verdict"] == "UNVERIFIED"
    blocks = document["blocks"]
    assert isinstance(blocks, list)
    assert blocks[1]["where"] == ['repo == "web"']


def _decision(**fields: object) -> RemoteDecision:
    expected: dict[str, object] = {
        "allowed": False, "reason": Reason.OUT_OF_SCOPE, "stage": Stage.SCOPE, "level": Level.BLOCK,
        "index": 0, "scope": -1, "clause": -1, "argument": "", "matched_index": -1, "matched_scope": -1,
        "session_id": b"\x22" * 16, "epoch": 3, "block_ids": (), "revision": 7, "view_age_ms": 0,
        "expires_at_ms": NOW_MS, "decision_id": b"\x44" * 16,
    }  # fmt: skip
    return RemoteDecision(**{**expected, **fields})  # type: ignore[arg-type]


def test_denied_decision_for_people() -> None:
    """A denial shows the stage, the explanation and what it was judged by."""
    assert check.to_lines(_decision(), "OUT_OF_SCOPE: no scope of block 0 covers this") == [
        "DENIED at stage scope",
        "  OUT_OF_SCOPE: no scope of block 0 covers this",
        "session   22222222222222222222222222222222",
        "epoch     3",
        "revision  7",
        "decision  44444444444444444444444444444444",
    ]


def test_allowed_decision_for_people() -> None:
    """A yes shows by which scope, and until when time alone lets it stand."""
    allowed = _decision(
        allowed=True, reason=Reason.ALLOWED, stage=Stage.NONE, matched_index=0, matched_scope=0
    )

    assert check.to_lines(allowed, "ALLOWED by block 0, scope 0")[:2] == [
        "ALLOWED",
        "  by block 0, scope 0",
    ]
    assert "holds until  2026-02-02T02:40:00Z" in check.to_lines(allowed, "ALLOWED")


SESSION = Session(
    id=b"\x22" * 16,
    subject="agent:\x1b[2Jx",
    purpose="ticket 4711",
    owner="operator",
    parent_id=b"",
    status=SessionStatus.ACTIVE,
    epoch=2,
    ceilings=((Scope.parse("read:files/**").to_record(),), (Scope.parse("read:files/a").to_record(),)),
    facts=(Fact("case", "c1", True), Fact("level", Decimal("2.50")), Fact("present", True)),
    labels={"team": "x"},
    opened_at_ms=NOW_MS - MINUTE,
    expires_at_ms=NOW_MS + 60 * MINUTE,
    lease_ms=30_000,
    issuer_key_ids=(),
    revoked_count=0,
    ended_at_ms=0,
    end_cause=EndCause.UNSPECIFIED,
    reason="",
    revision=9,
    lease_deadline_ms=NOW_MS + 20_000,
)

LINES = """\
session   22222222222222222222222222222222
status    ACTIVE
subject   "agent:\\u001b[2Jx"
purpose   ticket 4711
owner     operator
epoch     2
opened    2026-02-02T02:39:00Z
hard end  2026-02-02T03:40:00Z (in 1h)
lease     30s, lapses 2026-02-02T02:40:20Z (in 20s)
labels    team=x
ceiling layer 0
  read:files/**
ceiling layer 1
  read:files/a
facts
  case = "c1"  (visible to holders)
  level = 2.5
  present = true
"""


def test_session_for_people() -> None:
    """A session shows all that it is, and a text of it can't move the cursor."""
    assert "\n".join(session_view.to_lines(SESSION, NOW_MS)) + "\n" == LINES


def test_what_a_session_has_open_is_shown() -> None:
    """Open permits and approvals that wait stand in the lines where there are any, and always in the JSON."""
    session = replace(SESSION, open_permits=3, open_approvals=2)
    lines = session_view.to_lines(session, NOW_MS)

    assert [line.split()[-1] for line in lines if line.startswith("open ")] == ["3", "2"]
    assert not [line for line in session_view.to_lines(SESSION, NOW_MS) if line.startswith("open ")]
    for shown, counts in ((session, (3, 2)), (SESSION, (0, 0))):
        document = session_view.to_json(shown)
        assert (document["open_permits"], document["open_approvals"]) == counts


def test_session_as_json() -> None:
    """The JSON of a session has its scopes in text form, and exact numbers."""
    document = session_view.to_json(SESSION)

    assert document["ceilings"] == [["read:files/**"], ["read:files/a"]]
    assert document["facts"]["level"] == {"value": "2.5", "visible": False}
    assert (document["id"], document["status"], document["end_cause"]) == ("22" * 16, "ACTIVE", "")


def test_table_is_aligned_and_cut() -> None:
    """Columns are aligned, and a long cell is cut with an ellipsis."""
    assert table(("A", "LONG"), [["xyz", "b"], ["", "c" * 70]]) == [
        "A    LONG",
        "xyz  b",
        "     " + "c" * 59 + "…",
    ]


def test_fields_leave_out_what_is_empty() -> None:
    """A field without a value has no line; zero is a value."""
    assert fields([("a", ""), ("bcd", 0), ("e", None), ("f", "g")]) == ["bcd  0", "f    g"]


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\x00b", "a\u200bb"])
def test_what_does_not_show_is_escaped(text: str) -> None:
    """Control, bidirectional and invisible characters are printed as escapes."""
    assert printable(text).isprintable()
    assert text not in printable(text)
    assert printable("plain ü …") == "plain ü …"


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(0, "0ms"), (999, "999ms"), (1000, "1s"), (61_000, "1m 1s"), (3_600_000, "1h"), (90_061_000, "1d 1h")],
)
def test_span(ms: int, expected: str) -> None:
    """A length of time has at most two units."""
    assert span(ms) == expected


def test_moments() -> None:
    """A moment is UTC, with how far it is from now; beyond the year 9999 it stays a number."""
    assert moment(NOW_MS) == "2026-02-02T02:40:00Z"
    assert moment(0) == ""
    assert moment(2**53 - 1) == "9007199254740991 ms"
    assert moment_and_distance(NOW_MS - 1500, NOW_MS) == "2026-02-02T02:39:58Z (1s ago)"
