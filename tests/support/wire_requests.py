"""Check requests in wire form, held against what protobuf's runtime reads and ``Verifier.check`` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sessauth._fast._codec import CheckMessage
from sessauth.reasons import Stage
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support.commit_id_source import CommitIdSource
from tests.support.decision_fields import by_message, by_object, without_time
from tests.support.no_writer import NoWriter
from tests.support.raw_requests import read_by_protobuf
from tests.support.token_forger import id16, key, make
from tests.support.vector_files import read_view
from tests.vectors.world import AUDIENCE, NOW, SESSION, VIEWS, child, link, root, token

KINDS = {
    "check": pb.CheckRequest,
    "batch": pb.CheckBatchRequest,
    "stream": pb.CheckStreamRequest,
    "commit": pb.CommitRequest,
}
ANSWERS = {
    "check": pb.CheckResponse,
    "batch": pb.CheckBatchResponse,
    "stream": pb.CheckStreamResponse,
    "commit": pb.CommitResponse,
}
# The number of the item's field.
FIRST = {"check": 1, "batch": 1, "stream": 2, "commit": 2}

CHAIN = token(
    root("read:files/** where n? <= 9 and tool.safe? == true", peer=["aa"]),
    child(source=["10.0.0.0/8"]),
)
PLAIN = token(root("read:files/**"))
COSTLY = token(root(f'read:files/** needs approval(1, "{"A" * 43}")', "read:files/a needs uses(1)"))
BOUND = token(root("read:files/**"), last="bound")
FORGED = make(link(root("read:files/**")), [key("nobody")])
VALUES: dict[str, Sequence[bytes]] = {
    "token": [CHAIN, CHAIN, PLAIN, PLAIN, COSTLY, BOUND, FORGED, b"", b"sessauth_token_AAAA", b"\x08\x01"],
    "action": [b"read", b"read", b"write", b"", b"\xff"],
    "resource": [b"files/a", b"files/b", b"logs", b"", b"files//a"],
    "arguments": [b"", b'{"n":1}', b'{"n":10}', b'{"m":1}', b"{"],
    "tool": [b"", b'{"safe":true}', b'{"safe":false}', b"["],
    "session": [b"", b"", SESSION, id16("another"), b"short"],
}


def verifier() -> Verifier:
    """A verifier on the plain view."""
    source = CommitIdSource()
    source.load(*read_view(VIEWS["plain"]))
    return Verifier(source, audience=AUDIENCE)


JUDGE = verifier()


def explain(decision: Any, data: bytes) -> str:
    """A text that depends on both."""
    return f"{decision.reason.name} é {len(data)}"


def items_of(kind: str, message: Any) -> list[Any]:
    """The items of a parsed request."""
    if kind == "batch":
        return list(message.items)
    return [message.item] if message.HasField("item") else []


def decisions_of(kind: str, data: bytes) -> list[Any]:
    """The decisions of an answer."""
    message = ANSWERS[kind].FromString(data)
    return list(message.decisions) if kind == "batch" else [message.decision]


def decoded(kind: str, data: bytes, judge_by: Verifier = JUDGE) -> CheckMessage | None:
    """Return the message as the kernel decodes it, or None."""
    try:
        return CheckMessage(judge_by, data, kind)
    except ValueError:
        return None


def hold_alike(kind: str, data: bytes) -> bool:
    """Hold that kernel and protobuf read the same; returns whether they read anything."""
    message, check_message = read_by_protobuf(KINDS[kind], data), decoded(kind, data)
    assert (message is None) is (check_message is None)
    if message is None or check_message is None:
        return False
    items = items_of(kind, message)
    table = list(message.tokens) if kind == "batch" else []
    assert len(check_message) == check_message.stated == len(items)
    assert check_message.stated_tokens == len(table)
    assert check_message.audience == message.audience
    assert check_message.id == (message.id if kind == "stream" else 0)
    assert check_message.watch is (message.watch if kind == "stream" else False)
    assert check_message.permit == (message.permit if kind == "commit" else b"")
    assert check_message.at_least_revision == message.at_least_revision
    formed = True
    for at, item in enumerate(items):
        assert check_message.token(at) == item.token
        assert check_message.token_index(at) == item.token_index
        assert check_message.session_bytes(at) == len(item.session_id)
        assert check_message.peer_count(at) == len(item.peer)
        assert check_message.states(at) == (bool(item.action), bool(item.resource))
        assert check_message.approvals(at) == tuple(item.approvals[:16])
        assert check_message.approval_count(at) == len(item.approvals)
        assert (check_message.retry_id(at), check_message.permit_ms(at)) == (item.retry_id, item.permit_ms)
        assert check_message.token_only(at) is item.token_only
        parts = (item.action, item.resource, item.arguments, item.tool, item.proof, *item.approvals)
        has_call = any(parts) or bool(item.approvals or item.retry_id or item.permit_ms) or kind == "commit"
        assert check_message.has_call(at) is has_call
        formed &= not has_call if item.token_only else bool(item.action and item.resource)
        formed &= len(item.session_id) in (0, 16)
        formed &= len(item.peer) <= 16 and len(item.approvals) <= 16
        formed &= len(item.retry_id) <= 64 and item.permit_ms <= 300_000
        formed &= item.token_index == 0 or (not item.token and item.token_index <= len(table))
    assert check_message.well_formed() is formed
    if not formed:
        with pytest.raises(ValueError, match="well-formed"):
            check_message.judge(check_message.audience, now_ms=NOW)
        return True
    for item in items:
        if item.token_index:
            item.token = table[item.token_index - 1]
    _hold_answer(kind, check_message, message, items)
    return True


def _hold_answer(kind: str, check_message: CheckMessage, message: Any, items: list[Any]) -> None:
    """Hold that each item is judged by what protobuf read of it, and answered in protobuf's own bytes."""
    check_message.judge(check_message.audience, now_ms=NOW)
    data = check_message.answer(explain)
    again = ANSWERS[kind].FromString(data)
    assert again.SerializeToString(deterministic=True) == data
    if kind == "stream":
        assert again.id == message.id
    if not items:
        return
    for at, (item, answer) in enumerate(zip(items, decisions_of(kind, data), strict=True)):
        alone = JUDGE._check(
            item.token,
            item.action,
            item.resource,
            item.arguments,
            tool=item.tool,
            session=item.session_id,
            source=item.source,
            peer=tuple(item.peer),
            audience=message.audience,
            at_least_revision=message.at_least_revision,
            now_ms=NOW,
            proof=item.proof,
            cost_handler=NoWriter(item),
            token_only=item.token_only,
        )
        assert check_message.wants_writer(at) is (alone.stage == Stage.NEEDS)
        parts = (item.token, item.action, item.resource, item.arguments, item.tool, item.session_id)
        assert check_message.call(at) == (*parts, item.source, tuple(item.peer), item.proof)
        assert by_message(answer) == without_time(by_object(alone))
        assert by_object(check_message[at]) == by_object(alone)
        assert answer.decision_id == check_message[at].decision_id != alone.decision_id
        assert answer.explanation == ("" if alone else explain(alone, check_message.token(at)))


def item(**fields: Any) -> bytes:
    """An item that is allowed, but for the fields given."""
    return pb.CheckItem(
        **{"token": PLAIN, "action": b"read", "resource": b"files/a", **fields}
    ).SerializeToString()
