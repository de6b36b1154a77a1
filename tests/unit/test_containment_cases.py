"""Containment by example: what must be provable, what must not, and how a part is named."""

from __future__ import annotations

import pytest

from sessauth.scopes import containment
from sessauth.scopes.scope import Condition, Scope


def verdict(parent: str, child: str, *, same_facts: bool = True) -> int:
    """Compare two conditions on otherwise equal, open scopes."""
    scopes = [[Scope.parse(f"read:a where {text} free *").to_record()] for text in (parent, child)]
    return containment.contains(*scopes, same_facts=same_facts)[0]


def scopes(*texts: str) -> list[dict[str, object]]:
    """Give the wire dicts of scope texts."""
    return [Scope.parse(text).to_record() for text in texts]


PROVEN = [
    ("x == 1", "x == 1.0"),
    ("x in [1, 2, 3]", "x == 2"),
    ("x in [1, 2, 3]", "x in [3, 1]"),
    ("x != 4", "x == 2"),
    ("x not in [4, 5]", "x not in [6, 5, 4]"),
    ("x not in [4, 5]", "x < 4"),
    ("x != 4", "x != 4"),
    ("x <= 10", "x < 10"),
    ("x < 10", "x <= 9.999999999"),
    ("x > 1", "x > 1"),
    ("x >= -0.5", "x > -0.5"),
    ('x < "b"', 'x <= "a"'),
    ('x starts_with ["a", "b"]', 'x starts_with "ab"'),
    ('x starts_with "/srv/"', 'x under "/srv/data"'),
    ('x starts_with "ac"', 'x == "acme"'),
    ('x glob "a/**"', 'x == "a/b/c"'),
    ('x glob ["a/**", "b"]', 'x glob "a/**"'),
    ('x under ["/srv", "/tmp"]', 'x under "/srv/data"'),
    ('x under "/"', 'x under "/a"'),
    ('x cidr "10.0.0.0/8"', 'x cidr ["10.1.0.0/16", "10.0.0.1/32"]'),
    ('x cidr "::/0"', 'x cidr "2001:db8::/32"'),
    ('x cidr "10.0.0.0/8"', 'x == "10.1.2.3"'),
    ('x subset_of ["a", "b"]', 'x subset_of ["b"]'),
    ('any(x) in ["a", "b"]', 'any(x) == "a"'),
    ("any(x[].y) == 1", "any(x[].y) == 1"),
    ("any(x[].y) >= 1", "any(x[].y) > 1"),
    ("any(x[].y) == 1", "x[].y == 1"),
    ("x present", "any(x) == 1"),
    ("x present", "any(x[].y) == 1"),
    ('any(x) == "b"', 'x == ["a", "b"]'),
    ('any(x[].y) == "b"', 'x == [{"y": "b"}]'),
    ('x not starts_with "ab"', 'x not starts_with ["a", "c"]'),
    ('x not starts_with "a"', 'x starts_with ["b", "c"]'),
    ('x not starts_with "/a"', 'x under "/b"'),
    ('x not glob "a/**"', 'x not glob ["b", "a/**"]'),
    ('x not glob "a/**"', 'x == "b"'),
    ('x not under "/a/b"', 'x not under "/a"'),
    ('x not under "/a"', 'x under ["/b", "/c"]'),
    ('x not under "/a"', 'x in ["/b", "/ab"]'),
    ('x not cidr "10.1.0.0/16"', 'x not cidr "10.0.0.0/8"'),
    ('x not cidr ["10.0.0.0/8", "::1/128"]', 'x cidr "11.0.0.0/8"'),
    ('x != "/a"', 'x not under "/a"'),
    ('domain(x) in ["a.b", "c.d"]', 'domain(x) == "a.b"'),
    ('path(x) under "/v1"', 'path(x) under "/v1/users"'),
    ("length(x) <= 80", "length(x) < 10"),
    ("each(x) < 5", "each(x) <= 4"),
    ("count(x) <= 5", "count(x) == 3"),
    ('host(u) in ["a.b", "c.d"]', 'host(u) == "a.b"'),
    ("x present", "x == 1"),
    ("x present", "x.y present"),
    ("x? < 5", "x < 5"),
    ("x? < 5", "x? < 4"),
    ("x? < 5", "x absent"),
    ("x.y absent", "x absent"),
    ("x == session.f", "x == session.f"),
    ('session.f == "a"', 'session.f == "a"'),
]

