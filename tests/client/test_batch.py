"""A batch of checks: what is sent, and what comes back."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from sessauth import errors
from sessauth.client import AsyncClient, CheckItem, Client
from sessauth.crypto.armor import STORED_PREFIX
from sessauth.v1 import authorization_service_pb2 as check_pb

from .conftest import FakeServer, always

BATCH = "AuthorizationService/CheckBatch"


def test_batch_keeps_the_order(server: FakeServer, client: Client) -> None:
    """Decisions of a batch stand in the order of its items."""

    def judge(request: bytes, _context: grpc.ServicerContext) -> check_pb.CheckBatchResponse:
        items = check_pb.CheckBatchRequest.FromString(request).items
        return check_pb.CheckBatchResponse(
            decisions=[
                check_pb.Decision(allowed=item.action == b"read", reason=1 if item.action == b"read" else 80)  # type: ignore[arg-type]
                for item in items
            ]
        )

    server.answers[BATCH] = judge

    judged = client.check_batch([CheckItem(b"t", action, "x") for action in ("read", "write", "read")])

    assert [bool(each) for each in judged] == [True, False, True]


def test_batch_sends_a_token_that_repeats_once(server: FakeServer, client: Client) -> None:
    """Items that present one token name it, in the asyncio client too; a token of one item stays with it."""
    items = [CheckItem(token, "read", "x") for token in (b"a", b"b", "c", "a", b"", b"", b"c", b"a")]
    server.answers[BATCH] = always(check_pb.CheckBatchResponse())

    client.check_batch(items)
    client.check_batch(items[:3])

    async def ask() -> None:
        async with AsyncClient(server.target, "") as other:
            await other.check_batch(items)

    asyncio.run(ask())

    few, distinct, again = server.requests(check_pb.CheckBatchRequest)
    assert list(few.tokens) == [b"a", b"c"]
    assert [(item.token, item.token_index) for item in few.items] == [
        *((b"", 1), (b"b", 0), (b"", 2), (b"", 1), (b"", 0), (b"", 0), (b"", 2), (b"", 1)),
    ]
    assert not distinct.tokens
    assert [(item.token, item.token_index) for item in distinct.items] == [(b"a", 0), (b"b", 0), (b"c", 0)]
    assert again == few


def test_batch_never_sends_the_secret_of_a_stored_token(server: FakeServer, client: Client) -> None:
    """Stored forms go out as their prefix alone, in the table too."""
    server.answers[BATCH] = always(check_pb.CheckBatchResponse())

    client.check_batch([CheckItem(f"{STORED_PREFIX}SECRET{n % 2}", "read", "x") for n in range(3)])

    [request] = server.requests(check_pb.CheckBatchRequest)
    assert b"SECRET" not in request.SerializeToString()
    assert list(request.tokens) == [STORED_PREFIX.encode()]


def test_batch_that_is_empty_or_too_large(client: Client) -> None:
    """A batch has 1 to 1024 items."""
    for count in (0, 1025):
        with pytest.raises(errors.UsageError, match="items"):
            client.check_batch([CheckItem(b"t", "read", "x")] * count)
