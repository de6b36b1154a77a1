"""Lists of an agent's choice where a scope holds their elements: never an allow, and the place is named."""

from __future__ import annotations

import base64
import json

import pytest

from sessauth.reasons import Reason
from tests.oracle.canonical import form, form_digest
from tests.oracle.json_values import parse_object
from tests.support.state_fixture import StateFixture
from tests.vectors.world import child, root, token

MOST_VALUES = 10_000
# A path has at most eight segments.
DEEP = "f" + "[]" * 7


def digest(arguments: str) -> str:
    """Return the text of the digest of member ``v``."""
    value = form_digest(form(parse_object(arguments.encode())["v"]))
    return f'digest("{base64.urlsafe_b64encode(value).rstrip(b"=").decode()}")'


def judged(state: StateFixture, conditions: str, arguments: str, tail: str = "") -> tuple[Reason, str]:
    """Return the reason and the argument, for a minted scope and for an attenuation alike."""
    scope = f"read:files/* where {conditions}{tail}"
    found = set()
    for chain in (token(root(scope)), token(root("read:files/**"), child(scope))):
        decision = state.check(chain, arguments=arguments.encode())
        assert decision.allowed is (decision.reason is Reason.ALLOWED)
        found.add((decision.reason, decision.argument))
    (only,) = found
    return only


@pytest.mark.parametrize(
    "value", ["{}", '"abc"', "1", "null", "true", '{"0":{"p":1},"length":1}', "[]", "[[]]"]
)
@pytest.mark.parametrize("path", ["f[].p", "f[]", "f[].p[]", "f[][]"])
@pytest.mark.parametrize("relation", ["== 7", "!= 7", "not in [7]", 'under "a"', "present", "<= 7"])
def test_a_list_that_is_none_satisfies_nothing(
    state: StateFixture, value: str, path: str, relation: str
) -> None:
    """Negative relations neither; the place begins with the name of the list."""
    if value == "[[]]" and path == "f[]" and relation in ("!= 7", "not in [7]", "present"):
        return  # An empty list is an element that differs from 7.
    reason, argument = judged(state, f"{path} {relation}", f'{{"f":{value}}}', " free *")
    assert reason is Reason.CONDITION_FAILED
    assert argument.startswith("f[") or argument == "f"


@pytest.mark.parametrize("position", [0, 1, 4_999, 9_997])
def test_one_element_of_ten_thousand_is_named(state: StateFixture, position: int) -> None:
    """The bound of a request is 10,000 values: object, list and 9,998 elements."""
    elements = ["7"] * (MOST_VALUES - 2)
    assert judged(state, "f[] == 7", json.dumps({"f": [7] * len(elements)})) == (Reason.ALLOWED, "")
    elements[position] = "8"
    assert judged(state, "f[] == 7", f'{{"f":[{",".join(elements)}]}}') == (
        Reason.CONDITION_FAILED,
        f"f[{position}]",
    )


def test_objects_to_the_bound(state: StateFixture) -> None:
    """A list of 4,999 objects is walked to its last member, closed as well as open."""
    elements = [{"p": 1} for _ in range((MOST_VALUES - 2) // 2)]
    assert judged(state, "f[].p == 1", json.dumps({"f": elements})) == (Reason.ALLOWED, "")
    last = len(elements) - 1
    elements[last] = {"q": 1}
    assert judged(state, "f[].p == 1", json.dumps({"f": elements})) == (
        Reason.CONDITION_FAILED,
        f"f[{last}].p",
    )
    elements[last] = {"p": 1}
    elements[0] = {"p": 1, "q": 1}
    del elements[1]
    assert judged(state, "f[].p == 1", json.dumps({"f": elements})) == (Reason.CONDITION_FAILED, "f[0].q")


def test_nesting_to_the_bound_of_a_path(state: StateFixture) -> None:
    """Seven lists deep is held; one list more or less is another shape."""
    for lists, expected in (
        (7, (Reason.ALLOWED, "")),
        (6, (Reason.CONDITION_FAILED, "f[0][0][0][0][0][0][]")),
        (8, (Reason.CONDITION_FAILED, "f[0][0][0][0][0][0][0]")),
    ):
        assert judged(state, f"{DEEP} == 1", f'{{"f":{"[" * lists}1{"]" * lists}}}') == expected


@pytest.mark.parametrize("depth", [31, 32, 33, 500])
def test_nesting_to_the_bound_of_json(state: StateFixture, depth: int) -> None:
    """Below the bound the element is no number; beyond it there are no arguments."""
    arguments = f'{{"f":{"[" * (depth - 1)}{"]" * (depth - 1)}}}'
    expected = (Reason.CONDITION_FAILED, "f[0]") if depth <= 32 else (Reason.MALFORMED_REQUEST, "arguments")
    assert judged(state, "f[] == 1", arguments) == expected


@pytest.mark.parametrize(
    "element",
    [
        '{"p":1,"p":2}',
        '{"p":2,"p":1}',
        '{"p":1,"p":1}',
        '{"p":1,"\\u0070":2}',
        '{"p":1,"q":{"r":0,"r":0}}',
        '{"p":1,"q":[{"":0,"":0}]}',
    ],
)
def test_members_twice_inside_elements(state: StateFixture, element: str) -> None:
    """Nobody may take the first and somebody else the last, whatever the scope reads of it."""
    for conditions, tail in (("f[].p == 1", ""), ("f[].p == 1", " free *"), ("x absent", " free *")):
        for place in ("[{}]", '[{{"p":1}},{}]', "[[{}]]"):
            arguments = f'{{"f":{place.format(element)}}}'
            assert judged(state, conditions, arguments, tail) == (Reason.MALFORMED_REQUEST, "arguments")


SPELLINGS = (
    '{"id":"caf\u00e9/1","n":100,"tags":["a",{}]}',
    '{ "tags" : [ "a" , { } ] , "n" : 1E+2 , "id" : "caf\\u00e9\\/1" }',
    '{"n":100.000,"id":"\\u0063af\u00e9/1","tags":["\\u0061",{}]}',
    '{"n":10000e-2,"tags":["a",{}],"id":"caf\u00e9/1"}',
)


@pytest.mark.parametrize("stated", SPELLINGS)
@pytest.mark.parametrize("sent", SPELLINGS)
def test_digests_are_of_values_and_not_of_spellings(state: StateFixture, stated: str, sent: str) -> None:
    """Members in any order, any escapes, any spelling of a number; a difference in a value is one."""
    held = digest(f'{{"v":{stated}}}')
    assert judged(state, f"f[] == {held}", f'{{"f":[{sent},{stated}]}}') == (Reason.ALLOWED, "")
    for wrong, right in (
        ("caf", "Caf"),
        ("tags", "Tags"),
        ('"a"', '"b"'),
        ("\\u0061", "\\u0062"),
        ("n", "N"),
    ):
        if wrong in sent:
            other = sent.replace(wrong, right, 1)
            assert judged(state, f"f[] == {held}", f'{{"f":[{sent},{other}]}}') == (
                Reason.CONDITION_FAILED,
                "f[1]",
            )


def test_another_normal_form_of_a_text_is_another_text(state: StateFixture) -> None:
    """Accents composed and decomposed look alike and are two values."""
    held = digest('{"v":{"id":"caf\u00e9"}}')
    assert judged(state, f"f[] == {held}", '{"f":[{"id":"cafe\u0301"}]}') == (Reason.CONDITION_FAILED, "f[0]")
