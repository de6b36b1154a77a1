"""Records added up by chain, against their own properties."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from sessauth._fast._check import DecisionQueue, DecisionRecord
from sessauth._fast._codec import ChainCalls, add_up
from sessauth.reasons import Reason
from tests.support import bulk_sessions
from tests.vectors.world import AUDIENCE, NOW, child, root, token

READ = "read:files/**"
TOKENS = [token(root(READ)), token(root(READ), child("read:files/a")), b"no token"]
ENDED = frozenset({Reason.OUT_OF_SCOPE, Reason.MALFORMED_TOKEN})


@pytest.fixture(scope="module")
def records() -> list[DecisionRecord]:
    """Records of calls, tokens alone, and an allow that is withdrawn, at times that are not in order."""
    checker, source = bulk_sessions.checker(), random.Random(3)
    checker.decision_queue = queue = DecisionQueue(1 << 20)
    for _ in range(300):
        resource = source.choice(["files/a", "files/b", "other"])
        now_ms = NOW + source.randrange(1000)
        checker._check(source.choice(TOKENS), "read", resource, audience=AUDIENCE, now_ms=now_ms)
        checker._check(source.choice(TOKENS), "", "", audience=AUDIENCE, now_ms=now_ms - 1, token_only=True)
    withdrawn = [(TOKENS[0], "read", "files/a")]
    batch = checker._check_batch(withdrawn, audience=AUDIENCE, now_ms=NOW + 5000, record=False)
    checker.record_batch_item(batch, 0, watched=True)
    return queue.drain()


def test_calls_are_those_of_the_records(records: list[DecisionRecord]) -> None:
    """Each chain has its calls, allows, denials and times, in the order of first calls."""
    chains, _ = add_up(records, ENDED)
    model: dict[bytes, list[DecisionRecord]] = defaultdict(list)
    for record in records:
        if record.signature_valid and not record.watched:
            model[record.token_digest].append(record)

    assert [calls.record.token_digest for calls in chains] == list(model)
    for calls, own in zip(chains, model.values(), strict=True):
        times = [each.at_ms for each in own]
        allows = [each.at_ms for each in own if each.allowed and not each.token_only]
        denied = sum(not each.allowed and not each.token_only for each in own)
        assert (calls.calls, calls.first_ms, calls.last_ms) == (len(own), min(times), max(times))
        assert (calls.allowed, calls.denied, calls.last_allow_ms) == (len(allows), denied, max(allows))


def test_a_chain_without_an_allow_has_no_last_one(records: list[DecisionRecord]) -> None:
    """Its time is 0."""
    denials = [record for record in records if record.signature_valid and not record.allowed]
    chains, _ = add_up(denials, ENDED)

    assert [(calls.allowed, calls.last_allow_ms) for calls in chains] == [(0, 0), (0, 0)]


def test_the_record_of_a_chain_is_that_with_payloads(records: list[DecisionRecord]) -> None:
    """Its place among the others makes no difference."""
    for order in (records, records[::-1]):
        chains, _ = add_up(order, ENDED)
        assert all(calls.record.payloads for calls in chains)


def test_ended_are_the_denials_for_these_reasons(records: list[DecisionRecord]) -> None:
    """The denials of any token, in their order."""
    _, ended = add_up(records, ENDED)

    assert ended == [record for record in records if not record.allowed and record.reason in ENDED]
    assert {record.signature_valid for record in ended} == {True, False}
    assert add_up(records, frozenset({Reason.ALLOWED}))[1] == []


def test_other_objects_are_refused() -> None:
    """Only records can be added up; calls can't be made in another way."""
    with pytest.raises(TypeError):
        add_up([object()], ENDED)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        add_up([None], ENDED)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="add_up"):
        ChainCalls()
    assert add_up([], ENDED) == ([], [])
