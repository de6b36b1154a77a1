"""Requests in wire form: judged once or again, gated, and answered in protobuf's own bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sessauth._fast._codec import CheckMessage
from sessauth.reasons import Reason, Stage
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support.commit_id_source import CommitIdSource
from tests.support.decision_fields import by_message, by_object, without_time
from tests.support.raw_requests import LENGTH, encode, length_delimited
from tests.support.vector_files import read_view
from tests.support.wire_requests import FORGED, JUDGE, PLAIN, item, verifier
from tests.vectors.world import AUDIENCE, NOW, VIEWS, root, token


def test_a_kind_or_a_caller_that_is_none() -> None:
    """Another kind, checker or data raises; so does an item outside."""
    with pytest.raises(ValueError, match="kind"):
        CheckMessage(JUDGE, b"", "other")
    for wrong in ((None, b"", "check"), (JUDGE, None, "check"), (JUDGE, b"", None), (JUDGE, "", "check")):
        with pytest.raises(TypeError):
            CheckMessage(*wrong)  # type: ignore[arg-type]
    empty = CheckMessage(JUDGE, b"", "batch")
    assert (len(empty), empty.well_formed()) == (0, True)
    asking = CheckMessage(JUDGE, encode([(1, LENGTH, length_delimited(item()))]), "check")
    for look in (asking.token, asking.states, asking.session_bytes, asking.peer_count):
        for outside in (-1, 1, 2**40):
            with pytest.raises(IndexError):
                look(outside)
    with pytest.raises(IndexError):
        asking.judge("", None, -1)


def test_before_it_was_judged_nothing_is_allowed() -> None:
    """An answer that nobody judged denies every item; so does the part that nobody judged."""
    data = encode([(1, LENGTH, length_delimited(item()))] * 4)
    asking = CheckMessage(JUDGE, data, "batch")
    first = pb.CheckBatchResponse.FromString(asking.answer(lambda decision, data: "")).decisions
    assert [decision.allowed for decision in first] == [False] * 4
    asking.judge(AUDIENCE, None, 1, 2, now_ms=NOW)
    then = pb.CheckBatchResponse.FromString(asking.answer(lambda decision, data: "")).decisions
    assert [decision.allowed for decision in then] == [False, True, True, False]
    for first_item, count in ((4, 1), (9, -1), (0, 0), (2**40, 2**20)):
        asking.judge(AUDIENCE, None, first_item, count, now_ms=NOW)
    assert [decision.allowed for decision in asking] == [False, True, True, False]


def test_judged_again_by_another_state() -> None:
    """A second judging tells nothing of the first, in the answer or in the decisions."""
    source = CommitIdSource()
    source.load(*read_view(VIEWS["plain"]))
    checker = Verifier(source)
    data = encode([(1, LENGTH, length_delimited(item()))] * 2)
    asking = CheckMessage(checker, data, "batch")
    for view, reason in (
        ("plain", Reason.ALLOWED),
        ("ended", Reason.SESSION_ENDED),
        ("ceiling_condition", Reason.CONDITION_FAILED),
        ("key_distrusted", Reason.ISSUER_DISTRUSTED),
        ("plain", Reason.ALLOWED),
    ):
        source.load(*read_view(VIEWS[view]))
        asking.judge(AUDIENCE, now_ms=NOW)
        answers = pb.CheckBatchResponse.FromString(asking.answer(lambda decision, data: "")).decisions
        alone = by_object(checker._check(PLAIN, "read", "files/a", audience=AUDIENCE, now_ms=NOW))
        assert [by_message(answer) for answer in answers] == [without_time(alone)] * 2
        assert [by_object(decision) for decision in asking] == [alone] * 2
        assert alone.outcome.reason == reason


def test_an_explanation_that_fails() -> None:
    """``explain`` is called for denials alone. Its exceptions are raised, and it must return str."""
    asking = CheckMessage(JUDGE, encode([(1, LENGTH, length_delimited(item()))]), "check")
    asking.judge(AUDIENCE, now_ms=NOW)
    assert asking.answer(None)  # type: ignore[arg-type]
    asking = CheckMessage(JUDGE, encode([(1, LENGTH, length_delimited(item(token=b"")))]), "check")
    asking.judge(AUDIENCE, now_ms=NOW)

    def fail(decision: Any, data: bytes) -> str:
        raise OSError("no words")

    with pytest.raises(OSError, match="no words"):
        asking.answer(fail)
    for wrong in (b"bytes", None, 7):
        with pytest.raises(TypeError):
            asking.answer(lambda decision, data, said=wrong: said)
    with pytest.raises(UnicodeEncodeError):
        asking.answer(lambda decision, data: "\ud800")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 16_383, 16_384, 2_100_000])
def test_answers_of_any_length(size: int) -> None:
    """Long arguments and explanations move the lengths in front of them, to the byte as protobuf has it."""
    name = "n" * min(size, 1_000_000)
    arguments = f'{{"{name}":1}}'.encode() if size else b""
    chain = token(root("read:files/** where n? <= 9"))
    data = encode([(1, LENGTH, length_delimited(item(token=chain, arguments=arguments)))] * 2)
    asking = CheckMessage(JUDGE, data, "batch")
    asking.judge(AUDIENCE, now_ms=NOW)
    answer = asking.answer(lambda decision, data: "é" * (size // 2))
    message = pb.CheckBatchResponse.FromString(answer)
    assert message.SerializeToString(deterministic=True) == answer
    for decision in message.decisions:
        assert decision.allowed is (size in (0, 1))
        if not decision.allowed:
            assert decision.explanation == "é" * (size // 2)
            assert decision.failed.argument == name


class Gate:
    """Counts what it is asked and told, and stands open for some sources."""

    def __init__(self, shut: Sequence[str] = ()) -> None:
        self.shut = shut
        self.asked: list[str] = []
        self.told: list[str] = []

    def may_fail(self, source: str) -> bool:
        """Return the gate's answer for a source."""
        self.asked.append(source)
        return source not in self.shut

    def failed(self, source: str) -> None:
        """Note a wrong signature."""
        self.told.append(source)


