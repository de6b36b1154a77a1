"""The price of a suggestion, what one session brought, and approvals of what is new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessauth.cli.render.usage import report_lines, suggested
from sessauth.errors import UsageError
from sessauth.scopes.parts import Approval
from sessauth.scopes.scope import Scope
from sessauth.usage.kinds.observed import MAX_JUDGED, Observed, judged, price_of
from sessauth.usage.kinds.scopes import BroughtOnce, brought_once
from sessauth.usage.report import UsageReport
from sessauth.usage.suggest import verdict
from sessauth.usage.tighten import Fit
from tests.support.kinds import GRANT, Call, layer_of, learnt, learnt_from, observed, permits, send
from tests.support.usage_example import OPENED_MS, session

LAYER = layer_of()
APPROVAL = Approval(1, (b"k" * 32,))


def denied(others: list[list[Call]], calls: list[Call]) -> int:
    """Return how many calls of a session are said to be denied by what others suggest."""
    return price_of(LAYER, observed(LAYER, calls), learnt(others).scopes).denied


@pytest.mark.parametrize(
    ("calls", "count"),
    [
        ([send(to="a", n=10)] * 3, 0),
        ([send(to="b", n=10)], 1),
        ([send(to="a", n=10), send(to="b", n=10), send(to="c", n=10)], 2),
        ([send(to="b", n=10)] * 4, 4),
        ([send(n=10)], 1),
        ([send(to="a", n=10, bcc="x")] * 2, 2),
        ([send(to="a", n=None)], 1),
        ([("write", "mcp/mail/wipe", {}), ("write", "mcp/mail/wipe", {})], 2),
        ([("read", "mcp/mail/search", {"q": "anything"})], 0),
        ([], 0),
    ],
)
def test_a_session_is_judged_by_what_the_others_suggest(calls: list[Call], count: int) -> None:
    """Values are judged by the kernel; a tool, an argument or a value that is new costs its calls."""
    others = [[send(to="a", n=10), ("read", "mcp/mail/search", {"q": "x"})], [send(to="a", n=12)]]
    assert denied(others, calls) == count


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (["except write:mcp/mail/*"], 3),
        (["except read:**"], 0),
        (["*:**", 'except write:mcp/mail/send where to == "b"'], 1),
        # Of values it is known how often they came, not with which others.
        (['except write:mcp/mail/send where to == "b" and n > 10'], 1),
        (['except write:mcp/mail/send where to starts_with ["a", "b"] and n >= 10'], 3),
        (["except write:mcp/mail/send where bcc present"], 0),
        (["except write:mcp/mail/send where bcc absent"], 3),
        (["read:**", "except read:**"], 3),
    ],
)
def test_exceptions_cost_the_calls_under_them(texts: list[str], count: int) -> None:
    """Alone they cost no other call."""
    calls = [send(to="a", n=10), send(to="b", n=10), send(to="a", n=12)]
    assert price_of(LAYER, observed(LAYER, calls), list(map(Scope.parse, texts))).denied == count


def test_the_price_agrees_with_the_kernel_where_calls_differ_in_one_place() -> None:
    """Replayed one by one, the same calls are denied."""
    others = [[send(to=to, path=f"docs/{n}.txt")] for n, to in enumerate(("a", "b", "a"))]
    scopes = learnt(others).scopes
    for call in (send(to="a", path="docs/x"), send(to="m", path="docs/x"), send(to="a", path="etc/x/y")):
        assert denied(others, [call]) == (not permits(scopes, call))


def test_a_long_text_is_free_where_any_is() -> None:
    """A report knows it by its digest only."""
    others = [[send(to="a", body=f"{n}" * 300)] for n in range(3)]

    assert denied(others, [send(to="a", body="x" * 300)]) == 0
    assert denied(others, [send(to="b", body="x" * 300)]) == 1


def test_of_many_sessions_some_are_judged() -> None:
    """Evenly chosen, at most so many."""
    empty = [Observed(observed(LAYER, []).usage)] * 100
    assert len(judged(empty)) <= MAX_JUDGED and judged(empty)[-1] >= 90
    assert judged(empty[:3]) == [0, 1, 2]


def test_what_one_session_brought_is_named_with_the_session() -> None:
    """A poisoned session among honest ones: its values, its argument and its tool."""
    honest = [
        observed(LAYER, [send(to="ana", files=[f"docs/{n}.txt"], body="x y " * 40)], f"s{n}")
        for n in range(4)
    ]
    bad = observed(
        LAYER,
        [
            send(to="mallory", files=["etc/keys/a.txt"], body="z " * 90, bcc="m"),
            ("write", "mcp/mail/wipe", {}),
        ],
        "bad",
    )
    rows = brought_once(LAYER, [*honest, bad])

    assert set(rows) == {
        BroughtOnce("bad", "write:mcp/mail/send", "to", '"mallory"'),
        BroughtOnce("bad", "write:mcp/mail/send", "files", '"etc/keys"'),
        BroughtOnce("bad", "write:mcp/mail/send", "bcc"),
        BroughtOnce("bad", "write:mcp/mail/wipe"),
    }
    assert brought_once(LAYER, honest) == ()
    assert brought_once(LAYER, honest[:1]) == ()


def test_what_is_new_needs_an_approval_and_what_was_seen_is_free() -> None:
    """The suggested scopes first, then the grant at the price of a person's answer; nothing beyond it."""
    suggestion = learnt([[send(to="a")], [send(to="a")]])
    scopes = suggestion.with_approval(APPROVAL)
    free = [scope for scope in scopes if scope.needs is None]

    assert permits(free, send(to="a")) and not permits(free, send(to="b"))
    assert permits(scopes, send(to="b")) and permits(scopes, ("write", "mcp/mail/wipe", {}))
    assert not permits(scopes, ("write", "files/x", {}))
    assert [str(scope) for scope in scopes if scope.needs] == [f"{GRANT} needs {APPROVAL}"]
    costly = learnt([[send(to="a")]], f"{GRANT} needs uses(3)").with_approval(APPROVAL)
    assert all(scope.needs and not scope.needs.approval for scope in costly)


