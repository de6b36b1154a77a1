"""A survey of many calls: what is sent, and what comes back."""

from __future__ import annotations

import asyncio

import pytest

from sessauth import errors
from sessauth.client import AsyncClient, Client
from sessauth.crypto.armor import STORED_PREFIX
from sessauth.decisions.tool_catalog import Candidate
from sessauth.reasons import Reason, Stage, SurveyVerdict
from sessauth.v1 import authorization_service_pb2 as pb

from .conftest import FakeServer, always

RPC = "AuthorizationService/ListAllowed"
YES, NO, MAYBE = SurveyVerdict.YES, SurveyVerdict.NO, SurveyVerdict.MAYBE


def _answer(*verdicts: int, reason: int = 1, stage: int = 0) -> pb.ListAllowedResponse:
    return pb.ListAllowedResponse(verdicts=verdicts, reason=reason, stage=stage, revision=7)  # type: ignore[arg-type]


def test_what_is_sent(server: FakeServer, client: Client) -> None:
    """Token, candidates and who asks reach the request, in the asyncio client too; no arguments are told."""
    server.answers[RPC] = always(_answer(1, 2, 3, 1))
    candidates = [
        ("read", "a"),
        Candidate(b"read", "b", b"", b'{"safe":true}'),
        ("re\udcffad", "c", b"{}"),
        ("read", "d", None),
    ]
    given = {
        **{"session": bytes(16), "source": "::1", "peer": ["p"], "audience": "gw"},
        "at_least_revision": 3,
    }

    assert list(client.list_allowed(b"t", candidates, **given)) == [YES, NO, MAYBE, YES]  # type: ignore[arg-type]

    async def ask() -> None:
        async with AsyncClient(server.target, "") as other:
            assert list(await other.list_allowed(b"t", candidates, **given)) == [YES, NO, MAYBE, YES]  # type: ignore[arg-type]

    asyncio.run(ask())

    first, second = server.requests(pb.ListAllowedRequest)
    assert first == second
    assert (first.token, first.session_id, first.source, list(first.peer)) == (b"t", bytes(16), "::1", ["p"])
    assert (first.audience, first.at_least_revision) == ("gw", 3)
    assert [
        (each.action, each.resource, each.has_arguments, each.arguments) for each in first.candidates
    ] == [
        (b"read", b"a", False, b""),
        (b"read", b"b", True, b""),
        (b"re\xed\xb3\xbfad", b"c", True, b"{}"),
        (b"read", b"d", False, b""),
    ]
    assert first.candidates[1].tool == b'{"safe":true}'


@pytest.mark.parametrize(
    ("answer", "verdicts", "reason"),
    [
        (_answer(1, 3), [YES, MAYBE], Reason.ALLOWED),
        # Fewer than were asked for, more, one of a later version, one that says nothing.
        (_answer(1), [YES, NO], Reason.ALLOWED),
        (_answer(3, 2, 1), [MAYBE, NO], Reason.ALLOWED),
        (_answer(9, 1), [NO, YES], Reason.ALLOWED),
        (_answer(0, 0), [NO, NO], Reason.ALLOWED),
        # A token that is refused makes all of them a no, whatever they say.
        (_answer(2, 2, reason=21, stage=2), [NO, NO], Reason.SESSION_ENDED),
        (_answer(1, 1, reason=21, stage=2), [NO, NO], Reason.SESSION_ENDED),
        (_answer(1, 1, reason=999), [NO, NO], Reason.UNSPECIFIED),
        (_answer(1, 1, reason=0), [NO, NO], Reason.UNSPECIFIED),
    ],
)
def test_what_comes_back(
    server: FakeServer,
    client: Client,
    answer: pb.ListAllowedResponse,
    verdicts: list[SurveyVerdict],
    reason: Reason,
) -> None:
    """Only a plain yes about a token that stands is one; the answer is true only if all are."""
    server.answers[RPC] = always(answer)
    found = client.list_allowed(b"t", [("read", "a"), ("read", "b")])

    assert (list(found), found.reason, found.revision) == (verdicts, reason, 7)
    assert found.stage is (Stage.SESSION if reason is Reason.SESSION_ENDED else Stage.NONE)
    assert not found


def test_a_stored_token_keeps_its_secret(server: FakeServer, client: Client) -> None:
    """A stored form goes out as its prefix alone."""
    server.answers[RPC] = always(_answer(2))
    client.list_allowed(f"{STORED_PREFIX}SECRET", [("read", "a")])

    [request] = server.requests(pb.ListAllowedRequest)
    assert request.token == STORED_PREFIX.encode()


def test_none_or_too_many(client: Client) -> None:
    """A survey has 1 to 1024 candidates."""
    for count in (0, 1025):
        with pytest.raises(errors.UsageError, match="candidates"):
            client.list_allowed(b"t", [("read", "a")] * count)