def test_the_gate_is_asked_for_new_signatures_alone() -> None:
    """Known chains and denials before the signature ask nothing; a shut gate denies at no block."""
    checker = verifier()
    sources = ("10.0.0.1", "é", "")
    data = encode(
        [
            (1, LENGTH, length_delimited(item(token=presented, source=source)))
            for presented in (PLAIN, FORGED, b"", PLAIN)
            for source in sources
        ]
    )
    gate = Gate(["é"])
    asking = CheckMessage(checker, data, "batch")
    asking.judge(AUDIENCE, gate, now_ms=NOW)
    assert gate.asked == ["10.0.0.1", *sources]
    assert gate.told == ["10.0.0.1", ""]
    wrong = [decision for decision in asking if decision.reason is Reason.BAD_SIGNATURE]
    assert [decision.index for decision in wrong] == [0, -1, 0]
    assert [decision.allowed for decision in asking] == [True] * 3 + [False] * 6 + [True] * 3
    # Of the forged one too: whose it was is asked and told each time, its signature is looked at once.
    assert checker.signatures == 2


def test_a_gate_that_raises() -> None:
    """An exception of a gate denies the batch. The next one is judged."""

    class Broken(Gate):
        """A gate that fails."""

        def may_fail(self, source: str) -> bool:
            raise OSError("gone")

    asking = CheckMessage(verifier(), encode([(1, LENGTH, length_delimited(item()))] * 2), "batch")
    asking.judge(AUDIENCE, Broken(), now_ms=NOW)
    assert [(d.allowed, d.reason, d.stage) for d in asking] == [
        (False, Reason.INTERNAL_ERROR, Stage.NONE)
    ] * 2
    asking.judge(AUDIENCE, Gate(), now_ms=NOW)
    assert asking.all_allowed
