"""``scope compare``: what the scopes of one file permit beyond those of another, without a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.cli.commands.local.scope import compare_scopes
from sessauth.scopes import containment
from sessauth.scopes.scope import Scope
from tests.property.test_containment import FACT_RECORDS, REQUESTS, permits
from tests.support.cases import examples
from tests.support.scope_strategies import scopes, variations

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
