"""Suggestions for plain cases, word for word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessauth.scopes.parts import Approval
from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage, records
from sessauth.usage.profile import CEILING, GrantLayer
from sessauth.usage.suggest import Suggestion, suggest
from sessauth.usage.tighten import Fit

Call = tuple[str, str, dict[str, Any]]


def suggestion(grant: str | list[str], calls: list[Call], fit: Fit = Fit.EXACT, **options: Any) -> Suggestion:
    """Return the suggestion after these calls, each of which the grant allows."""
    layer = GrantLayer(CEILING, map(Scope.parse, [grant] if isinstance(grant, str) else grant))
    usage = SessionUsage()
    for at_ms, (action, resource, arguments) in enumerate(calls, start=1):
        data = json.dumps(arguments).encode()
        usage.observe(
            action, resource, data, at_ms=at_ms, matched=layer.matching_positions(action, resource, data)
        )
    assert not usage.uses[layer.id, -1].calls
    return suggest(layer, usage, fit, **options)


def texts(grant: str | list[str], calls: list[Call], fit: Fit = Fit.EXACT) -> list[str]:
    """The scopes of a suggestion."""
    return [str(scope) for scope in suggestion(grant, calls, fit).scopes]


def repeated(values: list[Any], name: str = "v") -> list[Call]:
    """One call for each value."""
    return [("read", "a/b", {name: value}) for value in values]


@pytest.mark.parametrize(
    ("calls", "exact", "loose"),
    [
        (repeated([1, 2, 3]), "v in [1, 2, 3]", "v >= 1 and v <= 5"),
        (repeated([3.25, -70]), "v in [-70, 3.25]", ""),
        (repeated([3.25, -70, 0]), "v in [-70, 0, 3.25]", "v >= -100 and v <= 5"),
        (repeated(["x"]), 'v == "x"', ""),
        (repeated(["x"] * 3), 'v == "x"', 'v == "x"'),
        (repeated(["x", "y"] * 2), 'v in ["x", "y"]', 'v in ["x", "y"]'),
        (repeated([True, False]), "v in [false, true]", ""),
        (repeated(["d/a", "d/b", "d/e/f"]), 'v in ["d/a", "d/b", "d/e/f"]', 'v under "d"'),
        (repeated([f"/etc/app/{n}" for n in range(40)]), 'v under "/etc/app"', 'v under "/etc/app"'),
        (repeated([f"ab {n}" for n in range(100, 140)]), 'v starts_with "ab 1"', 'v starts_with "ab "'),
        (
            repeated([f"https://x.example/{n}?{n}" for n in range(40)]),
            'host(v) == "x.example"',
            'host(v) == "x.example"',
        ),
        (repeated([f"https://a{n}.example/x" for n in range(40)]), "", ""),
        (repeated([["a"], [], ["b", "a"]]), 'v in [["a"], ["b","a"], []]', ""),
        (repeated([["a"]] * 3), 'v == ["a"]', 'v subset_of ["a"]'),
        (repeated([[n] for n in range(40)] + [["a", {"b": 1}]]), "", ""),
        (repeated([{}]), "v == {}", ""),
        (repeated([[{"b": 1.0}]]), 'v == [{"b":1}]', ""),
        (repeated([["a", 1], [None]]), 'v in [["a",1], [null]]', ""),
        (repeated([1, "a"]), 'v in [1, "a"]', ""),
        (repeated([None, None, None]), "v == null", ""),
        ([*repeated([7, 7, 7]), ("read", "a/b", {})], "v? == 7", "v? == 7"),
    ],
)
def test_conditions_on_what_was_seen(calls: list[Call], exact: str, loose: str) -> None:
    """EXACT lists, LOOSE expects more of the same, and where nothing holds for all the argument is open."""
    at = "a/b" if len(calls) > 2 else "a/**"

    assert texts("read:**", calls) == [f"read:a/b where {exact}" if exact else "read:a/b free v"]
    assert texts("read:**", calls, Fit.LOOSE) == [
        f"read:{at} where {loose} free *" if loose else f"read:{at}"
    ]


def test_a_grant_becomes_one_scope_for_each_kind_of_call() -> None:
    """Tools with arguments of their own stay apart; what differs in actions or the last name is joined."""
    calls: list[Call] = [
        ("read", "mcp/git/get", {"id": 1}),
        ("read", "mcp/git/list", {"page": 1}),
        ("write", "mcp/git/list", {"page": 1}),
        ("read", "mcp/git/find", {"page": 1}),
        ("write", "mcp/git/find", {"page": 1}),
    ]

    assert texts("*:mcp/**", calls) == [
        "read,write:mcp/git/{find,list} where page == 1",
        "read:mcp/git/get where id == 1",
    ]


def test_the_world_of_arguments_is_closed_around_what_was_seen() -> None:
    """Nested names that hold anything are mentioned one by one, and no others."""
    calls: list[Call] = [("read", "a", {"o": {"x": None, "p": {"q": [None]}}, "e": {}})]

    assert texts("read:a free *", calls) == ["read:a where e == {} and o.p.q == [null] and o.x == null"]
    assert texts("read:a free o, e, z", calls) == ["read:a where e == {} and o.p.q == [null] and o.x == null"]
    assert texts("read:a", [("read", "a", {})]) == ["read:a where no arguments"]
    assert texts("read:a free x", [("read", "a", {})]) == ["read:a where no arguments"]
    assert texts("read:a", [("read", "a", {})], Fit.LOOSE) == ["read:a"]


def test_paths_beyond_the_bound_are_open_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped paths lie below a stored one, which is mentioned as a whole; else nothing is closed."""
    monkeypatch.setattr(records, "MAX_PATHS", 4)
    deep: dict[str, Any] = {"a": 1, "o": {"p": 1, "q": 2, "r": 3}}

    assert texts("read:**", [("read", "x", deep)]) == ['read:x where a == 1 and o == {"p":1,"q":2,"r":3}']
    assert texts("read:**", [("read", "x", dict.fromkeys("abcde", 1))]) == [
        "read:x where a == 1 and b == 1 and c == 1 and d == 1 free *"
    ]


