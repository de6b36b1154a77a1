"""The service's answers, byte for byte, against those that protobuf's own messages give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.errors import ServerError
from sessauth.server.keys.credentials import Principal
from sessauth.server.rpc.access import RULES
from sessauth.server.rpc.authenticate import FailedSignatures
from sessauth.server.rpc.call import CallContext
from sessauth.server.services.authorization import AuthorizationService
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support import token_sorts
from tests.support.cases import examples
from tests.support.checks_by_messages import ChecksByMessages
from tests.support.no_writer import NobodyThere
from tests.support.raw_requests import batch_fields, damaged, encode, nested_group, request_fields, varint
from tests.support.service import running

GATEWAYS = (
    Principal("gw-1", "gateway", ("gw",)),
    Principal("gw-2", "gateway", ("gw", "other")),
    Principal("gw-3", "gateway"),
    Principal("gw-4", "gateway", ("other",)),
)
EXAMPLES = settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class _Waiting:
    """The context of a call that somebody waits for."""

    stated = None

    def is_active(self) -> bool:
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return True


@dataclass
class Both:
    """The service and its reference over one verifier and state, and values to fill requests with."""

    verifier: Verifier
    source: Any
    values: dict[str, list[bytes]]

    def pair(self, burst: int = 10_000) -> tuple[AuthorizationService, ChecksByMessages]:
        """Fresh ones, with as many failures for each peer and none regained."""
        return (
            AuthorizationService(self.verifier, self.source, FailedSignatures(burst, 0), NobodyThere()),
            ChecksByMessages(self.verifier, self.source, FailedSignatures(burst, 0)),
        )


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """A server's state, read by one verifier for both."""
    with running() as service:
        assert service.control is not None
        source = service.control.writer.source()
        yield Both(Verifier(source), source, token_sorts.request_values(service.operator))


def _call(name: str, principal: Principal) -> CallContext:
    call = CallContext(
        name, RULES[f"/sessauth.v1.AuthorizationService/{name}"], cast("grpc.ServicerContext", _Waiting())
    )
    call.principal = principal
    call.deadline = call.started + 3600
    call.require_accepted = lambda call: None
    return call


def _outcome(answer: Callable[[], bytes], kind: Any) -> tuple[object, ...]:
    """Return the answer, with the decisions' own ids zeroed, or the refusal."""
    try:
        data = answer()
    except ServerError as error:
        return error.reason, error.field, str(error)
    message = kind.FromString(data)
    decisions = message.decisions if kind is pb.CheckBatchResponse else [message.decision]
    assert len({decision.decision_id for decision in decisions}) == len(decisions)
    for decision in decisions:
        assert len(decision.decision_id) == 16
        data = data.replace(decision.decision_id, bytes(16))
    return (data,)


def _ask(
    both: Both, name: str, data: bytes, principal: Principal = GATEWAYS[0], burst: int = 10_000
) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Return the service's outcome of a request, and the reference's."""
    service, reference = both.pair(burst)
    kind = {"Check": pb.CheckResponse, "CheckBatch": pb.CheckBatchResponse}.get(name, pb.CheckStreamResponse)

    def ask(one: Any) -> Callable[[], bytes]:
        call, answer = _call(name, principal), one.methods()[name].answer
        if name == "CheckStream":
            return lambda: next(answer(iter([data]), call))
        return lambda: answer(data, call)

    return _outcome(ask(service), kind), _outcome(ask(reference), kind)


@given(data=st.data(), principal=st.sampled_from(GATEWAYS))
@EXAMPLES
def test_any_check_is_answered_as_by_messages(both: Both, data: st.DataObject, principal: Principal) -> None:
    """Right and wrong tokens; fields twice, out of order, unknown: the same bytes come back."""
    request = encode(data.draw(request_fields(both.values, 1, (0, 2))))
    said, expected = _ask(both, "Check", request, principal)
    assert said == expected


@given(data=st.data(), principal=st.sampled_from(GATEWAYS))
@EXAMPLES
def test_any_batch_is_answered_as_by_messages(both: Both, data: st.DataObject, principal: Principal) -> None:
    """Item by item the same bytes, and the same words for a batch of the wrong form."""
    request = encode(data.draw(request_fields(both.values, 1, (0, 6))))
    said, expected = _ask(both, "CheckBatch", request, principal)
    assert said == expected


@given(data=st.data(), formed=st.sampled_from((True, True, False)))
@EXAMPLES
def test_any_batch_with_a_table_is_answered_as_by_messages(
    both: Both, data: st.DataObject, formed: bool
) -> None:
    """An item that names a token of the table is judged as one that has it, and what can't be is refused."""
    values = both.values
    if formed:
        values = {name: [value for value in values[name] if value] or [b""] for name in values}
        values |= {"token": both.values["token"], "session": values["session"][:2]}
    request = encode(data.draw(batch_fields(values, (0, 6))))
    said, expected = _ask(both, "CheckBatch", request)
    assert said == expected


@given(data=st.data(), principal=st.sampled_from(GATEWAYS))
@EXAMPLES
def test_any_message_of_a_stream_is_answered_as_by_messages(
    both: Both, data: st.DataObject, principal: Principal
) -> None:
    """The answer carries the request's id, and is else that of a check."""
    request = encode(data.draw(request_fields(both.values, 2, (0, 2))))
    said, expected = _ask(both, "CheckStream", request, principal)
    assert said == expected