APART = [
    ("x == 1", "x == 2"),
    ("x == 1", 'x == "1"'),
    ("x == 1", "x == true"),
    ("x in [1, 2]", "x not in [2, 1]"),
    ("x < 1", "x >= 1"),
    ("x <= 1", "x > 1"),
    ('x starts_with "a"', 'x starts_with "b"'),
    ('x under "/srv"', 'x under "/srvx"'),
    ('x under "/srv"', 'x starts_with "/tmp"'),
    ('x cidr "10.0.0.0/8"', 'x cidr ["11.0.0.0/8", "::/0"]'),
    ('x not cidr "10.0.0.0/8"', 'x cidr "10.1.0.0/16"'),
    ("any(x) == 1", "x == [2, 3]"),
    ("any(x) == 1", 'x == "a"'),
    ("any(x[].y) == 1", "x absent"),
    ("any(x[].y) == 1", "x[].y == 2"),
    ('x not starts_with "ab"', 'x == "abc"'),
    ('x not under "/srv"', 'x under ["/srv/a", "/srv/b"]'),
    ('x not under "/srv"', 'x == "/srv/../srv"'),
    ('x not glob "*.txt"', 'x == "a.txt"'),
    ('x not glob "a"', "x == 1"),
    ("length(x) < 3", "length(x) > 3"),
    ("length(x) < 3", "count(x) < 3"),
    ('x glob "a/*"', 'x == "a/b/c"'),
    ("x present", "x absent"),
    ("x.y == 1", "x absent"),
    ("x == 1", 'x subset_of ["a"]'),
    ('x starts_with "a"', "x != 1"),
    ("x > 1", 'x > "a"'),
    ('x glob "*"', 'x subset_of ["a"]'),
    ("count(x) > 3", "count(x) < 2"),
    ("x == 1", "x? == 2"),
]

UNKNOWN = [
    ("x == 1", "x != 2"),
    ("x <= 1", "x >= 1"),
    ("x < 10", "x <= 10"),
    ("x > 1", "x >= 1"),
    ("x < 5", "x? < 4"),
    ("x < 5", "y < 4"),
    ("x? == 1", "x? == 2"),
    ("each(x) == 1", "each(x) == 2"),
    ('x subset_of ["a"]', 'x subset_of ["b"]'),
    ('x glob "a*"', 'x glob "ab*"'),
    ('x under "/srv/data"', 'x under "/srv"'),
    ("any(x) == 1", "any(x) == 2"),
    ("any(x) == 1", "each(x) == 2"),
    ("any(x) == 1", "each(x) == 1"),
    ("x[].y == 1", "any(x[].y) == 1"),
    ("x[].y present", "any(x[].y) == 1"),
    ("each(x) == 1", "any(x[]) == 1"),
    ('x not starts_with "a"', 'x > "b"'),
    ('x not starts_with "a"', 'x starts_with ""'),
    ('x not under "/srv"', 'x not under "/srv/data"'),
    ('x not under "/srv/data"', 'x under "/srv"'),
    ('x not under "/srv"', 'x != "/srv"'),
    ('x not under "/srv"', 'x not glob "/srv/**"'),
    ('x not cidr "10.0.0.0/8"', 'x not cidr "10.1.0.0/16"'),
    ('x not cidr "10.1.0.0/16"', 'x cidr "10.0.0.0/8"'),
    ('x not glob "a*"', 'x glob "b*"'),
    ('path(x) under "/v1"', 'x under "/v1"'),
    ('x cidr "10.1.0.0/16"', 'x cidr "10.0.0.0/8"'),
    ("x == session.f", "x == session.g"),
    ("x == session.f", "x == 1"),
    ("x <= session.f", "x < session.f"),
    ("x absent", "x? == 1"),
    ("x.y present", "x present"),
    # An empty list, and no such fact: only the child holds.
    ("each(x?) == session.f", "x[]? == session.f"),
]


