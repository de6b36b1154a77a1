"""The fit by kinds: what a list of sessions makes of each argument, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from sessauth.scopes.value import value_to_record
from sessauth.usage.kinds.holds import TextKind, text_kind
from tests.support.kinds import Call, layer_of, learnt, learnt_from, observed, permits, send, texts

LONG = "Dear all, here is what we decided yesterday, and what is still open for the next meeting of the team"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ana@acme.example", TextKind.NAME),
        ("#W2378156", TextKind.NAME),
        ("acme/web", TextKind.NAME),
        ("report.pdf", TextKind.NAME),
        ("docs/report.pdf", TextKind.PATH),
        ("/srv/out", TextKind.PATH),
        ("docs/../keys", TextKind.NAME),
        ("https://a.example/x", TextKind.URL),
        ("www.a.example/x", TextKind.SITE),
        ("2026-05-21", TextKind.DATE),
        ("2026-05-21T10:00:00Z", TextKind.DATE),
        ("10:30", TextKind.DATE),
        ("notes of may", TextKind.LABEL),
        ("two\nlines", TextKind.PROSE),
        (LONG, TextKind.PROSE),
        ("", TextKind.NAME),
        ("/", TextKind.NAME),
    ],
)
def test_kinds_of_texts(text: str, kind: TextKind) -> None:
    """Names, places and writing are told apart by their form alone."""
    assert text_kind(text) == kind


def of(values: list[Any]) -> list[str]:
    """Return the scopes after sessions that each gave one value."""
    return texts([[send(v=value)] for value in values])


HEAD = "write:mcp/mail/send where "


@pytest.mark.parametrize(
    ("values", "scope"),
    [
        (["a@x.example"], 'v == "a@x.example"'),
        (["a@x.example", "b@x.example"] * 3, 'v in ["a@x.example", "b@x.example"]'),
        (["docs/a.txt", "docs/b.txt"], 'v under "docs"'),
        (["/a.txt", "/b.txt"], 'v under ["/a.txt", "/b.txt"]'),
        (["/", "/"], 'v == "/"'),
        (["https://a.example/1", "https://a.example/2"], 'host(v) in ["a.example"]'),
        (["www.a.example/1", "www.a.example/2"], 'v starts_with "www.a.example/"'),
        (["2026-05-21", "2026-05-22"], "v present"),
        ([LONG, LONG + "!"], "v present"),
        (["a b", "c d"], 'v in ["a b", "c d"]'),
        (["a b", "c d", "e f"], "v present"),
        ([True], "v in [false, true]"),
        ([12, 18], "v >= 10 and v <= 20"),
        ([7, 7, 7], "v == 7"),
        ([["a", "b"], ["a"]], 'v subset_of ["a", "b"]'),
        ([["docs/a.txt"], ["docs/b.txt"]], 'each(v) under "docs"'),
        ([["https://a.example/x"]], 'each(host(v)) in ["a.example"]'),
        ([[3], [14]], "each(v) >= 2 and each(v) <= 20"),
        ([[True], [False]], "v subset_of [false, true]"),
        ([[], []], "count(v) == 0"),
        ([[{"id": 1}]], "v[].id >= 1 and v[].id <= 1"),
        ([[{"id": 1}, "a"]], "v present"),
        ([[{}]], "v present"),
        ([{"to": "a", "n": 3}], 'v.n >= 2 and v.n <= 5 and v.to == "a"'),
        ([f"credit_card_{n}" for n in range(100, 106)], 'v starts_with "credit_card_"'),
        ([f"u{n}@x.example" for n in range(6)], 'v glob "*@x.example"'),
    ],
)
def test_an_argument_is_held_by_the_kind_of_its_values(values: list[Any], scope: str) -> None:
    """Names are listed, places are held, numbers have a range, writing stays open."""
    assert of(values) == [HEAD + scope]


def test_types_that_differ_have_scopes_of_their_own() -> None:
    """A number beside a text does not open the argument."""
    assert of(["a", 5]) == [HEAD + 'v == "a"', HEAD + "v >= 5 and v <= 5"]


@pytest.mark.parametrize("name", ["", ".", "..", "docs/", "./docs", "docs/../keys", "/"])
def test_a_name_that_is_no_clean_path_stands_beside_folders(name: str) -> None:
    """It opens neither the argument, nor the tool, nor the rest of the grant."""
    scopes = learnt([[send(v=name)], [send(v="docs/a.txt")]]).scopes

    assert [str(scope) for scope in scopes][:2] == [HEAD + 'v under "docs"', f'{HEAD}v == "{name}"']
    assert permits(scopes, send(v=name)) and permits(scopes, send(v="docs/b.txt"))
    assert not permits(scopes, send(v="keys/a.txt"))
    assert not permits(scopes, ("write", "mcp/mail/wipe", {}))


def test_what_finds_no_room_in_a_scope_is_said() -> None:
    """Hosts and folders beyond their bounds are left out, arguments beyond the conditions stay open."""
    hosts = learnt([[send(v=f"https://h{n}.example/x")] for n in (9, *range(10), *range(10))])
    assert str(hosts.scopes[0]).endswith('"h5.example", "h6.example", "h9.example"]')
    assert hosts.notes == ("write:mcp/mail/send v: only 8 hosts are held, not h7.example, h8.example",)
    folders = learnt([[send(v=f"/d{n}/e/f{k}.txt")] for n in range(9) for k in range(2)])
    assert folders.notes == ("write:mcp/mail/send v: only 8 folders are held, not /d8",)
    many = learnt([[send(**{f"a{n:02}": "x" for n in range(17)})] for _ in range(3)])
    assert many.notes == ("write:mcp/mail/send a16: more than 16 conditions; it is left open",)
    kinds = learnt([[send(a=a, b=b)] for a in ("x", 1, True) for b in ("x", 1)])
    assert kinds.notes == ("write:mcp/mail/send: only 4 of 6 combinations of kinds are suggested",)


def test_arguments_that_were_always_given_must_be_and_others_can_not() -> None:
    """Optional ones stay optional; what was never given denies; a tool without arguments takes none."""
    sessions: list[list[Call]] = [
        [send(to="a", body=LONG), send(to="a", body=LONG, cc="b"), ("write", "mcp/mail/sync", {})]
    ]
    scopes = learnt(sessions).scopes

    assert texts(sessions) == [
        'write:mcp/mail/send where cc? == "b" and to == "a" and body present',
        "write:mcp/mail/sync where no arguments",
    ]
    for call, permitted in (
        (send(to="a", body="x"), True),
        (send(to="a"), False),
        (send(to="a", body="x", bcc="b"), False),
        (send(to=["a"], body="x"), False),
        (send(to={"a": 1}, body="x"), False),
        (("write", "mcp/mail/sync", {}), True),
        (("write", "mcp/mail/sync", {"all": True}), False),
    ):
        assert permits(scopes, call) is permitted, call


def test_reading_tools_are_open_and_what_sends_out_is_held_to_hosts() -> None:
    """Any arguments for tools that read; those that fetch a URL reach the hosts that were used."""
    sessions: list[list[Call]] = [
        [("read", "mcp/mail/search", {"q": "x"}), ("read", "mcp/web/fetch", {"url": "https://a.example/1"})]
    ]
    scopes = learnt(sessions).scopes

    assert "read:mcp/mail/** where tool.open_world == false free *" in map(str, scopes)
    assert permits(scopes, ("read", "mcp/mail/search", {"anything": [1]}))
    assert permits(scopes, ("read", "mcp/web/fetch", {"url": "https://a.example/2"}))
    assert not permits(scopes, ("read", "mcp/web/fetch", {"url": "https://b.example/2"}))
    assert not permits(scopes, ("read", "mcp/web/fetch", {"url": "https://a.example/2", "proxy": "b"}))
    # The call's tool is not known to be of a closed world.
    assert not permits(scopes, ("read", "mcp/mail/list", {}))


def test_what_one_of_many_sessions_brought_is_left_out() -> None:
    """One hijacked session among fifteen opens nothing: not its recipient, folder, host, number or tool."""
    honest = [
        [send(to="ana", path=f"docs/{n}.txt", url="https://a.example/x", n=10 + n % 3)] for n in range(14)
    ]
    bad: list[Call] = [
        send(to="mallory", path="etc/cron/x.txt", url="https://evil.example/x", n=90_000, bcc="mallory"),
        ("write", "mcp/mail/wipe", {}),
        ("read", "mcp/web/fetch", {"url": "https://evil.example/?q=secret"}),
    ]
    suggestion = learnt([*honest, bad])
    fine = {"to": "ana", "path": "docs/new.txt", "url": "https://a.example/y", "n": 15}

    assert permits(suggestion.scopes, send(**fine))
    for wrong in (
        {"to": "mallory"},
        {"path": "etc/cron/x.txt"},
        {"url": "https://evil.example/x"},
        {"n": 90_000},
    ):
        assert not permits(suggestion.scopes, send(**fine | wrong)), wrong
    assert not permits(suggestion.scopes, send(**fine, bcc="mallory"))
    assert not any(permits(suggestion.scopes, call) for call in bad)
    assert {"write:mcp/mail/wipe", "write:mcp/mail/send to = mallory"} <= set(suggestion.once)


def test_few_sessions_leave_nothing_out() -> None:
    """Each session counts while there are fewer than five."""
    assert of(["a", "b", "c", "d"]) == [HEAD + 'v in ["a", "b", "c", "d"]']
    assert of(["a", "b", "a", "b", "c"]) == [HEAD + 'v in ["a", "b"]']


def test_an_argument_that_equals_a_fact_of_its_session_is_held_to_it() -> None:
    """Each session serves another customer: the scope names the fact, and not the customers."""
    layer = layer_of()
    sessions = [
        observed(layer, [send(user=f"u{n}", body=LONG)], customer=f"u{n}", region="eu") for n in range(6)
    ]
    suggestion = learnt_from(layer, sessions)
    facts = [{"name": "customer", "value": value_to_record("u77"), "visible": False}]

    assert str(suggestion.scopes[0]) == HEAD + "user == session.customer and body present"
    assert permits(suggestion.scopes, send(user="u77", body="x"), facts)
    assert not permits(suggestion.scopes, send(user="u1", body="x"), facts)


def test_what_differs_in_every_session_is_open_and_said() -> None:
    """Ids without a common head can't be held: the report says so."""
    suggestion = learnt([[send(id=f"{n * 7919:x}")] for n in range(1, 9)])

    assert str(suggestion.scopes[0]) == HEAD + "id present"
    assert suggestion.notes == ("write:mcp/mail/send id: names that differ in every session",)


