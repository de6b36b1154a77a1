"""Decisions are counted once, whichever way they were asked for."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterable

import pytest

from sessauth._fast._check import (
    CHECK_BOUNDS_NS,
    COUNTERS_BYTES,
    CheckCounters,
    Histograms,
    WireError,
    histogram_bytes,
    read_fields,
    read_number,
)
from sessauth._fast._codec import CheckMessage
from sessauth.decisions.decision import DecisionBase
from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.reasons import Reason, Stage
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.wire_requests import CHAIN, COSTLY, FORGED, PLAIN, verifier
from tests.vectors.world import AUDIENCE, NOW

Count = Counter[tuple[int, int]]

CALLS = [
    (PLAIN, b"read", b"files/a"),
    (PLAIN, b"write", b"files/a"),
    (PLAIN, b"read", b"files//a"),
    (CHAIN, b"read", b"files/a", b'{"n":10}', b'{"safe":true}', b"", "10.1.2.3", ("aa",)),
    (FORGED, b"read", b"files/a"),
    (COSTLY, b"read", b"files/a"),
    (b"sessauth_token_AAAA", b"read", b"files/a"),
    (b"\x08\x01", b"read", b"files/a"),
    (PLAIN, b"read", b"files/b", b"", b"", b"another-session!"),
]
NAMES = ("arguments", "tool", "session", "source", "peer")


def of(decisions: Iterable[DecisionBase]) -> Count:
    """Count decisions by stage and reason."""
    return Counter((int(decision.stage), int(decision.reason)) for decision in decisions)


def timed(counters: CheckCounters) -> int:
    """Return how many checks were timed."""
    return sum(counters.buckets)


def test_single_checks_are_counted_as_they_were_decided() -> None:
    """Each decision of ``check`` is there once, of tokens that are none too; and a time of each judgement."""
    judge = verifier()
    counters = judge.counters = CheckCounters()

    decided = [
        judge._check(*call[:3], now_ms=NOW, **dict(zip(NAMES, call[3:], strict=False)))  # type: ignore[arg-type]
        for call in CALLS
    ]

    assert len(of(decided)) >= 7
    assert counters.decisions() == of(decided)
    # The text that is no token never got as far as a clock.
    assert timed(counters) == len(CALLS) - 1
    assert counters.total_ns > 0


def test_batches_are_counted_as_they_were_decided() -> None:
    """Each item of a batch is counted, with its share of the time; looking at it counts nothing more."""
    judge = verifier()
    counters = judge.counters = CheckCounters()

    batch = judge._check_batch(CALLS, now_ms=NOW)

    assert counters.decisions() == of(batch) == of(batch)
    assert timed(counters) == len(CALLS)


def test_looking_again_is_not_counted() -> None:
    """Decisions with ``record=False``, as of watched calls every second, are not counted."""
    judge = verifier()
    counters = judge.counters = CheckCounters()

    batch = judge._check_batch(CALLS, now_ms=NOW, record=False)

    assert len(batch) == len(CALLS)
    assert counters.decisions() == {}
    assert timed(counters) == 0


def test_what_the_writer_is_asked_about_is_counted_when_it_is_answered() -> None:
    """A first look that goes on to the writer is timed, and no answer yet; it counts when it is told."""
    judge = verifier()
    counters = judge.counters = CheckCounters()
    call = (COSTLY, b"read", b"files/a")

    decision = judge._check(*call, now_ms=NOW, record_needs=False)
    judge._check_batch([call, CALLS[0]], now_ms=NOW, record_needs=False)
    assert decision.stage is Stage.NEEDS
    assert counters.decisions() == {(Stage.NONE, Reason.ALLOWED): 1}
    assert timed(counters) == 3

    judge.record_decision(decision, *call)
    assert counters.decisions() == {(Stage.NONE, Reason.ALLOWED): 1, (decision.stage, decision.reason): 1}


def test_messages_are_counted_as_they_are_answered() -> None:
    """Items of a message count when it is answered: by the writer's word if it has one, others' not."""
    judge = verifier()
    counters = judge.counters = CheckCounters()
    items = [
        pb.CheckItem(token=PLAIN, action=b"read", resource=b"files/a"),
        pb.CheckItem(token=PLAIN, action=b"write", resource=b"files/a"),
        pb.CheckItem(token=COSTLY, action=b"read", resource=b"files/a"),
        pb.CheckItem(token=FORGED, action=b"read", resource=b"files/a"),
    ]
    asking = CheckMessage(judge, pb.CheckBatchRequest(items=items).SerializeToString(), "batch")
    asking.judge(AUDIENCE, now_ms=NOW)
    assert counters.decisions() == {}
    assert timed(counters) == len(items)

    asking.override(2, judge.refuse(Stage.NEEDS, Reason.USES_EXHAUSTED))
    asking.answer(lambda decision, token: "", (3,))

    assert counters.decisions() == of([asking[0], asking[1], asking[2]])
    assert counters.decisions()[Stage.NEEDS, Reason.USES_EXHAUSTED] == 1


def test_a_tool_that_is_not_in_the_catalogue_is_counted() -> None:
    """A denial that is given without the kernel is an answer too."""
    judge = verifier()
    counters = judge.counters = CheckCounters()

    judge.check_tool(PLAIN, ToolCatalog("github", []), "delete_everything")

    assert counters.decisions() == {(Stage.SCOPE, Reason.UNKNOWN_TOOL): 1}


def test_a_checker_counts_nothing_unless_it_is_asked_to() -> None:
    """``counters`` is None at first, and can be taken away again."""
    judge = verifier()
    assert judge.counters is None
    counters = judge.counters = CheckCounters()
    judge._check(*CALLS[0], now_ms=NOW)  # type: ignore[arg-type]
    judge.counters = None

    assert judge._check(*CALLS[0], now_ms=NOW).allowed  # type: ignore[arg-type]

    assert sum(counters.decisions().values()) == 1


def test_counting_goes_on_in_memory_that_is_shared() -> None:
    """Another mapping of the memory reads the counts, and a successor of a dead process continues them."""
    memory = mmap.mmap(-1, COUNTERS_BYTES)
    for times in (1, 2):
        judge = verifier()
        judge.counters = CheckCounters(memory)
        judge._check(*CALLS[0], now_ms=NOW)  # type: ignore[arg-type]
        assert CheckCounters(memory).decisions() == {(Stage.NONE, Reason.ALLOWED): times}


@pytest.mark.parametrize(
    "memory",
    [bytearray(COUNTERS_BYTES - 1), memoryview(bytearray(COUNTERS_BYTES + 8))[1:], bytes(COUNTERS_BYTES)],
)
def test_other_memory_is_refused(memory: object) -> None:
    """Too little, at an odd place, or not to be written."""
    with pytest.raises((ValueError, BufferError)):
        CheckCounters(memory)


def test_a_value_is_in_the_first_bucket_that_it_fits() -> None:
    """Bounds belong to the bucket below them; what is larger than all is in the last."""
    histogram = Histograms(2, (10, 20, 50))
    for value in (-1, 0, 10, 11, 20, 50, 51, 10**12):
        histogram.observe(1, value)

    assert histogram.buckets(0) == (0, 0, 0, 0)
    assert histogram.buckets(1) == (3, 2, 1, 2)
    assert histogram.total(1) == 10 + 11 + 20 + 50 + 51 + 10**12
    assert histogram_bytes(2, 3) == 2 * 5 * 8
    with pytest.raises(IndexError):
        histogram.observe(2, 1)


@pytest.mark.parametrize(("rows", "bounds"), [(0, (1,)), (1, ()), (1, (2, 1)), (1, (1, 1)), (1, range(33))])
def test_a_histogram_needs_rows_and_ascending_bounds(rows: int, bounds: Iterable[int]) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="rows"):
        Histograms(rows, tuple(bounds))


def test_the_bounds_of_checks_are_three_a_decade() -> None:
    """Bounds go from half a microsecond to a second, as 1, 2 and 5 of each decade."""
    assert CHECK_BOUNDS_NS[0] == 500
    assert CHECK_BOUNDS_NS[-1] == 10**9
    assert {str(bound)[0] for bound in CHECK_BOUNDS_NS} == {"1", "2", "5"}
    assert list(CHECK_BOUNDS_NS) == sorted(set(CHECK_BOUNDS_NS))


def test_a_number_is_read_out_of_a_record() -> None:
    """The field that is asked for, 0 where it is not, and WireError for what is no record."""
    record = pb.CheckStreamRequest(id=7, item=pb.CheckItem(action=b"a"), watch=True).SerializeToString()

    assert read_number(record, 1) == 7
    assert read_number(record, 3) == 0
    assert read_number(record, 9) == 0
    assert read_number(b"", 1) == 0
    for wrong, field in ((b"\x0a\xff", 2), (b"\x0d\x00\x00", 2), (record, 2), (b"\x08", 1)):
        with pytest.raises(WireError):
            read_number(wrong, field)


def test_some_fields_are_read_out_of_a_record() -> None:
    """Their numbers and bytes, None for what is absent; bytes that are no record are refused."""
    record = pb.CheckStreamRequest(id=7, item=pb.CheckItem(action=b"a"), watch=True).SerializeToString()
    by_number = pb.CheckStreamRequest.DESCRIPTOR.fields_by_name
    id_, item, watch = (by_number[name].number for name in ("id", "item", "watch"))
    expected = {id_: 7, item: pb.CheckItem(action=b"a").SerializeToString(), watch: 1, 90: None}

    wanted = tuple(sorted(expected))
    assert read_fields(record, wanted) == [expected[each] for each in wanted]
    assert read_fields(record, (item,)) == [expected[item]]
    assert read_fields(record, ()) == []
    assert read_fields(b"", wanted) == [None] * 4
    for wrong in (b"\x0a\xff", b"\x0d\x00\x00", b"\x08"):
        with pytest.raises(WireError):
            read_fields(wrong, (2,))
