"""A batch's table of tokens: items that name a token are judged as those that carry it, for less work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import grpc
import pytest

from sessauth._fast._codec import CheckMessage
from sessauth.server.keys.credentials import Principal
from sessauth.server.rpc.access import RULES
from sessauth.server.rpc.authenticate import FailedSignatures
from sessauth.server.rpc.call import CallContext
from sessauth.server.services.authorization import AuthorizationService
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support.no_writer import NobodyThere
from tests.support.service import Caller, RpcError, Service

BATCH = "AuthorizationService/CheckBatch"


class _Waiting:
    """The context of a call that somebody waits for."""

    stated = None

    def is_active(self) -> bool:
        return True


@dataclass
class BatchCase:
    """A verifier of its own on the server's state, and CheckBatch by it."""

    verifier: Verifier
    service: AuthorizationService

    def reasons(self, items: list[pb.CheckItem], table: list[bytes]) -> list[int]:
        """The reasons of the decisions on a batch."""
        return [decision.reason for decision in self.decisions(items, table)]

    def decisions(self, items: list[pb.CheckItem], table: list[bytes]) -> list[pb.Decision]:
        """The decisions on a batch."""
        call = CallContext(
            "CheckBatch",
            RULES["/sessauth.v1.AuthorizationService/CheckBatch"],
            cast("grpc.ServicerContext", _Waiting()),
        )
        call.principal = Principal("gw-1", "gateway", ("gw",))
        call.deadline = call.started + 60
        request = pb.CheckBatchRequest(items=items, tokens=table).SerializeToString()
        return list(pb.CheckBatchResponse.FromString(self.service.check_batch(request, call)).decisions)


@pytest.fixture
def batch_case(service: Service) -> BatchCase:
    """A service that grants each peer one failed signature, and regains none."""
    assert service.control is not None
    source = service.control.writer.source()
    verifier = Verifier(source)
    return BatchCase(verifier, AuthorizationService(verifier, source, FailedSignatures(1, 0), NobodyThere()))


@pytest.fixture
def minted(operator: Caller, session: sessions.Session) -> list[bytes]:
    """Four tokens of a session."""
    request = tokens.MintRequest(session_id=session.id, scopes=["read:files/a/**"], audience=["gw"])
    return [Token.parse(operator.call("TokenService/Mint", request).token).data for _ in range(4)]


def _item(place: int, **fields: object) -> pb.CheckItem:
    return pb.CheckItem(**{"token_index": place, "action": b"read", "resource": b"files/a/x", **fields})


def _forged(token: bytes) -> bytes:
    at = token.index(b"\x0a\x40") + 5
    return token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :]


def test_items_are_judged_by_the_tokens_that_they_name(operator: Caller, minted: list[bytes]) -> None:
    """Over gRPC: bytes and text forms, tokens of the table and of items, in the order of the items."""
    table = [minted[0], b"rubbish", Token.parse(minted[1]).text.encode()]
    items = [
        _item(3),
        _item(2),
        _item(1, resource=b"files/b"),
        _item(0, token=minted[2]),
        _item(0),
        _item(3, arguments=b"{"),
        _item(1),
    ]
    request = pb.CheckBatchRequest(items=items, tokens=table, audience="gw")

    decisions = operator.call(BATCH, request).decisions

    assert [decision.reason for decision in decisions] == [
        pb.REASON_ALLOWED,
        pb.REASON_MALFORMED_TOKEN,
        pb.REASON_OUT_OF_SCOPE,
        pb.REASON_ALLOWED,
        pb.REASON_MALFORMED_TOKEN,
        pb.REASON_MALFORMED_REQUEST,
        pb.REASON_ALLOWED,
    ]
    ids = [tuple(decision.block_ids) for decision in decisions]
    assert ids[0] == ids[5] and ids[2] == ids[6] and len({ids[0], ids[2], ids[3]}) == 3


def test_a_token_of_the_table_is_looked_up_once(batch_case: BatchCase, minted: list[bytes]) -> None:
    """However many items name it, in whatever order, over more than one part of a long batch."""
    items = [_item(1 + number % 4) for number in range(600)]
    assert batch_case.reasons(items, minted) == [pb.REASON_ALLOWED] * 600
    before = batch_case.verifier.cache.hits

    assert batch_case.reasons(items, minted) == [pb.REASON_ALLOWED] * 600

    assert batch_case.verifier.cache.hits - before == 4
    assert batch_case.verifier.signatures == 4


def test_a_text_of_the_table_is_read_once(batch_case: BatchCase, minted: list[bytes]) -> None:
    """However many items name it, right or wrong, and not at all when no item names it."""
    table = [Token.parse(token).text.encode() for token in minted[:2]] + [b"sessauth_token_!"]
    items = [_item(1), _item(3)] * 150
    # The second time a text is found by its bytes, the third time without decoding.
    reasons = [batch_case.reasons(items, table) for _ in range(2)]
    before = batch_case.verifier.cache.hits

    reasons.append(batch_case.reasons(items, table))

    assert reasons == [[pb.REASON_ALLOWED, pb.REASON_MALFORMED_TOKEN] * 150] * 3
    assert batch_case.verifier.cache.hits - before == 1