@pytest.mark.parametrize(("parent", "child"), PROVEN)
def test_these_are_proven_inside(parent: str, child: str) -> None:
    """Each operator's tightening is recognised."""
    assert verdict(parent, child) == 1


@pytest.mark.parametrize(("parent", "child"), APART)
def test_these_are_proven_apart_either_way_round(parent: str, child: str) -> None:
    """No call satisfies both, whichever is the parent."""
    assert verdict(parent, child) == -1
    assert verdict(child, parent) == -1


@pytest.mark.parametrize(("parent", "child"), UNKNOWN)
def test_these_are_left_open(parent: str, child: str) -> None:
    """Nothing is claimed if some calls satisfy both and others only the child."""
    assert verdict(parent, child) == 0


@pytest.mark.parametrize(
    ("parent", "child"), [("session.f? == 1", "session.f? == 1"), ("session.f absent", "session.f absent")]
)
def test_a_holder_may_not_see_what_the_parent_does(parent: str, child: str) -> None:
    """A fact hidden from the child is absent to it alone, so nothing follows from its absence."""
    assert verdict(parent, child, same_facts=True) == 1
    assert verdict(parent, child, same_facts=False) == 0


def test_an_absence_seen_by_a_holder_contradicts_nothing() -> None:
    """The fact may be there, hidden."""
    assert verdict("session.f == 1", "each(session.f?) == 1", same_facts=True) == -1
    assert verdict("session.f == 1", "each(session.f?) == 1", same_facts=False) == 0
    assert verdict('session.f == "a"', "session.f absent", same_facts=True) == -1
    assert verdict('session.f == "a"', "session.f absent", same_facts=False) == 0
    assert verdict('session.f == "a"', 'session.f? == "b"', same_facts=False) == 0
    assert verdict('session.f == "a"', 'session.f == "b"', same_facts=False) == -1


@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [
        ("read,write:a", "read:a", (1, "")),
        ("*:a", "read:a", (1, "")),
        ("read:a", "*:a", (0, "scope 0: action *")),
        ("read:a", "read,write:a", (0, "scope 0: action write")),
        ("read:a/**", "read:a", (1, "")),
        ("read:a/**", "read:a/b/c*/**", (1, "")),
        ("read:a/*", "read:a/**", (0, "scope 0: resource segment 2")),
        ("read:a/b*", "read:a/{bc,bd}", (1, "")),
        ("read:a/{b,c,d}", "read:a/{b,d}", (1, "")),
        ("read:a/{b,c}", "read:a/b*", (0, "scope 0: resource segment 2")),
        ("read:a/{b,c}", "read:a/{c,d}", (0, "scope 0: resource segment 2")),
        ("read:a/b*", "read:a/c*", (-1, "scope 0: resource segment 2")),
        ("read:a/*", "read:a", (-1, "scope 0: resource segment 2")),
        ("read:a", "read:a/*", (-1, "scope 0: resource segment 2")),
        ("read:a", "write:a", (-1, "scope 0: action write")),
        ("read:a free x", "read:a", (0, "scope 0: arguments that the parent does not leave open")),
        ("read:a", "read:a free x", (1, "")),
        ("read:a free x", "read:a free x.y", (1, "")),
        ("read:a free x.y", "read:a free x", (0, "scope 0: argument x")),
        ("read:a free x.y", "read:a where x present free x.y", (0, "scope 0: argument x")),
        ("read:a free x", "read:a free *", (0, "scope 0: arguments that the parent does not leave open")),
        ("read:a free x", "read:a where y == 1 free x", (-1, "scope 0: argument y")),
        ("read:a free x", "read:a where y? == 1 free x", (0, "scope 0: argument y")),
        ("read:a where y == 1 free *", "read:a free x", (-1, "scope 0: argument y")),
        ("read:a needs uses(3)", "read:a", (0, "scope 0: what the parent needs")),
        ("read:a needs uses(3)", "read:a needs uses(3)", (1, "")),
        ("read:a", "read:a needs uses(3)", (1, "")),
    ],
)
def test_scopes_by_example(parent: str, child: str, expected: tuple[int, str]) -> None:
    """Actions, resources, the closed world and needs; the part that isn't inside is named."""
    assert containment.contains(scopes(parent), scopes(child)) == expected