def report(*sessions: list[Call]) -> UsageReport:
    """Return the report of sessions with these calls."""
    used = [
        (session([GRANT], id=bytes([number]) * 16), observed(LAYER, calls).usage)
        for number, calls in enumerate(sessions, start=1)
    ]
    return UsageReport.of(used, now_ms=OPENED_MS + 7_200_000)


def test_the_report_has_the_price_and_what_it_did_not_hold() -> None:
    """Both forms have it, lines and JSON; with approvals the same figures are questions."""
    body = "words " * 30
    made = report(*[[send(to="a", body=body + str(n))] for n in range(5)], [send(to="b", body=body)])
    lines = "\n".join(report_lines(made))
    asked = "\n".join(report_lines(made, Fit.KINDS, APPROVAL))
    (layer,) = made.to_dict()["layers"]  # type: ignore[misc]

    assert lines.startswith(
        "verdict\n  ceiling, kinds: denies 17 % of these sessions' calls, each judged by the others;"
    )
    assert lines.splitlines()[1].endswith(
        "1 not tightened; 1 left out; not to be enforced as it is: "
        "observe more sessions, or use --new approval"
    )
    assert asked.splitlines()[1].endswith(
        "asks about 17 % of these sessions' calls, each judged by the others; 1 not tightened; 1 left out"
    )
    assert layer["verdict"] == lines.splitlines()[1].removeprefix("  ceiling, kinds: ")  # type: ignore[index]
    assert "about 1 of 6 calls denied, in 1 of 6 sessions" in lines
    assert "about 1 of 6 calls asked about, in 1 of 6 sessions: 0.17 questions a session" in asked
    assert "write:mcp/mail/send body: free text" in lines
    assert "write:mcp/mail/send to = b" in lines
    assert f"{GRANT} needs {APPROVAL}" in asked
    assert [each["denied"] for each in layer["price"]["sessions"]] == [0, 0, 0, 0, 0, 1]  # type: ignore[index]
    assert layer["brought_once"][0]["value"] == '"b"'  # type: ignore[index]
    assert layer["suggestions"]["kinds"]["left_out"] == ["write:mcp/mail/send to = b"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("sessions", "fit", "words"),
    [
        (
            [[send(command=f"{chr(65 + n)} of {n}") for n in range(33)]] * 2,
            Fit.LOOSE,
            "denies 0 % of these sessions' calls, each judged by the others; "
            "runs any program: write:mcp/mail/send command; not to be enforced as it is",
        ),
        (
            [[send(to="a")]],
            Fit.KINDS,
            "of one session alone: what it denies is not known; not to be enforced as it is",
        ),
        ([[send(to="a")]] * 6, Fit.KINDS, "denies 0 % of these sessions' calls, each judged by the others"),
    ],
)
def test_the_verdict_is_one_line(sessions: list[list[Call]], fit: Fit, words: str) -> None:
    """It says what a suggestion denies and runs, and whether it may be enforced."""
    [layer] = report(*sessions).layers
    found = verdict(layer.suggestion(fit), layer.prices(fit))

    assert found.startswith(words)
    assert ("not to be enforced" in found) == ("not to be enforced" in words)


def test_one_session_has_no_price() -> None:
    """There is nothing to learn from."""
    assert "price" not in "\n".join(report_lines(report([send(to="a")])))


def test_suggested_scopes_are_of_one_ceiling() -> None:
    """Several lists are named, and one can be chosen; nothing is suggested where nothing was used."""
    one = report([send(to="a")])
    other = replace(one.layers[0], layer=layer_of("write:mcp/**"))

    assert suggested(one, Fit.KINDS)[0] == 'write:mcp/mail/send where to == "a"'
    assert suggested(one, Fit.KINDS, one.layers[0].layer.id[:12])
    assert suggested(one, Fit.KINDS, "", APPROVAL)[-1].endswith(str(APPROVAL))
    with pytest.raises(UsageError, match="several lists"):
        suggested(replace(one, layers=(one.layers[0], other)), Fit.KINDS)
    with pytest.raises(UsageError, match="nothing is suggested"):
        suggested(report([]), Fit.KINDS)
    with pytest.raises(UsageError, match=r"usage\.enabled"):
        suggested(None, Fit.KINDS)


def test_a_session_that_did_not_use_the_layer_does_not_count() -> None:
    """Sessions without calls are no evidence: five that called are needed before one is left out."""
    sessions = [observed(LAYER, [send(to=to)]) for to in "aab"] + [observed(LAYER, [])] * 5
    assert permits(learnt_from(LAYER, sessions).scopes, send(to="b"))