def test_an_empty_object_on_the_way_to_a_granted_path_is_admitted() -> None:
    """A call may pass it though nothing of it is named; what leads there stays mentioned."""
    assert texts("read:x free a.b, c", [("read", "x", {"a": {}, "c": None})]) == [
        "read:x where a == {} and c == null"
    ]


def test_what_the_grant_says_is_kept_unless_it_is_said_more_closely() -> None:
    """Conditions on facts stay; a condition that the new one implies goes; needs stay, unsplit."""
    grant = 'pay:** where amount <= 500 and who == session.who and session.tier != "x" needs uses(3)'
    calls: list[Call] = [("pay", f"i/{n}", {"amount": n, "who": "me"}) for n in (1, 2)]

    assert texts(grant, calls) == [
        'pay:i/{1,2} where who == session.who and session.tier != "x" and amount in [1, 2] and who == "me"'
        " needs uses(3)"
    ]


def test_a_scope_that_was_never_used_is_dropped() -> None:
    """Each granted scope has its outcome, and nothing used means nothing suggested."""
    made = suggestion(["read:a", "write:a", "read:b/**"], [("read", "a", {}), ("read", "b/c", {})])

    assert [part.outcome for part in made.parts] == ["tightened", "dropped", "tightened"]
    assert [str(scope) for scope in made.scopes] == [
        "read:a where no arguments",
        "read:b/c where no arguments",
    ]
    assert suggestion("read:a", []).scopes == ()


def test_exceptions_are_kept_beside_what_is_suggested() -> None:
    """They stand last. Without a call nothing is suggested, since exceptions alone permit all else."""
    grant = ["read:**", "except read:keys/**"]
    made = suggestion(grant, [("read", "a", {}), ("read", "b", {})])

    assert [str(scope) for scope in made.scopes][-1] == grant[1]
    assert [part.outcome for part in made.parts] == ["tightened", "kept"]
    assert suggestion(grant, []).scopes == ()
    alone = suggest(GrantLayer(CEILING, [Scope.parse(grant[1])]), SessionUsage())
    assert [str(scope) for scope in alone.scopes] == grant[1:]
    key = Approval(1, (bytes(32),))
    assert not any(scope.exception for scope in made.with_approval(key))


def test_resources_that_differ_in_length_keep_an_open_end() -> None:
    """The segments that all calls have are narrowed; the rest is as open as it was granted."""
    calls: list[Call] = [("read", "a/b", {}), ("read", "a/b/c/d", {})]

    assert texts("read:**", [*calls, ("read", "a", {})] * 40)[0] == "read:a where no arguments"
    assert texts("read:a/**", [(a, r, {}) for a, r, _ in calls] * 3, Fit.LOOSE) == ["read:a/b/**"]


def test_more_resources_than_can_be_listed_keep_their_beginning() -> None:
    """Forty files of one folder are no list, but they have a folder and a beginning."""
    calls: list[Call] = [("read", f"files/day-{n}", {}) for n in range(40)]

    assert texts("read:**", calls) == ["read:files/day-* where no arguments"]
    assert texts("read:**", calls, Fit.LOOSE) == ["read:files/**"]


def test_a_suggestion_that_would_be_too_long_gets_coarser() -> None:
    """First kinds are taken together, at last the used scopes are as they were granted."""
    calls: list[Call] = [("read", f"t/{n}", {f"name-{n}": "x" * 60}) for n in range(12)]
    fine, coarse, none = (suggestion("read:**", calls, max_bytes=most) for most in (8000, 900, 40))

    assert (len(fine.scopes), len(coarse.scopes)) == (12, 1)
    assert [str(scope) for scope in none.scopes] == ["read:**"] and "too long" in none.why


def test_arguments_that_are_much_work_are_not_judged_by_more_conditions() -> None:
    """Judging may cost so much and no more; a suggestion must not use it up."""
    calls: list[Call] = [("read", "a", {f"n{n}": [*range(500)] for n in range(16)})] * 3
    made = suggestion("read:**", calls)

    assert [str(scope) for scope in made.scopes] == ["read:**"] and "work" in made.why


def test_a_call_of_an_unknown_scope_leaves_the_layer_as_it_is() -> None:
    """Nothing may be dropped if the scope that admitted a call is unknown."""
    layer, usage = GrantLayer(CEILING, map(Scope.parse, ("read:a", "read:b"))), SessionUsage()
    usage.observe("read", "c", b"", at_ms=1, matched=layer.matching_positions("read", "c"))
    made = suggest(layer, usage)

    assert made.scopes == layer.scopes and "not known" in made.why