def test_a_forged_token_of_the_table_is_looked_at_once(batch_case: BatchCase, minted: list[bytes]) -> None:
    """All items that name it are denied by one failed signature, and that one is counted."""
    table = [_forged(minted[0]), _forged(minted[1]), minted[2]]
    batch_case.reasons([_item(3)], table)

    decisions = batch_case.decisions([_item(1), _item(2), _item(3)] * 3, table)

    assert [decision.reason for decision in decisions] == [
        pb.REASON_BAD_SIGNATURE,
        pb.REASON_BAD_SIGNATURE,
        pb.REASON_ALLOWED,
    ] * 3
    assert batch_case.verifier.bad_signatures == 1
    told = [decision.explanation for decision in decisions]
    assert not any("too many" in text for text in told[0::3])
    assert all("too many" in text for text in told[1::3])


def test_items_that_state_a_peer_are_each_looked_at(batch_case: BatchCase, minted: list[bytes]) -> None:
    """Failures count by source, so each source has one look at a forged token."""
    items = [_item(1, source="10.0.0.1"), _item(1, source="10.0.0.2"), _item(1, source="10.0.0.1")]

    told = [decision.explanation for decision in batch_case.decisions(items, [_forged(minted[0])])]

    assert ["too many" in text for text in told] == [False, False, False]
    assert batch_case.verifier.bad_signatures == 2


@pytest.mark.parametrize(
    ("items", "tokens_given", "field", "said"),
    [
        ([_item(1), _item(3)], 2, "items[1].token_index", "must be at most 2, as many as tokens, not 3"),
        ([_item(1)], 0, "items[0].token_index", "must be at most 0, as many as tokens, not 1"),
        ([_item(2**32 - 1)], 1, "items[0].token_index", f"not {2**32 - 1}"),
        ([_item(0, token=b"t"), _item(1, token=b"t")], 1, "items[1].token_index", "must be 0 beside a token"),
        ([_item(9, token=b"t")], 1, "items[0].token_index", "must be 0 beside a token"),
        ([_item(1, action=b""), _item(7)], 1, "items[0].action", "is required"),
        ([_item(1)], 1025, "tokens", "must be at most 1024, not 1025"),
    ],
)
def test_a_wrong_place_is_refused_and_named(
    operator: Caller, items: list[pb.CheckItem], tokens_given: int, field: str, said: str
) -> None:
    """The whole batch is INVALID_ARGUMENT, with the first item that is wrong; nothing is judged."""
    request = pb.CheckBatchRequest(items=items, tokens=[b"t"] * tokens_given, audience="gw")
    with pytest.raises(RpcError) as raised:
        operator.call(BATCH, request)

    assert (raised.value.code, raised.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert said in raised.value.message


def test_a_table_as_large_as_a_batch_is_taken(operator: Caller, minted: list[bytes]) -> None:
    """1,024 tokens, each named by an item, and the last one as well as the first."""
    items = [_item(1 + number) for number in range(1024)]
    request = pb.CheckBatchRequest(items=items, tokens=[*minted, *[minted[0]] * 1020], audience="gw")

    decisions = operator.call(BATCH, request).decisions

    assert [decision.reason for decision in decisions] == [pb.REASON_ALLOWED] * 1024


def test_only_a_batch_has_a_table(operator: Caller, minted: list[bytes]) -> None:
    """A place in a Check or a message of CheckStream is refused, with a token beside it or not."""
    for item in (_item(1), _item(1, token=minted[0])):
        with pytest.raises(RpcError) as raised:
            operator.call("AuthorizationService/Check", pb.CheckRequest(item=item, audience="gw"))
        assert (raised.value.code, raised.value.field) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "item.token_index",
        )
        with pytest.raises(RpcError) as raised:
            list(
                operator.stream(
                    "AuthorizationService/CheckStream",
                    iter([pb.CheckStreamRequest(item=item, audience="gw")]),
                )
            )
        assert (raised.value.code, raised.value.field) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "item.token_index",
        )


def test_what_is_too_much_is_counted_and_not_kept(batch_case: BatchCase) -> None:
    """A message with 100,000 items or tokens leaves their number alone, and nothing is judged."""
    right = pb.CheckBatchRequest(items=[_item(1)]).SerializeToString()
    for data, expected in (
        (right * 100_000, (100_000, 0, 0)),
        (right + b"\x22\x00" * 100_000, (1, 100_000, 1)),
    ):
        asking = CheckMessage(batch_case.verifier, data, "batch")

        assert (asking.stated, asking.stated_tokens, len(asking)) == expected
        with pytest.raises(ValueError, match="well-formed"):
            asking.judge("gw")
