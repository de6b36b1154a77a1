"""Answers that can't be right, refusals, and silence: by members that are scripted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessauth.carriers.etcd.carrier import EtcdCarrier, Members
from sessauth.carriers.etcd.messages import (
    RANGE,
    STATUS,
    TXN,
    WATCH,
    ClusterKeys,
    encode_head,
)
from sessauth.carriers.etcd.v1 import etcd_pb2 as pb
from sessauth.state.replication.carrier import (
    Appended,
    AppendStatus,
    Barrier,
    CarrierError,
    CompactedRecords,
    EngineRoom,
    Leader,
    LogHead,
)
from tests.support.cases import examples
from tests.support.fake_etcd import FakeEtcd, fakes, header
from tests.support.log_writer import APPENDED, FENCED, REFUSED, START, UNKNOWN, digest

KEYS = ClusterKeys(b"\x0c")
HEAD = LogHead(3, digest(b"third"))
RECORD = b"fourth"
NEW = LogHead(4, digest(RECORD))
TERM = 5
TOO_LARGE = (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
NO_SPACE = (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
TIMED_OUT = (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
PUT = pb.ResponseOp(response_put=pb.PutResponse())
DONE = pb.TxnResponse(header=header(), succeeded=True, responses=[PUT, PUT]).SerializeToString()


def pair(key: bytes, value: bytes, created: int = TERM, lease: int = 0) -> pb.KeyValue:
    """Return a key as etcd has it."""
    return pb.KeyValue(
        key=key, value=value, create_revision=created, mod_revision=created, version=1, lease=lease
    )


def found(*pairs: pb.KeyValue) -> pb.ResponseOp:
    """Return the result of a range."""
    return pb.ResponseOp(response_range=pb.RangeResponse(kvs=pairs, count=len(pairs)))


def failed(record: bytes | None, term: int | None, head: LogHead) -> bytes:
    """Return the answer to an append that did not append."""
    return pb.TxnResponse(
        header=header(),
        responses=[
            found(*([] if record is None else [pair(KEYS.record(4), record)])),
            found(*([] if term is None else [pair(KEYS.leader, b"two\ntwo:1", term)])),
            found(*([] if head == START else [pair(KEYS.head, encode_head(head))])),
        ],
    ).SerializeToString()


@pytest.fixture
def members() -> Iterator[list[FakeEtcd]]:
    """Three members."""
    with fakes(3) as made:
        yield made


@pytest.fixture
def carrier(members: list[FakeEtcd]) -> Iterator[EtcdCarrier]:
    """A carrier that asks them in order."""
    carrier = EtcdCarrier([member.address for member in members], b"\x0c")
    yield carrier
    carrier.close()


def append(carrier: EtcdCarrier, give_up_ms: int = 3_000) -> Appended:
    """Append the fourth record."""
    return carrier.append(TERM, HEAD, RECORD, NEW.digest, give_up_ms)


@pytest.mark.parametrize(
    ("refusal", "status"), [(TOO_LARGE, REFUSED), (NO_SPACE, AppendStatus.FULL), (DENIED, REFUSED)]
)
def test_a_refusal_is_definitive(
    members: list[FakeEtcd],
    carrier: EtcdCarrier,
    refusal: tuple[grpc.StatusCode, str],
    status: AppendStatus,
) -> None:
    """No other member is asked, and the reason is etcd's."""
    members[0].answers[TXN] = [refusal]

    answer = append(carrier)

    assert answer.status is status
    assert refusal[1] in answer.detail
    assert members[1].requests == []


@pytest.mark.parametrize("loss", [None, TIMED_OUT, b"\xff", (grpc.StatusCode.INTERNAL, "x")], ids=repr)
def test_a_refusal_behind_a_loss_is_unknown(
    members: list[FakeEtcd], carrier: EtcdCarrier, loss: bytes | tuple[grpc.StatusCode, str] | None
) -> None:
    """The attempt before it may have appended the record, or still do so."""
    members[0].answers[TXN] = [loss]
    members[1].answers[TXN] = [NO_SPACE]

    assert append(carrier).status is UNKNOWN


