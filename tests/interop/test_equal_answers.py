"""Any request, right or wrong, known or new: the loop and a thread answer with the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.loop_and_threads import BothServers, Client
from tests.support.raw_requests import batch_fields, damaged, encode, request_fields

EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CHECK, BATCH, STREAM = (f"AuthorizationService/{name}" for name in ("Check", "CheckBatch", "CheckStream"))
GATEWAYS = st.sampled_from(("gw-1", "gw-1", "gw-2", "gw-3", "gw-4"))
KINDS = {CHECK: pb.CheckRequest, BATCH: pb.CheckBatchRequest, STREAM: pb.CheckStreamRequest}
Values = dict[str, list[bytes]]


def test_any_check_is_answered_alike(both: BothServers, clients: dict[str, Client], values: Values) -> None:
    """Fields twice, out of order, unknown; each request a second time, when its token may be known."""
    before = both.on_loop.answered

    @given(data=st.data(), name=GATEWAYS)
    @EXAMPLES
    def ask(data: st.DataObject, name: str) -> None:
        request = encode(data.draw(request_fields(values, 1, (0, 2))))
        assume(not _asks_for_a_permit(pb.CheckRequest, request))
        assert clients[name].assert_same(CHECK, request) == clients[name].assert_same(CHECK, request)

    ask()
    assert both.on_loop.answered > before


def _asks_for_a_permit(kind: Any, request: bytes) -> bool:
    """Return True if an allow would carry a permit, which is random; ``test_equal_costs.py`` has those."""
    try:
        message: Any = kind.FromString(request)
    except DecodeError:
        return False
    items = message.items if kind is pb.CheckBatchRequest else [message.item]
    return any(item.permit_ms for item in items)


def test_any_batch_is_answered_alike(both: BothServers, clients: dict[str, Client], values: Values) -> None:
    """Items with tokens of their own, and by a table."""
    before = both.on_loop.answered

    @given(data=st.data(), name=GATEWAYS, table=st.booleans())
    @EXAMPLES
    def ask(data: st.DataObject, name: str, table: bool) -> None:
        fields = batch_fields(values, (0, 6)) if table else request_fields(values, 1, (0, 6))
        request = encode(data.draw(fields))
        assume(not _asks_for_a_permit(pb.CheckBatchRequest, request))
        assert clients[name].assert_same(BATCH, request) == clients[name].assert_same(BATCH, request)

    ask()
    assert both.on_loop.answered >= before


def test_well_formed_checks_and_batches_are_answered_alike(
    both: BothServers, clients: dict[str, Client], values: Values
) -> None:
    """Nearly all of them are evaluated, and on the loop when asked again: then their tokens are known."""
    formed = {name: [value for value in values[name] if value] or [b""] for name in values}
    formed["session"] = values["session"][:4]
    before = both.on_loop.answered
    reasons: set[int] = set()

    @given(data=st.data(), first=st.sampled_from((0, 0, *range(17))), table=st.booleans())
    @settings(EXAMPLES, max_examples=500)  # So many that the two counts below do not hang on luck.
    def ask(data: st.DataObject, first: int, table: bool) -> None:
        tokens = formed["token"][first : first + 3]
        items = [
            pb.CheckItem(
                action=data.draw(st.sampled_from(formed["action"])),
                resource=data.draw(st.sampled_from(formed["resource"])),
                arguments=data.draw(st.sampled_from(values["arguments"])),
                session_id=data.draw(st.sampled_from(formed["session"])),
                **({"token_index": 1 + at % len(tokens)} if table else {"token": tokens[at % len(tokens)]}),
            )
            for at in range(data.draw(st.integers(1, 8)))
        ]
        if data.draw(st.sampled_from((True, False, False))):
            # The token alone, which is answered on the loop too.
            for field in ("action", "resource", "arguments"):
                items[0].ClearField(field)  # type: ignore[arg-type]
            items[0].token_only = True
        if not table:
            alone = pb.CheckRequest(item=items[0], audience="gw").SerializeToString()
            assert clients["gw-1"].assert_same(CHECK, alone) == clients["gw-1"].assert_same(CHECK, alone)
        batch = pb.CheckBatchRequest(items=items, audience="gw", tokens=tokens if table else ())
        request = batch.SerializeToString()
        outcome = clients["gw-1"].assert_same(BATCH, request)
        assert clients["gw-1"].assert_same(BATCH, request) == outcome
        (answer,) = outcome.answers
        reasons.update(each.reason for each in pb.CheckBatchResponse.FromString(answer).decisions)

    ask()
    assert both.on_loop.answered > before + 150
    assert len(reasons) > 8, reasons


def test_any_stream_is_answered_alike(clients: dict[str, Client], values: Values) -> None:
    """Several messages of a stream; the first wrong one ends it."""

    @given(data=st.data(), name=GATEWAYS)
    @EXAMPLES
    def ask(data: st.DataObject, name: str) -> None:
        count = data.draw(st.integers(0, 3))
        # Watched calls keep a stream open.
        requests = [encode(data.draw(request_fields(values, 2, (0, 2)))) for _ in range(count)]
        clients[name].assert_same(STREAM, *requests)

    ask()


def test_damaged_requests_are_answered_alike(
    both: BothServers, clients: dict[str, Client], values: Values
) -> None:
    """A byte changed, bytes missing at the end or more of them there."""

    @given(data=st.data(), method=st.sampled_from(((CHECK, 1), (BATCH, 1), (STREAM, 2))))
    @EXAMPLES
    def ask(data: st.DataObject, method: tuple[str, int]) -> None:
        rpc, first = method
        fields = request_fields(values, first, (1, 2))
        if rpc == BATCH:
            fields = st.one_of(fields, batch_fields(values, (1, 2)))
        request = data.draw(damaged(encode(data.draw(fields))))
        assume(not _asks_for_a_permit(KINDS[rpc], request))
        clients["gw-1"].assert_same(rpc, request)

    ask()


def test_noise_is_answered_alike(clients: dict[str, Client]) -> None:
    """Bytes of no origin, to each of the RPCs."""

    @given(data=st.binary(max_size=60))
    @EXAMPLES
    def ask(data: bytes) -> None:
        for name in ("Check", "CheckBatch", "CheckStream", "ListAllowed", "Commit", "Release"):
            clients["gw-1"].assert_same(f"AuthorizationService/{name}", data)

    ask()


@pytest.mark.parametrize("count", [1, 8, 9, 255, 256, 257, 1024, 1025])
@pytest.mark.parametrize("table", [False, True], ids=["own tokens", "a table"])
def test_batches_of_each_size_are_answered_alike(
    clients: dict[str, Client], values: Values, count: int, table: bool
) -> None:
    """Allowed items, denied ones with explanations, and both; up to the limit and beyond it."""
    token = values["token"][0]
    for resources in ((b"files/a/x",), (b"files/b",), (b"files/a/x", b"files/a/y", b"files/b")):
        items = [
            pb.CheckItem(
                action=b"read",
                resource=resources[at % len(resources)],
                **({"token_index": 1} if table else {"token": token}),
            )
            for at in range(count)
        ]
        request = pb.CheckBatchRequest(items=items, audience="gw", tokens=[token] if table else ())
        outcome = clients["gw-1"].assert_same(BATCH, request.SerializeToString())
        assert bool(outcome.answers) is (count <= 1024)


def test_known_tokens_are_answered_on_the_loop(
    both: BothServers, clients: dict[str, Client], values: Values
) -> None:
    """Right tokens, alone and in batches: only their first call needs a thread, and denials of long ones."""
    client = clients["gw-1"]
    for token in values["token"][:3]:
        calls = [
            pb.CheckItem(token=token, action=b"read", resource=each) for each in (b"files/a/x", b"files/b")
        ]
        for item in (*calls, pb.CheckItem(token=token, token_only=True)):
            requests = [
                (CHECK, pb.CheckRequest(item=item, audience="gw")),
                (CHECK, pb.CheckRequest(item=item)),
                (BATCH, pb.CheckBatchRequest(items=[item] * 8, audience="gw")),
            ]
            for rpc, request in requests:
                client.assert_same(rpc, request.SerializeToString())
                before = both.on_loop.answered
                answer = client.assert_same(rpc, request.SerializeToString()).answers[0]
                decisions = (
                    pb.CheckBatchResponse.FromString(answer).decisions
                    if rpc == BATCH
                    else [pb.CheckResponse.FromString(answer).decision]
                )
                # To explain more than 512 bytes of denied tokens takes a thread.
                explained = len(token) * sum(not each.allowed for each in decisions)
                assert both.on_loop.answered == before + (explained <= 512)