@given(data=st.data())
@EXAMPLES
def test_damaged_requests_are_read_or_refused_as_by_messages(both: Both, data: st.DataObject) -> None:
    """Bytes that protobuf refuses are refused in the same words; those that it reads are read the same."""
    name, first = data.draw(st.sampled_from((("Check", 1), ("CheckBatch", 1), ("CheckStream", 2))))
    fields = request_fields(both.values, first, (1, 2))
    if name == "CheckBatch":
        fields = st.one_of(fields, batch_fields(both.values, (1, 2)))
    said, expected = _ask(both, name, data.draw(damaged(encode(data.draw(fields)))))
    assert said == expected


@given(data=st.binary(max_size=60))
@EXAMPLES
def test_noise_is_read_or_refused_as_by_messages(both: Both, data: bytes) -> None:
    """Bytes of no origin are refused in the same words, or mean the same."""
    for name in ("Check", "CheckBatch", "CheckStream"):
        said, expected = _ask(both, name, data)
        assert said == expected


def test_the_requests_reach_every_end(both: Both) -> None:
    """The values that requests are filled with lead to yeses, and to denials at many stages."""
    ends: set[int] = set()
    for token in both.values["token"]:
        for resource in (b"files/a/x", b"files/b"):
            item = pb.CheckItem(token=token, action=b"read", resource=resource, arguments=b'{"n": 3}')
            request = pb.CheckRequest(item=item, audience="gw").SerializeToString()
            said, expected = _ask(both, "Check", request)
            assert said == expected
            ends.add(pb.CheckResponse.FromString(cast("bytes", said[0])).decision.reason)

    assert ends >= {
        *(pb.REASON_ALLOWED, pb.REASON_MALFORMED_TOKEN, pb.REASON_TOKEN_TOO_LARGE, pb.REASON_OPEN_TOKEN),
        *(pb.REASON_SESSION_ENDED, pb.REASON_SESSION_SUSPENDED, pb.REASON_BAD_SIGNATURE, pb.REASON_REVOKED),
        *(pb.REASON_WRONG_AUDIENCE, pb.REASON_OUT_OF_SCOPE),
    }


@pytest.mark.parametrize("burst", [1, 2, 3])
def test_failed_signatures_are_counted_as_by_messages(both: Both, burst: int) -> None:
    """Few failures left: the same items of a batch are denied without a look, with the same words."""
    forged = [token for token in both.values["token"] if len(token) > 100 and b"sessauth_" not in token]
    items = [
        pb.CheckItem(token=token, action=b"read", resource=b"files/a/x", source=source)
        for token in dict.fromkeys(forged)
        for source in ("10.0.0.1", "10.0.0.2")
    ]
    request = pb.CheckBatchRequest(items=items, audience="gw").SerializeToString()

    said, expected = _ask(both, "CheckBatch", request, GATEWAYS[0], burst)

    assert said == expected
    decisions = pb.CheckBatchResponse.FromString(cast("bytes", said[0])).decisions
    told = [decision.explanation for decision in decisions]
    assert sum("too many" in explanation for explanation in told) == 2 * max(0, 3 - burst)


@pytest.mark.parametrize("depth", [1, 2, 31, 32])
def test_groups_are_skipped(both: Both, depth: int) -> None:
    """Fields of a kind that this API never had are stepped over, nested ones too."""
    item = pb.CheckItem(token=both.values["token"][0], action=b"read", resource=b"files/a/x")
    request = pb.CheckRequest(item=item, audience="gw").SerializeToString()
    request += varint(77 << 3 | 3) + nested_group(77, depth)

    said, expected = _ask(both, "Check", request)

    assert said == expected
    assert pb.CheckResponse.FromString(cast("bytes", said[0])).decision.allowed


def test_a_batch_larger_than_a_chunk_is_answered_as_by_messages(both: Both) -> None:
    """1,024 items are judged in parts; nothing shows where one ends."""
    tokens_ = both.values["token"]
    items = [
        pb.CheckItem(
            token=tokens_[number * 7 % len(tokens_)], action=b"read", resource=b"files/a/%d" % number
        )
        for number in range(1024)
    ]
    request = pb.CheckBatchRequest(items=items, audience="gw").SerializeToString()

    said, expected = _ask(both, "CheckBatch", request)
    assert said == expected


def test_a_long_batch_of_few_tokens_is_answered_as_by_messages(both: Both) -> None:
    """A token of every sort that items of all parts of 1,024 name is judged as if each item carried it."""
    table = both.values["token"]
    items = [
        pb.CheckItem(
            token_index=1 + number * 7 % len(table), action=b"read", resource=b"files/a/%d" % (number % 3)
        )
        for number in range(1024)
    ]
    request = pb.CheckBatchRequest(items=items, tokens=table, audience="gw").SerializeToString()

    said, expected = _ask(both, "CheckBatch", request)

    assert said == expected
    decisions = pb.CheckBatchResponse.FromString(cast("bytes", said[0])).decisions
    assert len({decision.reason for decision in decisions}) > 8
