"""A suggestion by kinds: each of its scopes can be parsed, and admits a call that was recorded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessauth.scopes.scope import Scope
from tests.support.kinds import Call, learnt, permits, send

_TEXTS = (
    "a",
    "b",
    "docs/a",
    "docs/b",
    "https://a.example/x",
    "2026-05-21",
    "two words",
    "rm -rf /tmp/x; ls y",
    "x" * 90,
)
_SCALARS = st.one_of(st.sampled_from(_TEXTS), st.integers(-60, 60), st.booleans(), st.none())
_VALUES = st.one_of(
    _SCALARS, _SCALARS, st.lists(_SCALARS, max_size=2), st.fixed_dictionaries({"n": _SCALARS})
)
_CALLS = st.dictionaries(st.sampled_from(("a", "b", "command")), _VALUES, max_size=3).map(
    lambda given: send(**given)
)
# Where the calls share a command, one has an object in `a`, and the other no object.
_HALVES: tuple[dict[str, Any], ...] = (
    {},
    {"a": None, "command": "a"},
    {"a": {"n": "2026-05-21"}, "b": None, "command": "a"},
    {"command": 0},
    {"a": {"n": "2026-05-21"}, "command": "b"},
)
SEEN: Counter[str] = Counter()


@settings(max_examples=150, deadline=None)
@given(st.lists(_CALLS, min_size=1, max_size=8))
@example([send(**each) for each in _HALVES])
def test_each_scope_parses_and_admits_a_recorded_call(calls: list[Call]) -> None:
    """One call a session: a report knows which values a call had together only where there is one."""
    scopes = learnt([[call] for call in calls], "write:mcp/** free *").scopes

    assert [scope for scope in scopes if Scope.parse(str(scope)) != scope] == []
    assert [scope for scope in scopes if not any(permits([scope], call) for call in calls)] == []
    SEEN.update(["some" if scopes else "none"])


def test_the_property_was_about_scopes() -> None:
    """Some of the sessions above had scopes suggested."""
    if not SEEN:
        pytest.skip("the property did not run in this process")
    assert SEEN["some"] >= 50, SEEN


@pytest.mark.parametrize(
    "values",
    [[3, 4, 41, 42], [1, 100], [[3], [41]], [{"n": 3}, {"n": 41}]],
    ids=["ranges", "numbers", "lists", "members"],
)
def test_disjoint_numbers_of_two_sessions_are_left_out_and_named(values: list[Any]) -> None:
    """No range that nothing fits, and none that one session alone opens."""
    half = len(values) // 2
    calls = [[send(v=value) for value in part] for part in (values[:half], values[half:])]
    suggestion = learnt([*calls, *([("write", "mcp/mail/sync", {})] for _ in range(3))])

    assert [str(scope) for scope in suggestion.scopes if "send" in str(scope)] == []
    assert any(each.startswith("write:mcp/mail/send v") for each in suggestion.once)