@pytest.mark.parametrize(
    ("record", "term", "head", "status"),
    [
        (RECORD, TERM, NEW, APPENDED),
        (RECORD, None, LogHead(9, digest(b"x")), APPENDED),
        (None, 6, NEW, APPENDED),
        (b"other", 6, LogHead(4, digest(b"other")), FENCED),
        (None, 6, LogHead(4, digest(b"other")), FENCED),
        (None, 6, HEAD, FENCED),
        (None, None, HEAD, FENCED),
        (None, 6, LogHead(9, digest(b"x")), UNKNOWN),
        # The engine's past is another one: the record may have been in the one that is gone.
        (None, TERM, LogHead(2, digest(b"x")), UNKNOWN),
        (None, None, START, UNKNOWN),
        (None, TERM, LogHead(3, digest(b"x")), UNKNOWN),
    ],
)
def test_what_is_found_behind_a_loss(
    members: list[FakeEtcd],
    carrier: EtcdCarrier,
    record: bytes | None,
    term: int | None,
    head: LogHead,
    status: object,
) -> None:
    """The same bytes go to the next member. Another record, head or leader is definitive; no lost past is."""
    members[0].answers[TXN] = [TIMED_OUT]
    members[1].answers[TXN] = [failed(record, term, head)]

    assert append(carrier).status is status
    assert members[0].requests == members[1].requests


@pytest.mark.parametrize("head", [START, LogHead(2, digest(b"x")), LogHead(3, digest(b"x"))])
def test_another_past_fences_a_first_attempt(
    members: list[FakeEtcd], carrier: EtcdCarrier, head: LogHead
) -> None:
    """Nothing of this record was sent before."""
    members[0].answers[TXN] = [failed(None, TERM, head)]

    assert append(carrier).status is FENCED


