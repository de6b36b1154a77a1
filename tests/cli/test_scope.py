"""``sessauth scope``: scopes in files, without a server."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.cli.commands.local.scope import compare_scopes, try_scopes
from sessauth.scopes import containment
from sessauth.scopes.scope import Scope
from tests.property.test_containment import FACT_RECORDS, REQUESTS, permits
from tests.support.cases import examples
from tests.support.scope_strategies import scopes, variations
from tests.support.tree import ROOT

from .conftest import COMMAND, Run


@pytest.mark.parametrize(
    ("before", "after", "more", "less", "code"),
    [
        (["read:docs/**"], ["read:docs/**"], "no", "no", 0),
        (["read:docs/**"], ["read:docs/a/*"], "no", "undecided", 0),
        (["read:docs/**", "write:docs/a"], ["read:docs/**"], "no", "yes", 0),
        (["read:docs/**"], ["read:docs/**", "write:docs/a"], "yes", "no", 1),
        (["read:docs/a"], ["read:docs/*"], "undecided", "no", 1),
        (["pay:bank where n <= 10"], ["pay:bank where n <= 5"], "no", "undecided", 0),
        (["pay:bank where n <= 5"], ["pay:bank where n >= 6"], "yes", "yes", 1),
        # A scope that no call meets gives nothing.
        (["read:docs/a"], ["read:docs/a", 'write:x where n == "a" and n == "b"'], "no", "no", 0),
        # No proof that this one is such a scope: it fails, as anything does that is not proven.
        (["read:docs/a"], ["read:docs/a", 'write:x where p glob "a*" and p under "b"'], "yes", "no", 1),
    ],
)
def test_more_and_less_are_proven_or_undecided(
    run: Run, tmp_path: Path, before: list[str], after: list[str], more: str, less: str, code: int
) -> None:
    """The exit code is 0 only if the second file is proven to permit nothing more."""
    (tmp_path / "before").write_text("\n".join(before))
    (tmp_path / "after").write_text("# reviewed\n\n" + "\n".join(after))
    ran = run("scope", "compare", "before", "after", "--json")

    assert (ran.code, ran.json["more"], ran.json["less"]) == (code, more, less), ran.err
    assert [Scope.parse(each["scope"]) for each in ran.json["after"]] == list(map(Scope.parse, after))


def test_a_person_reads_each_scope_with_its_reason(tmp_path: Path) -> None:
    """The command as a user types it, in a process of its own, with one file on stdin."""
    (tmp_path / "before").write_text("read:docs/a\nread:logs/**\n")
    ran = subprocess.run(
        [*COMMAND, "scope", "compare", "before", "-"],
        cwd=tmp_path,
        input="read:docs/*\nwrite:docs/a\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 1, ran.stderr
    assert ran.stdout.splitlines() == [
        "permits more: yes",
        "  ? read:docs/* (undecided: resource segment 2)",
        "  + write:docs/a (outside: action write)",
        "permits less: yes",
        "  - read:logs/** (outside: resource segment 1)",
    ]


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (("-", "-"), "read:a", "BEFORE, AFTER: only one can be read from stdin"),
        (("good", "-"), "read:a\nread", "AFTER: -, line 2: "),
        (("good", "-"), "# none\n", "AFTER: - holds no scope"),
        (("none", "good"), "", "BEFORE: "),
    ],
)
def test_bad_input_is_refused(run: Run, tmp_path: Path, words: tuple[str, str], text: str, says: str) -> None:
    """The exit code is 2, and the message names the file and the line."""
    (tmp_path / "good").write_text("read:a\n")
    ran = run("scope", "compare", *words, stdin=text)

    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


@st.composite
def _files(draw: st.DrawFn) -> tuple[list[Scope], list[Scope]]:
    before = draw(st.lists(scopes(), min_size=1, max_size=3))
    near = st.sampled_from(before).flatmap(variations)
    return before, draw(st.lists(st.one_of(near, scopes()), min_size=1, max_size=3))


@settings(max_examples=examples(150), deadline=None)
@given(_files(), st.integers(0, len(REQUESTS) - 60))
def test_verdicts_agree_with_containment_and_the_kernel(
    files: tuple[list[Scope], list[Scope]], first: int
) -> None:
    """Calls of a scope inside are permitted before; of a scope outside, none is."""
    before, after = files
    compared = compare_scopes(list(map(str, before)), list(map(str, after)))
    proven, _ = containment.contains(
        [each.to_record() for each in before], [each.to_record() for each in after], same_facts=True
    )
    if proven == 1:
        assert {each.verdict for each in compared} == {"inside"}

    encoded = [each.encode() for each in before]
    for scope, found in zip(after, compared, strict=True):
        for request in REQUESTS[first : first + 60]:
            if found.verdict != "undecided" and permits(scope.encode(), request, FACT_RECORDS):
                permitted = any(permits(each, request, FACT_RECORDS) for each in encoded)
                assert permitted == (found.verdict == "inside")


PAY = [
    "read:bank/**",
    'pay:bank where to == "ana" and amount <= 100',
    "pay:bank where amount <= 5 and session.level >= 2",
]


@pytest.mark.parametrize(
    ("words", "nearest", "cause"),
    [
        (("read", "bank/a"), 0, ""),
        (("pay", "bank", "--arguments", '{"to": "ana", "amount": 100}'), 1, ""),
        (
            ("pay", "bank", "--arguments", '{"to": "ana", "amount": 101}'),
            1,
            "condition 1 fails: amount <= 100",
        ),
        (
            ("pay", "bank", "--arguments", '{"to": "ana", "amount": 1, "note": "x"}'),
            1,
            "it does not mention argument note",
        ),
        (
            ("pay", "bank", "--arguments", '{"amount": 5}', "--fact", "level:=1"),
            2,
            "condition 1 fails: session.level >= 2",
        ),
        (("pay", "bank", "--arguments", '{"amount": 5}', "--fact", "level:=2"), 2, ""),
        (("drop", "bank"), 0, "the action or the resource is outside"),
    ],
)
def test_a_call_is_tried(run: Run, tmp_path: Path, words: tuple[str, ...], nearest: int, cause: str) -> None:
    """The scope that matches is named, or the nearest with its cause; the exit code says which."""
    (tmp_path / "pay.scopes").write_text("\n".join(PAY))
    ran = run("scope", "try", "pay.scopes", *words, "--json")

    assert (ran.code, ran.json["matched"]) == ((1, False) if cause else (0, True)), ran.err
    assert ran.json["nearest"] == nearest
    assert ran.json["scopes"][nearest]["cause"] == cause


def test_a_person_reads_why_a_call_is_not_matched() -> None:
    """The command as a user types it, in a process of its own."""
    words = [*COMMAND, "scope", "try", "-", "pay", "bank", "--arguments"]
    denied, allowed = (
        subprocess.run(
            [*words, arguments], input="\n".join(PAY), capture_output=True, text=True, timeout=60, check=False
        )
        for arguments in ('{"to": "ana", "amount": "7"}', '{"to": "ana", "amount": 7}')
    )

    assert (denied.returncode, allowed.returncode) == (1, 0), denied.stderr + allowed.stderr
    assert denied.stdout.splitlines() == [
        "NOT MATCHED",
        f"  nearest: scope 1 `{PAY[1]}`",
        "  condition 1 fails: amount <= 100",
    ]
    assert allowed.stdout == f"MATCHED by scope 1 `{PAY[1]}`\n"


def test_needs_are_said_to_be_asked_besides(run: Run) -> None:
    """A match is no allow where a scope needs more."""
    ran = run("scope", "try", "-", "pay", "bank", stdin="pay:bank needs uses(3)")

    assert (ran.code, "a check asks for what it needs besides" in ran.out) == (0, True), ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pay", "bank", "--arguments", "[1]"), "--arguments"),
        (("pay", "bank//x"), "RESOURCE"),
        (("pay me", "bank"), "ACTION"),
        (("pay", "bank", "--arguments", "@-"), "only one can be read from stdin"),
        (("pay", "bank", "--fact", "a b=1"), "--fact"),
        (("pay", "bank", "--fact", "level"), "--fact"),
    ],
)
def test_a_call_that_no_check_reads_is_refused(run: Run, words: tuple[str, ...], says: str) -> None:
    """The exit code is 2, and the message names the words to mend."""
    ran = run("scope", "try", "-", *words, stdin="pay:bank")

    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(scopes(), min_size=1, max_size=4), st.sampled_from(REQUESTS))
def test_a_try_is_the_answer_of_the_kernel(tried: list[Scope], request: tuple[bytes, bytes, bytes]) -> None:
    """The nearest scope matches if any does, and it is the first of them."""
    action, resource, arguments = request
    facts = {"level": 1, "who": "a", "yes": True}
    found, nearest = try_scopes(list(map(str, tried)), action.decode(), resource.decode(), arguments, facts)
    expected = [permits(each.encode(), request, FACT_RECORDS) for each in tried]

    assert [each.matched for each in found] == expected
    assert not any(expected) or nearest == expected.index(True)
    assert all(bool(each.cause) != each.matched for each in found)


PAGE = (ROOT / "docs" / "how-to" / "writing-scopes.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \|(?: `(.+?)`)? \|$", PAGE, re.MULTILINE)


def test_each_row_of_the_page_is_tried() -> None:
    """The table's rows are all in the form that the next test types."""
    assert len(ROWS) == sum(line.startswith("| `") for line in PAGE.splitlines()) > 10


@pytest.mark.parametrize(("looks_right", "call", "holds", "rule"), ROWS)
def test_a_scope_that_looks_right_is_not(
    run: Run, looks_right: str, call: str, holds: str, rule: str
) -> None:
    """The scope of the first column matches the call and has a finding, that of the third does neither."""
    admitted = run("scope", "try", "-", *shlex.split(call), stdin=looks_right)
    refused = run("scope", "try", "-", *shlex.split(call), stdin=holds)

    assert (admitted.code, refused.code) == (0, 1), admitted.err + refused.err
    found = [each["rule"] for each in run("scope", "lint", "-", "--json", stdin=looks_right).json["findings"]]
    assert found == ([rule] if rule else [])
    assert run("scope", "lint", "-", stdin=holds).code == 0
