"""The arguments of a call: one form through every door, and what is no arguments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, localcontext
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import pytest

from sessauth._fast._check import DecisionQueue
from sessauth._fast._codec import Survey
from sessauth.client import CheckItem
from sessauth.client._requests.tokens import item_message, list_allowed
from sessauth.crypto.keys import VerifierKey
from sessauth.errors import UsageError
from sessauth.reasons import Reason, SurveyVerdict
from sessauth.scopes.call_arguments import encode
from sessauth.tokens.prover import HolderKey
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.support.memory_fixture import AUDIENCE, NOW_MS, SESSION, memory_fixture

SCOPE = 'read:files/** where path == "é" and n <= 5 and deep.flag == true'
VALUES: dict[str, Any] = {"path": "é", "n": 5, "deep": {"flag": True}}
BYTES = '{"deep":{"flag":true},"n":5,"path":"é"}'.encode()
FORMS = [BYTES, BYTES.decode(), VALUES, MappingProxyType(VALUES), OrderedDict(VALUES)]
WRONG = [None, [VALUES], 5, bytearray(BYTES), memoryview(BYTES), object()]
# Values beyond JSON or beyond the limits of a request: an agent chooses these.
NESTED: Any = 1
for _ in range(40):
    NESTED = {"a": NESTED}
UNSAYABLE = [
    {"n": float("nan")},
    {"n": float("inf")},
    {"n": Decimal("-Infinity")},
    {"n": Decimal("sNaN")},
    {"path": "\ud800"},
    {"\udfff": 1},
    NESTED,
    {"n": [0] * 10_000},
    {"n": "x" * 1_048_577},
    {"n": ["x" * 600_000, "\x01" * 100_000]},
    {"n": 10**5000},
]

Door = Callable[[Any], bool]


def doors() -> Iterator[tuple[str, Door]]:
    """Each way to have a call judged in this process, by name."""
    memory = memory_fixture()
    token = memory.mint(SCOPE)
    handle = memory.checker.prepare(token.data)
    given = {"audience": AUDIENCE, "now_ms": memory.clock.now_ms()}
    call = (token.data, "read", "files/a")

    def surveyed(arguments: Any) -> bool:
        found = Survey(memory.checker, token.data, **given).verdicts([("read", "files/a", arguments)])
        return found == [SurveyVerdict.YES]

    yield "check", lambda arguments: bool(memory.checker._check(*call, arguments, **given))
    yield "prepared", lambda arguments: bool(memory.checker._check(handle, *call[1:], arguments, **given))
    yield "batch", lambda arguments: memory.checker._check_batch([(*call, arguments)], **given).all_allowed
    yield "survey", surveyed


DOORS = dict(doors())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
@pytest.mark.parametrize("door", DOORS)
def test_each_door_takes_each_form(door: str, form: Any) -> None:
    """Bytes, the same text, and its values are one call, whichever way it is judged."""
    assert DOORS[door](form)
    assert not DOORS[door]({**VALUES, "n": 6})
    assert not DOORS[door]({**VALUES, "more": 1})


@pytest.mark.parametrize("door", DOORS)
def test_what_an_agent_can_choose_is_denied_and_raises_nothing(door: str) -> None:
    """NaN, a lone surrogate, too deep, too many, too long: no exception, and no yes."""
    for values in UNSAYABLE:
        assert not DOORS[door]({**VALUES, **values})
    assert not DOORS[door]('{"path":"\ud800"}')


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_arguments_is_the_callers_mistake(wrong: Any) -> None:
    """Any other type raises TypeError at each door, and so does a value or a name that JSON has not."""
    memory = memory_fixture()
    token = memory.mint(SCOPE)
    for door, judge in DOORS.items():
        # A survey asks about all arguments then.
        if wrong is not None or door != "survey":
            with pytest.raises(TypeError):
                judge(wrong)
        for values in ({"n": {1, 2}}, {"n": b"bytes"}, {5: "name"}, {"a": [object()]}):
            with pytest.raises(TypeError):
                judge(values)
    with pytest.raises(TypeError):
        CheckItem(token, "read", "files/a", wrong)
    with pytest.raises(TypeError):
        encode(wrong)


def test_a_denial_says_that_the_arguments_are_at_fault() -> None:
    """A value beyond JSON is MALFORMED_REQUEST with the argument ``arguments``, after all earlier stages."""
    memory = memory_fixture()
    for values in UNSAYABLE:
        decision = memory.check(memory.mint(SCOPE), "read", "files/a", values)
        assert (decision.reason, decision.argument) == (Reason.MALFORMED_REQUEST, "arguments")
    late = memory.check(memory.mint(SCOPE), "read", "files/a", UNSAYABLE[0], audience="another")
    assert late.reason == Reason.WRONG_AUDIENCE


def test_the_facts_of_a_tool_are_given_like_arguments() -> None:
    """``tool`` takes the three forms too, here and in a batch."""
    memory = memory_fixture()
    token = memory.mint("read:** where tool.safe == true")
    for facts in (b'{"safe":true}', '{"safe":true}', {"safe": True}):
        assert memory.check(token, "read", "files/a", tool=facts)
        call = (token.data, "read", "files/a", {}, facts)
        assert memory.checker._check_batch(
            [call], audience=AUDIENCE, now_ms=memory.clock.now_ms()
        ).all_allowed


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_what_a_client_sends_is_what_is_judged(form: Any) -> None:
    """An item and a candidate carry the same bytes for each form."""
    assert item_message(CheckItem("x", "read", "files/a", form, form)).arguments == BYTES
    assert item_message(CheckItem("x", "read", "files/a", form, form)).tool == BYTES
    (candidate,) = list_allowed("x", [("read", "a", form)], "", b"", "", (), 0).request.candidates
    assert (candidate.has_arguments, candidate.arguments) == (True, BYTES)


def test_an_item_keeps_what_was_asked_when_it_was_made() -> None:
    """A mapping that changes later changes no item: what is proven is what is sent."""
    values = dict(VALUES)
    item = CheckItem("x", "read", "files/a", values)
    values["n"] = 6

    assert item.arguments == BYTES


def test_a_proof_for_values_is_one_for_their_bytes() -> None:
    """A holder that proves a mapping proves the bytes that the gateway judges; NaN it can't prove."""
    memory = memory_fixture()
    holder = HolderKey(bytes(range(64, 96)), bytes(range(32, 64)))
    token = memory.mint(SCOPE, ending="bound", to=holder.public)
    host = VerifierKey(b"v" * 16, holder.public.proof_key, NOW_MS - 1, NOW_MS + 60_000, b"c" * 16)
    nonces = iter([bytes(16)] * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessauth.tokens.prover.secrets.token_bytes", lambda _: next(nonces))
        proofs = {
            holder.prove(token, "read", "files/a", form, host, kind="ed25519", now_ms=NOW_MS)
            for form in (BYTES, BYTES.decode(), VALUES)
        }

    assert len(proofs) == 1
    with pytest.raises(UsageError, match="arguments"):
        holder.prove(token, "read", "files/a", {"n": float("nan")}, host, now_ms=NOW_MS)


def test_what_is_noted_of_a_refusal_takes_each_form() -> None:
    """A decision that is noted later is noted with the bytes of what was given."""
    verifier = Verifier(bulk_sessions.source())
    verifier.decision_queue = DecisionQueue(1 << 16)
    for form in FORMS:
        verifier.record_decision(verifier.refuse(8, Reason.UNKNOWN_TOOL), b"x", "read", "files/a", form)
        assert [note.arguments for note in verifier.decision_queue.drain()] == [BYTES]


def test_bytes_and_texts_are_never_rewritten() -> None:
    """JSON is judged as the very text, even if it is malformed."""
    for text in ('{ "b":1, "a" : 1.0e0 }', "", "[]", "nonsense", '{"a":1,"a":2}', "\ufeff{}"):
        assert encode(text.encode()) == encode(text) == text.encode()


class Level(IntEnum):
    """A number with a name."""

    HIGH = 3

    def __repr__(self) -> str:
        return "nine"

    __str__ = __repr__


class Word(str):
    """A text that claims to be another, and equal to none."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def test_subclasses_are_written_as_what_they_are() -> None:
    """The value's own text form is ignored, and so is the printed form of a Decimal."""
    with localcontext() as context:
        context.capitals = 0
        values = {
            "level": Level.HIGH,
            "word": Word("w"),
            "price": Decimal("1.10E+8"),
            "pair": (1, Decimal("-0.0")),
        }
        assert encode(values) == b'{"level":3,"pair":[1,-0.0],"price":1.10e+8,"word":"w"}'


def test_two_names_that_read_alike_are_refused() -> None:
    """A dict can hold one text twice, if its keys lie about being equal."""
    with pytest.raises(UsageError, match="twice"):
        encode({Word("a"): 1, Word("a"): 2})


def test_a_mapping_that_contains_itself_ends() -> None:
    """Values are followed no deeper than JSON may be nested."""
    values: dict[str, Any] = {}
    values["self"] = values

    with pytest.raises(UsageError, match="deep"):
        encode(values)


class Endless(Mapping[str, int]):
    """A mapping whose members never end."""

    def __iter__(self) -> Iterator[str]:
        return iter(lambda: "name", "")

    def __len__(self) -> int:
        return 1

    def __getitem__(self, name: str) -> int:
        return 1


def test_a_mapping_that_never_ends_does() -> None:
    """Values are read no further than a request may be long."""
    with pytest.raises(UsageError, match="1 MiB"):
        encode(Endless())


def test_what_a_mapping_raises_reaches_the_caller() -> None:
    """A mapping's own exception is no denial and no yes: it is raised, and nothing is lost by it."""

    class Broken(Endless):
        def __getitem__(self, name: str) -> int:
            raise RuntimeError("broken")

    for judge in DOORS.values():
        with pytest.raises(RuntimeError, match="broken"):
            judge(Broken())
    assert all(judge(VALUES) for judge in DOORS.values())


def test_a_session_id_of_values_is_no_arguments() -> None:
    """Only arguments and tool are JSON: the other parts of a call keep their types."""
    memory = memory_fixture()
    with pytest.raises(TypeError):
        memory.check(memory.mint(SCOPE), "read", "files/a", VALUES, session={"id": SESSION})