def test_a_silent_member_has_a_second(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """Then the next one is asked with the same bytes, and it stays the first to be asked."""
    members[1].answers[TXN] = [DONE]
    begin = time.monotonic()

    assert append(carrier, 10_000).status is APPENDED
    assert time.monotonic() - begin >= 0.9
    assert append(carrier).status is APPENDED
    assert len(members[0].requests) == 1


def test_an_append_gives_up_in_time(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """It is unknown, and all members were asked."""
    begin = time.monotonic()

    assert append(carrier, 2_300).status is UNKNOWN
    assert 2.2 <= time.monotonic() - begin < 10
    assert all(len(member.requests) == 1 for member in members)


def test_no_time_means_no_attempt(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """Without time nothing is sent."""
    assert append(carrier, 0).status is UNKNOWN
    assert [member.requests for member in members] == [[], [], []]


@pytest.mark.parametrize(
    "status",
    [
        # Limits of what this client reads, or the member sends: it may have taken effect.
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (9 vs. 4)"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max (9 vs. 4)"),
        (grpc.StatusCode.PERMISSION_DENIED, "Received http2 header with status: 403"),
        (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster"),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service"),
        (grpc.StatusCode.CANCELLED, ""),
    ],
    ids=lambda status: status[0].name,
)
def test_only_etcds_own_refusals_count(
    members: list[FakeEtcd], carrier: EtcdCarrier, status: tuple[grpc.StatusCode, str]
) -> None:
    """A status from elsewhere does not say that nothing was done."""
    for member in members:
        member.answers[TXN] = [status]

    assert append(carrier, 300).status is UNKNOWN


def test_an_answer_above_the_limit_is_unknown(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """The record may have been appended."""
    members[0].answers[TXN] = [bytes(17 << 20)]

    assert append(carrier).status is UNKNOWN


def test_a_barrier_is_hedged(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """Two silent members cost 300 ms each, and not a second; then the third one is asked first."""
    beat = KEYS.beat("one")
    members[2].answers[TXN] = [
        pb.TxnResponse(
            header=header(), succeeded=True, responses=[PUT, found(pair(beat, b"x")), found()]
        ).SerializeToString()
    ]
    begin = time.monotonic()

    assert carrier.barrier("one", b"x").head == START
    assert 0.55 <= time.monotonic() - begin < 1.0
    carrier.barrier("one", b"x")
    assert [len(member.requests) for member in members] == [1, 1, 2]


def test_a_barrier_without_any_answer_ends(
    members: list[FakeEtcd], carrier: EtcdCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its patience, in which all members were asked, and raises."""
    monkeypatch.setattr("sessauth.carriers.etcd.carrier.PATIENCE_S", 1.5)
    begin = time.monotonic()

    with pytest.raises(CarrierError):
        carrier.barrier("one", b"x")
    assert 1.4 <= time.monotonic() - begin < 10
    assert all(member.requests for member in members)


def test_a_beat_is_on_condition_of_the_one_before(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """A silent member's write of an earlier barrier can't replace a later beat."""
    beat, known = KEYS.beat("one"), itertools.count(20)

    def answer(data: bytes) -> bytes:
        request = pb.TxnRequest.FromString(data)
        written = pair(beat, request.success[0].request_put.value, next(known))
        return pb.TxnResponse(
            header=header(), succeeded=True, responses=[PUT, found(written), found()]
        ).SerializeToString()

    members[0].answers[TXN] = [answer]
    for value in (b"a", b"b"):
        carrier.barrier("one", value)

    compared = [pb.TxnRequest.FromString(data).compare[0] for _, data in members[0].requests]
    assert [compare.mod_revision for compare in compared] == [0, 20]
    assert {(compare.result, compare.target) for compare in compared} == {(0, 2)}


def test_the_room_is_that_of_the_largest_member(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """One that is silent is left out; an alarm of any member counts for all, as it does in etcd."""
    said = [
        pb.StatusResponse(header=header(), db_size=5_000),
        pb.StatusResponse(header=header(), db_size=4_000, errors=["memberID:1 alarm:NOSPACE "]),
    ]
    for member, status in zip(members, said, strict=False):
        member.answers[STATUS] = [status.SerializeToString()]

    assert carrier.room() == EngineRoom(5_000, 0, full=True)


def _calls(carrier: EtcdCarrier) -> list[Callable[[], object]]:
    leader = Leader("one", "one:1", TERM)
    return [
        carrier.leader,
        carrier.beats,
        lambda: carrier.barrier("one", b"x"),
        lambda: carrier.read(0, 10),
        lambda: carrier.lead("one", "one:1", 1_000),
        lambda: carrier.hold(leader),
        lambda: carrier.trim(5),
        carrier.compact,
        lambda: carrier.append(TERM, HEAD, RECORD, NEW.digest, 1),
        lambda: carrier.resign(leader),
    ]


@st.composite
def any_answers(draw: st.DrawFn) -> bytes:
    """Return bytes that may be a message of etcd, with values of any size."""
    data = st.binary(max_size=60)
    number = st.integers(-(1 << 63), (1 << 63) - 1)
    small = st.integers(0, 3)
    keys = st.sampled_from(
        [KEYS.leader, KEYS.head, KEYS.record(1), KEYS.record(4), KEYS.beat("one"), KEYS.log_end]
    )
    kv = st.builds(
        pb.KeyValue,
        key=keys | data,
        value=data | st.just(encode_head(HEAD)) | st.just(b"one\none:1"),
        create_revision=small | number,
        mod_revision=small | number,
        version=small | number,
        lease=number,
    )
    ranges = st.builds(pb.RangeResponse, kvs=st.lists(kv, max_size=3), more=st.booleans(), count=number)
    operation = st.one_of(
        st.builds(pb.ResponseOp, response_range=ranges),
        st.just(PUT),
        st.just(pb.ResponseOp()),
    )
    top = st.just(header()) | st.builds(pb.ResponseHeader, cluster_id=small, revision=number)
    message = st.one_of(
        st.builds(
            pb.TxnResponse, header=top, succeeded=st.booleans(), responses=st.lists(operation, max_size=4)
        ),
        st.builds(pb.RangeResponse, header=top, kvs=st.lists(kv, max_size=3), more=st.booleans()),
        st.builds(pb.LeaseGrantResponse, header=top, id=number, ttl=number, error=st.text(max_size=5)),
        st.builds(pb.WatchResponse, header=top, created=st.booleans(), canceled=st.booleans()),
    )
    return draw(data | message.map(lambda built: built.SerializeToString()))


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=st.lists(any_answers(), min_size=1, max_size=4))
def test_any_answer_is_good_or_a_carrier_error(monkeypatch: pytest.MonkeyPatch, answers: list[bytes]) -> None:
    """No bytes make another exception than those of the port."""
    left: list[bytes] = []

    def call(*_: object) -> bytes:
        if not left:
            raise CarrierError("no more")
        return left.pop(0)

    monkeypatch.setattr(Members, "call", call)
    monkeypatch.setattr(Members, "ask_hedged", Members.ask)
    monkeypatch.setattr("sessauth.carriers.etcd.carrier.PATIENCE_S", 0.001)
    monkeypatch.setattr("sessauth.carriers.etcd.carrier._REVOKE_S", 0.001)
    carrier = EtcdCarrier(["127.0.0.1:1"], b"\x0c")
    for function in _calls(carrier):
        left[:] = answers
        try:
            result = function()
        except (CarrierError, CompactedRecords):
            continue
        assert result is None or isinstance(result, Appended | Barrier | Leader | bool | list | dict)
    carrier.close()


def test_a_watch_of_any_answer_is_a_hint(members: list[FakeEtcd], carrier: EtcdCarrier) -> None:
    """Malformed events, statuses and the end of the stream do not end a wait before its time."""
    events = pb.WatchResponse(header=header(), events=[pb.Event(type=1)]).SerializeToString()
    for member, answer in zip(members, (b"\xff", events, DENIED), strict=True):
        member.answers[RANGE] = [pb.RangeResponse(header=header()).SerializeToString()]
        member.answers[WATCH] = [answer]
    begin = time.monotonic()

    carrier.wait(0, 400)

    assert time.monotonic() - begin >= 0.39
    assert all(member.requests for member in members)
