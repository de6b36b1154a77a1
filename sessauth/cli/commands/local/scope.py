"""``sessauth scope``: scopes of files, compared without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from ....scopes import containment
from ....scopes.scope import Scope
from ...context import Settings, with_settings
from ...io import read_scopes, require_one_stdin
from ...output import printable
from ...params import FILE, examples

_VERDICTS: Final = {1: "inside", 0: "undecided", -1: "outside"}
# What a side gives beyond the other, by the verdicts of its scopes: the first that is there counts.
_ANSWERS: Final = (("outside", "yes"), ("undecided", "undecided"), ("inside", "no"))


class Compared(NamedTuple):
    """A scope, its verdict against the other side, and the part that decided it (empty for ``inside``)."""

    scope: str
    verdict: str
    part: str


@click.group()
def scope() -> None:
    """Compare scopes in files, without a server."""


@scope.command(epilog=examples("scope compare before.scopes after.scopes", "scope compare a.scopes - --json"))
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@with_settings
def compare(settings: Settings, /, before: str, after: str) -> None:
    """Show what the scopes in AFTER permit beyond those in BEFORE, and the other way round.

    Exits with 1 unless it is proven that AFTER permits nothing more.
    """
    require_one_stdin((before, after), "BEFORE, AFTER: only one can be read from stdin")
    old, new = read_scopes(before, "BEFORE"), read_scopes(after, "AFTER")
    added, removed = compare_scopes(old, new), compare_scopes(new, old)
    more, less = _answer(added), _answer(removed)
    settings.show(
        {
            "more": more,
            "less": less,
            "after": [each._asdict() for each in added],
            "before": [each._asdict() for each in removed],
        },
        [
            f"permits more: {more}",
            *_lines(added, "+"),
            f"permits less: {less}",
            *_lines(removed, "-"),
        ],
        ok=more == "no",
    )


def compare_scopes(other: Sequence[str], scopes: Sequence[str]) -> list[Compared]:
    """Return for each of ``scopes`` whether it lies inside one of ``other``, as ceilings of one session.

    ``inside`` and ``outside`` (no call matches it and a scope of ``other``) are proven.
    """
    parents = [Scope.parse(text).to_record() for text in other]
    compared = []
    for text in scopes:
        child = Scope.parse(text)
        record = child.to_record()
        verdict, part = 1, ""
        # A scope that no call meets permits nothing, so it gives nothing more than any other.
        if containment.overlaps(record, record) and not containment.unmet_need(child):
            ((verdict, part),) = containment.compare(parents, [record], same_facts=True)
        compared.append(Compared(text, _VERDICTS[verdict], part))
    return compared


def _answer(compared: Sequence[Compared]) -> str:
    verdicts = {each.verdict for each in compared}
    return next(answer for verdict, answer in _ANSWERS if verdict in verdicts)


def _lines(compared: Sequence[Compared], sign: str) -> list[str]:
    marks = {"outside": sign, "undecided": "?"}
    return [
        f"  {marks[each.verdict]} {printable(each.scope)} ({each.verdict}: {printable(each.part)})"
        for each in compared
        if each.verdict in marks
    ]