def test_the_worst_of_several_scopes_is_told() -> None:
    """One scope that sticks out outweighs others; its index is told."""
    parent = scopes("read:a/**", "write:b")

    assert containment.contains(parent, scopes("write:b", "read:a/x")) == (1, "")
    assert containment.contains(parent, scopes("write:b", "read:**")) == (0, "scope 1: resource segment 1")
    assert containment.contains(parent, scopes("read:**", "write:a")) == (-1, "scope 1: resource segment 1")
    assert [v for v, _ in containment.compare(parent, scopes("write:b", "read:**", "go:c"))] == [1, 0, -1]


def test_an_empty_list_permits_nothing_and_none_anything() -> None:
    """A root without scopes permits nothing; a block that states none is no limit."""
    assert containment.contains([], scopes("read:a"))[0] == -1
    assert containment.contains(scopes("read:a"), []) == (1, "")
    assert containment.contains(None, scopes("*:**")) == (1, "")
    assert containment.contains(scopes("read:a"), None) == (1, "")


def test_conditions_beside_the_scopes_bind_but_mention_nothing() -> None:
    """A block's own conditions are implied or contradicted like a scope's, and open no argument."""
    where = [Condition.parse("x == 1").to_record()]
    other = [Condition.parse("x == 2").to_record()]

    assert containment.contains(scopes("read:a"), scopes("read:a"), parent_where=where)[0] == 0
    assert containment.contains(None, scopes("read:a"), parent_where=where, child_where=where)[0] == 1
    assert containment.contains(None, scopes("read:a"), parent_where=where, child_where=other)[0] == -1
    assert containment.contains(None, None, parent_where=where, child_where=other)[0] == -1
    assert containment.contains(scopes("read:a free y"), None, child_where=where) == (
        -1,
        "scope 0: argument x",
    )


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ('read:a where a == "v" and b == 1', (0, "a condition on facts of the session")),
        ('read:a where a == "v" and b == 2', (-1, "scope 0: condition on b")),
        ("read:a where a == session.g and b == 1", (0, "a condition on facts of the session")),
        ('read:a where b == 1 and c == "v"', (-1, "scope 0: argument c")),
    ],
)
def test_another_sessions_fact_leaves_its_argument_open(child: str, expected: tuple[int, str]) -> None:
    """The argument is still mentioned, so it is not left over; the other parts still disprove."""
    parent = scopes("read:a where a == session.f and b == 1")

    assert containment.contains(parent, scopes(child), same_session=False) == expected


def test_another_session_alone_hides_no_proof() -> None:
    """Without conditions on facts the sessions' facts play no part."""
    assert containment.contains(scopes("read:a/**"), scopes("read:a/b"), same_session=False) == (1, "")
    assert containment.contains(
        [{"actions": ["*"], "resource": [{"kind": 5}]}], scopes("read:a"), same_session=False
    ) == (
        1,
        "",
    )


def test_kinds_of_a_later_version_prove_nothing() -> None:
    """An unknown kind on either side makes the answer unknown."""
    later = [{"actions": ["read"], "resource": [{"kind": 9, "texts": []}]}]

    assert containment.contains(later, scopes("read:a"))[0] == 0
    assert containment.contains(scopes("write:a"), later)[0] == 0


def test_the_largest_lists_are_given_up_on_and_not_computed() -> None:
    """Work is bounded by counting: of 64 scopes of 16 conditions against as many, the last are unknown."""

    def largest(name: str) -> list[dict[str, object]]:
        where = " and ".join(f"{name}{i} == 1" for i in range(16))
        return scopes(*(f"read:a where {where} free *" for _ in range(64)))

    parts = [part for _, part in containment.compare(largest("x"), largest("y"))]

    assert parts[0] == "the parent's condition on x0"
    assert parts[-1] == "too much to compare"
