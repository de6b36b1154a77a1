"""Scope text: what is printed reads back as the same scope, here and in the oracle."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth._fast import _check as kernel
from sessauth.errors import ScopeError
from sessauth.scopes.parts import Approval, Budget, Path, Segment
from sessauth.scopes.scope import Condition, Scope
from sessauth.scopes.value import Number
from tests.oracle.scope_reader import read_scope
from tests.oracle.scope_text import print_scope
from tests.support.cases import examples
from tests.support.scope_strategies import scopes

# Names and texts with everything that could be taken for grammar.
awkward = st.one_of(
    st.sampled_from(
        ("args", "session", "tool", "and", "free", "needs", "where", "not", "in", "each", "count", "true")
    ),
    st.text(
        st.sampled_from('ab ."/,*{}[]()?:\\_-09é\u202e\u0000\U0001f511\xa0\u0378\u1c89\U000e0100'),
        min_size=1,
        max_size=6,
    ),
)
plain = awkward.filter(lambda t: _is_segment(Segment.literal(t)))
numbers = st.builds(
    Number, st.integers(-(2**63), 2**63 - 1), st.sampled_from((0, 0, 1, 500_000_000, 999_999_999))
)


def _is_segment(segment: Segment) -> bool:
    try:
        Scope.on("read", segment)
    except ScopeError:
        return False
    return True


@st.composite
def awkward_scopes(draw: st.DrawFn) -> Scope:
    """Build a scope whose names, texts and numbers try the printer."""
    names = st.lists(awkward, min_size=1, max_size=3)
    scope = Scope.on(
        "read", *draw(st.lists(st.one_of(plain, plain.map(Segment.prefix)), min_size=1, max_size=3))
    )
    for _ in range(draw(st.integers(0, 2))):
        operand: Any = draw(st.one_of(awkward, numbers, st.booleans()))
        scope = scope.where(Path.args(*draw(names)), draw(st.sampled_from(("==", "!=", "in"))), operand)
    if draw(st.booleans()):
        scope = scope.free(*(Path.args(*n) for n in draw(st.lists(names, max_size=2, unique_by=tuple))))
    if draw(st.booleans()):
        keys = draw(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=2, unique=True))
        unit = draw(st.sampled_from(("", "EUR", 'a"b')))
        budget = Budget("money", Number(draw(st.integers(1, 9))), Path.args(*draw(names)), unit)
        scope = scope.needing(approval=Approval(1, tuple(keys)), uses=draw(st.integers(0, 3)), budget=budget)
    return scope


@settings(max_examples=examples(400), deadline=None)
@given(st.one_of(scopes(), awkward_scopes()))
def test_the_printed_form_reads_back_as_the_same_scope(scope: Scope) -> None:
    """Printing, reading and printing again changes neither the scope nor its text."""
    text = str(scope)

    assert Scope.parse(text) == scope
    assert str(Scope.parse(text)) == text


@settings(max_examples=examples(400), deadline=None)
@given(st.one_of(scopes(), awkward_scopes()))
def test_the_oracle_reads_the_printed_form_as_the_same_record(scope: Scope) -> None:
    """A reader written from the document alone gives the same bytes for the printed form."""
    assert kernel.encode_message("Scope", read_scope(str(scope))) == scope.encode()


@settings(max_examples=examples(400), deadline=None)
@given(st.one_of(scopes(), awkward_scopes()))
def test_the_oracle_prints_the_same_text(scope: Scope) -> None:
    """Quotes, escapes and numbers are those of the document, whatever this Python's version of Unicode."""
    assert print_scope(scope.to_record()) == str(scope)


@settings(max_examples=examples(300), deadline=None)
@given(st.one_of(scopes(), awkward_scopes()))
def test_records_and_bytes_give_the_same_scope(scope: Scope) -> None:
    """A scope survives its wire dict and its canonical bytes."""
    assert Scope.from_record(scope.to_record()) == scope
    assert Scope.from_record(kernel.decode_message("Scope", scope.encode())) == scope


@settings(max_examples=examples(300), deadline=None)
@given(scopes().filter(lambda s: bool(s.conditions)))
def test_each_condition_reads_back_alone(scope: Scope) -> None:
    """A condition's own text reads back as the same condition."""
    for condition in scope.conditions:
        assert Condition.parse(str(condition)) == condition


@settings(max_examples=examples(600), deadline=None)
@given(st.one_of(awkward_scopes().map(str), scopes().map(str)), st.data())
def test_mangled_text_is_read_or_refused_with_an_offset(text: str, data: st.DataObject) -> None:
    """Any text is a scope or a ScopeError whose offset lies in the text; never another exception."""
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    mangled = text[:at] + data.draw(st.text(max_size=2)) + text[at + cut :]

    scope, error = _read(mangled)

    if scope is not None:
        assert Scope.parse(str(scope)) == scope
    if error is not None:
        assert error.text == mangled
        assert -1 <= error.offset <= len(mangled)


def _read(text: str) -> tuple[Scope | None, ScopeError | None]:
    try:
        return Scope.parse(text), None
    except ScopeError as error:
        return None, error
