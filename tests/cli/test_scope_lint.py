"""``scope lint`` and ``scope explain``, and the warnings where scopes are granted.

The rows of ``docs/how-to/writing-scopes.md`` are in ``test_scope.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.scopes.explain import explain
from sessauth.scopes.lint import RULES, lint
from sessauth.scopes.scope import Scope
from sessauth.scopes.value import Number
from tests.property.test_containment import FACT_RECORDS, REQUESTS, permits
from tests.support.cases import examples
from tests.support.scope_strategies import scopes, variations

from .conftest import Run, Service

KEY = "A" * 43


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["read:docs/**"], []),
        (["read:docs/**", "read:docs/a"], [(1, "no-effect")]),
        (["read:docs/a", "read:docs/**"], [(0, "no-effect")]),
        (["read:docs/a", "read:docs/a"], [(1, "no-effect")]),
        (["read:docs/a", "write:docs/a"], []),
        ([f'pay:bank needs approval(1, "{KEY}")', "pay:bank"], [(0, "no-effect")]),
        (["pay:bank needs uses(3)", "pay:bank where a == 1"], []),
        (['pay:bank where a == "x" and a == "y"'], [(0, "no-call")]),
        (["pay:bank where a >= 5 and a <= 4"], [(0, "no-call")]),
        (['pay:bank where to == "ana" needs budget("eur", 5, amount)'], [(0, "no-call")]),
        (['pay:bank where amount <= 4 needs budget("eur", 5, amount)'], []),
        (["repo:read"], [(0, "action-colon")]),
        (["read:repo"], []),
        (["read:read"], []),
        (["s3:PutObject/**"], [(0, "action-colon")]),
        (['read:repo where branch != "main" and branch starts_with "agent/"'], []),
        (['read:repo where title != ""'], []),
        (["read:repo where size != 4"], []),
        (['read:repo where files[].sourcePath starts_with "src/"'], [(0, "path-text")]),
        (['read:repo where root starts_with "/srv"'], [(0, "path-text")]),
        (['read:repo where branch glob "agent/*"'], []),
        (['read:repo where path under "src" and path glob "src/*.py"'], []),
        (['get:web where url starts_with "https://api.acme.com/"'], []),
        (['get:web where target starts_with "https://api.acme.com"'], [(0, "url-text")]),
        (['get:web where url starts_with "https://"'], []),
        (['get:web where url glob "https://*.acme.com/**"'], [(0, "url-text")]),
        (['get:web where url glob "https://api.acme.com/**"'], []),
        (['get:web where url glob "https://api.acme.com/v1/*"'], [(0, "path-text")]),
        (['get:web where scheme(url) == "https" and host(url) == "acme.com"'], []),
        (['get:web where host(url) != "acme.com"'], [(0, "exclusion")]),
        (['get:web where url starts_with "https://api.acme.com/v1/" and path(url) under "/v1"'], []),
        (['get:web where path(url) under "/v1"'], [(0, "any-host")]),
        (['get:web where url starts_with "https://" and path(url) under "/v1"'], [(0, "any-host")]),
        (['get:web where scheme(url) == "https" and host(url) == "a" and path(url) not glob "/x/*"'], []),
        (['read:repo where path not glob "keys/**"'], [(0, "path-text")]),
        (['read:repo where path not glob "*.key" and path not under "keys"'], []),
        (['read:repo where path not under "keys"'], []),
        (['push:git where branch not glob "release/*"'], [(0, "exclusion")]),
        (['push:git where branch starts_with "agent/" and branch not glob "*/x"'], []),
        (['send:mail where domain(to) != "evil.com"'], [(0, "exclusion")]),
        (['send:mail where domain(to) == "acme.com" and length(subject) <= 80'], []),
        (['connect:tcp where address not cidr "10.0.0.0/8"'], []),
        (['query:db where query starts_with "SELECT "'], [(0, "program-text")]),
        (['find:web where query starts_with "weather in "'], []),
        (["read:x where count(ids) <= 5"], []),
        (["read:x where session.risk < 5"], []),
        (["read:x where each(session.level) == 2"], [(0, "fact-type")]),
        (["read:x where any(session.level) == 2"], [(0, "fact-type")]),
        (['push:git where branch not starts_with "release/"'], [(0, "exclusion")]),
        (["read:x where session.level == 3"], []),
        (['read:x where session.level == "3"'], [(0, "fact-type")]),
        (["read:x where session.who > 3"], [(0, "fact-type")]),
        (["read:x where session.unknown > 3"], []),
        (["read:x where session.level >= 3 free *"], []),
        (["read:x where a present free *"], []),
        (["read:**", "except read:keys/**"], []),
        (["except read:keys/**"], []),
        (["read:**", "except write:keys/**"], [(1, "no-effect")]),
        (["read:keys/*", "except *:keys/**"], [(0, "no-call")]),
        (["read:**", 'except read:web where url starts_with "https://x"'], []),
    ],
)
def test_findings_of_scopes_that_are_granted_together(texts: list[str], found: list[tuple[int, str]]) -> None:
    """Each rule speaks where it applies, and is silent where another part of the scope holds."""
    facts = {"level": Number(3), "who": "ana"}
    findings = lint(list(map(Scope.parse, texts)), facts)

    assert [(each.scope, each.rule) for each in findings] == found
    assert all(each.rule in RULES and each.problem and each.instead for each in findings)


def test_a_wider_scope_takes_the_approval_away() -> None:
    """The finding says that the approval is not asked for."""
    (found,) = lint([Scope.parse(f'pay:bank needs approval(1, "{KEY}")'), Scope.parse("pay:**")])

    assert found.problem == "scope 1 `pay:**` permits these calls without what this one needs"


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(scopes(), min_size=1, max_size=3).flatmap(
        lambda some: st.tuples(
            st.just(some), st.lists(st.sampled_from(some).flatmap(variations), max_size=2)
        ).map(lambda both: [*both[0], *both[1]])
    ),
    st.integers(0, len(REQUESTS) - 60),
)
def test_what_has_no_effect_changes_no_answer(granted: list[Scope], first: int) -> None:
    """Without the scopes of these findings, the kernel answers each call as with them."""
    idle = {each.scope for each in lint(granted) if each.rule in ("no-call", "no-effect")}
    left = [scope.encode() for index, scope in enumerate(granted) if index not in idle]
    assert left or all(each.rule != "no-effect" for each in lint(granted))

    for request in REQUESTS[first : first + 60]:
        with_them = any(permits(scope.encode(), request, FACT_RECORDS) for scope in granted)
        assert with_them == any(permits(each, request, FACT_RECORDS) for each in left)


def test_a_person_reads_findings_of_several_files(run: Run, tmp_path: Path) -> None:
    """Each has its file and line; a rule can be left out; the exit code says whether any is left."""
    (tmp_path / "good").write_text("read:docs/**\n")
    (tmp_path / "pay").write_text("# bank\n\npay:bank where amount <= 100\nsend:mail where now > 1\n")
    found = run("scope", "lint", "good", "pay")
    ignoring = run("scope", "lint", "good", "pay", "--ignore", "no-lower-bound", "--ignore", "not-a-word")

    assert (found.code, ignoring.code, ignoring.out) == (1, 0, "no findings\n"), found.err
    assert found.out.splitlines() == [
        "pay:3: amount <= 100",
        "  numbers below 0 match [no-lower-bound]",
        "  instead: amount >= 0 and amount <= 100",
        "pay:4: now > 1",
        "  `now` is an argument of the call, which the agent chooses [not-a-word]",
        "  instead: a scope has no clock: give the session or the token an end",
    ]


def test_facts_are_stated(run: Run) -> None:
    """A fact that is text in the session is no number in a scope."""
    scope = "read:x where session.level >= 3"

    assert run("scope", "lint", "-", "--fact", "level:=3", stdin=scope).code == 0
    assert "[fact-type]" in run("scope", "lint", "-", "--fact", "level=3", stdin=scope).out


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (("lint", "-", "-"), "read:a", "only one can be read from stdin"),
        (("lint", "-"), "read:a\nread", "FILE: -, line 2: "),
        (("lint", "-", "--ignore", "all"), "read:a", "--ignore"),
        (("explain", "-"), "# none\n", "FILE: - holds no scope"),
    ],
)
def test_bad_input_is_refused(run: Run, words: tuple[str, ...], text: str, says: str) -> None:
    """The exit code is 2, and the message names the words to mend."""
    ran = run("scope", *words, stdin=text)

    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("read:**", ["may read anything", "with any arguments"]),
        ("*:docs/**", ["may do anything with docs and anything below it", "with any arguments"]),
        ("read,list:docs/*", ["may read or list docs/(any name)", "with any arguments"]),
        ("read:{a,b}/log*", ["may read (a or b)/(any name that begins with log)", "with any arguments"]),
        ("read:docs where no arguments", ["may read docs", "without any arguments"]),
        ("read:docs free a, b", ["may read docs", "with any value of a and b, and no argument besides"]),
        (
            'pay:bank where to? in ["ana", "bo"] and count(to) <= 2 and each(cc) != "eve" free note',
            [
                "may pay bank",
                "if all of these hold:",
                '  to is "ana" or "bo", or there is none',
                "  the number of elements in to is at most 2",
                '  each element of cc is a value of the same type other than "eve"',
                "with any value of note, and no other argument besides",
            ],
        ),
        (
            "pay:bank where session.level >= 2 and tool.read_only == true",
            [
                "may pay bank",
                "if all of these hold:",
                "  the session's level is at least 2",
                "  the tool's read_only is true",
                "with no argument",
            ],
        ),
        (
            f'pay:bank where to == session.payee free * needs approval(1, "{KEY}"), uses(3), '
            'budget("month", 500, "EUR", amount)',
            [
                "may pay bank",
                "if all of these hold:",
                "  to is the session's payee",
                "with any other arguments",
                "after 1 of 1 approvers approved it",
                "at most 3 times",
                "while the sum of amount is at most 500 EUR (budget month)",
            ],
        ),
    ],
)
def test_a_scope_in_plain_words(run: Run, text: str, meaning: list[str]) -> None:
    """The same lines for a person, below the scope, and for a program."""
    shown, data = run("scope", "explain", "-", stdin=text), run("scope", "explain", "-", "--json", stdin=text)

    assert shown.out.splitlines() == [str(Scope.parse(text)), *(f"  {line}" for line in meaning)], shown.err
    assert data.json["scopes"] == [{"scope": str(Scope.parse(text)), "meaning": meaning}]


@settings(max_examples=examples(150), deadline=None)
@given(scopes())
def test_each_condition_has_its_line(scope: Scope) -> None:
    """No part of a scope is left unsaid."""
    said = explain(scope)
    conditions = [line for line in said if line.startswith("  ")]

    assert len(conditions) == (0 if scope.has_no_arguments else len(scope.conditions))
    is_closed = bool(scope.conditions or scope.free_paths) and not scope.everything_free
    assert is_closed == (not any(line.startswith("with any") and line.endswith("arguments") for line in said))


def test_a_kind_of_a_later_version_is_not_guessed() -> None:
    """A scope that no check reads is not explained in part."""
    record = {**Scope.parse("read:a").to_record(), "resource": [{"kind": 9, "texts": ["a"]}]}

    assert explain(Scope.from_record(record)) == [
        "something that a later version defines, so every call is denied"
    ]


def test_scopes_that_are_granted_are_warned_of(service: Service, tmp_path: Path) -> None:
    """Opening, narrowing, minting and attenuating warn on stderr, and with ``--strict`` do nothing."""
    words = ("session", "open", "--subject", "ci", "--fact", "level=3")
    ceiling = (
        "--ceiling",
        "pay:bank where amount <= 100",
        "--ceiling",
        "read:docs/** where session.level == 3",
    )
    refused = service(*words, *ceiling, "--strict")
    opened = service(*words, *ceiling, "--ceiling", "read:logs/**", "--quiet")
    session = opened.out.strip()

    assert refused.code == 2
    assert "strict: amount <= 100: numbers below 0 match [no-lower-bound]" in refused.err
    assert opened.err.count("warning: ") == 2
    assert "[fact-type]" in opened.err

    scope = ("--scope", 'read:logs/** where branch != "main"')
    mint = ("token", "mint", session, "--audience", "a", "--open", "--out")
    for made in (
        service(*mint, str(tmp_path / "minted"), *scope),
        service(*mint, str(tmp_path / "other"), "--scope", "read:logs/**", "--json"),
        service("token", "attenuate", str(tmp_path / "minted"), *scope, "--out", str(tmp_path / "narrower")),
        service("session", "narrow", session, "--ceiling", scope[1]),
    ):
        assert made.code == 0, made.err
        assert ("[exclusion]" in made.err) == ("other" not in made.out), made.err
    for strict in (
        service(*mint, str(tmp_path / "strict"), *scope, "--strict"),
        service("token", "attenuate", str(tmp_path / "minted"), *scope, "--strict"),
        service("session", "narrow", session, "--ceiling", scope[1], "--strict"),
    ):
        assert strict.code == 2
        assert "[exclusion]" in strict.err
    assert not (tmp_path / "strict").exists()
