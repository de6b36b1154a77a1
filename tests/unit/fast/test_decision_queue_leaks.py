"""Notes keep nothing once they were drained and written: neither memory nor a reference."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import pytest

from sessauth._fast._check import DecisionQueue
from sessauth._fast._codec import CheckMessage, DecisionText, add_up
from sessauth.reasons import Reason, Stage
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.leaks import growth
from tests.vectors.world import AUDIENCE, NOW, child, root, token

CALLS = 4_000
FEW = 300


class Given:
    """The objects of the calls, whose references are counted."""

    def __init__(self) -> None:
        """A verifier with a queue that now and then is full."""
        self.verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
        self.uncached = Verifier(bulk_sessions.source(), audience=AUDIENCE, cache_bytes=0)
        self.decision_queue = self.verifier.decision_queue = self.uncached.decision_queue = DecisionQueue(
            16_384
        )
        self.text = DecisionText(bytes(32), {1: "ALLOWED"}, {0: "NONE"}, sample_allows=0.5)
        self.right = token(root("read:files/** where n? <= 5"), child())
        self.refused = "sessauth_token_AAAA!"
        self.resource, self.arguments, self.left = "files/é", b'{"n":1}', b'{"n":1,"m":{}}'
        self.audience = "gateway"

    def counts(self) -> dict[str, int]:
        """Return the reference count of each object."""
        return {name: sys.getrefcount(thing) for name, thing in vars(self).items()}


GIVEN = Given()


def by_check(verifier: Verifier) -> None:
    """An allow, a denial with an argument, and a text that is none."""
    for presented, arguments in (
        (GIVEN.right, GIVEN.arguments),
        (GIVEN.right, GIVEN.left),
        (GIVEN.refused, b""),
    ):
        verifier._check(presented, "read", GIVEN.resource, arguments, audience=GIVEN.audience, now_ms=NOW)


def by_batch() -> None:
    """A batch, of which one item is noted a second time, and a denial from elsewhere."""
    calls = [(GIVEN.right, "read", GIVEN.resource, GIVEN.left), (GIVEN.refused, "read", GIVEN.resource)]
    batch = GIVEN.verifier._check_batch(calls, audience=GIVEN.audience, now_ms=NOW)
    GIVEN.verifier.record_batch_item(batch, 0, watched=True)
    refusal = GIVEN.verifier.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL)
    GIVEN.verifier.record_decision(refusal, GIVEN.refused, "read", GIVEN.resource, audience=GIVEN.audience)


def by_request() -> None:
    """A request that is answered by what was found, by another decision, and elsewhere."""
    item = pb.CheckItem(token=GIVEN.right, action=b"read", resource=b"files/a", arguments=GIVEN.left)
    asking = CheckMessage(GIVEN.verifier, pb.CheckBatchRequest(items=[item] * 3).SerializeToString(), "batch")
    asking.judge(GIVEN.audience, now_ms=NOW)
    other = GIVEN.verifier._check(GIVEN.right, "read", GIVEN.resource, GIVEN.left, now_ms=NOW)
    asking.override(1, other)
    asking.answer(lambda decision, data: "no", (2,))


@pytest.mark.parametrize(
    "way",
    [lambda: by_check(GIVEN.verifier), lambda: by_check(GIVEN.uncached), by_batch, by_request],
    ids=["checks", "checks that nothing caches", "batches", "requests"],
)
def test_nothing_is_kept(way: Callable[[], None]) -> None:
    """Thousands of calls, some with lost records, leak no references and no blocks."""

    def run(calls: int) -> None:
        for number in range(calls):
            way()
            if number % 20 == 0:
                notes = GIVEN.decision_queue.drain()
                GIVEN.text.write(notes)
                add_up(notes, {Reason.OUT_OF_SCOPE})
                for note in notes[:2]:
                    assert note.token_digest and (note.payloads or note.block_ids or not note.signature_valid)
        GIVEN.decision_queue.drain()

    run(500)
    gc.collect()
    counted, lost = GIVEN.counts(), GIVEN.decision_queue.lost
    grown = growth(lambda: run(CALLS), FEW, sys.maxsize)
    found = GIVEN.counts()

    assert {name: count for name, count in found.items() if abs(count - counted[name]) > 3} == {}
    assert grown.blocks < FEW
    assert GIVEN.decision_queue.lost >= lost