def test_a_suggestion_stays_inside_the_grant() -> None:
    """Conditions of the grant stay, also where sessions would have needed less."""
    scopes = texts(
        [[send(to="a", n=5)], [send(to="b", n=7)]], 'write:mcp/mail/* where to in ["a", "b", "c"] and n <= 50'
    )

    assert scopes == [
        HEAD + 'n <= 50 and n >= 5 and n <= 10 and to in ["a", "b", "c"] and to in ["a", "b"]'
    ] or (len(scopes) == 1 and "n <= 50" in scopes[0] and 'to in ["a", "b"]' in scopes[0])
    assert not permits(
        learnt([[send(to="a", n=5)]], "write:mcp/mail/send free to, n").scopes, send(to="a", n=5, x=1)
    )


def test_a_condition_that_grant_and_kind_share_stands_once() -> None:
    """An argument that the grant holds to one name is held to it once."""
    assert texts([[send(to="a")]], 'write:mcp/mail/* where to == "a"') == [HEAD + 'to == "a"']


def test_scopes_with_needs_keep_them() -> None:
    """A scope that costs something is not split."""
    grant = "write:mcp/mail/** free * needs uses(3)"
    suggestion = learnt([[send(to="a")], [("write", "mcp/mail/sync", {})]], grant)

    assert len(suggestion.scopes) == 1 and str(suggestion.scopes[0]).endswith("needs uses(3)")


def test_resources_that_are_no_tools() -> None:
    """The first segment of a resource names its kind; further ones are listed if they come again."""
    sessions: list[list[Call]] = [
        [("deploy", "cluster/web", {}), ("write", f"orders/{n}", {"note": LONG})] for n in range(6)
    ]
    suggestion = learnt(sessions, "*:**")

    assert permits(suggestion.scopes, ("write", "orders/77", {"note": "x"}))
    assert not permits(suggestion.scopes, ("write", "users/77", {"note": "x"}))
    assert permits(suggestion.scopes, ("deploy", "cluster/web", {}))
    assert not permits(suggestion.scopes, ("deploy", "cluster/db", {}))
