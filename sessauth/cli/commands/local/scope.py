"""``sessauth scope``: scopes of files, checked, explained, tried and compared without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

from ...._fast import _codec as codec
from ....errors import UsageError
from ....model.session import Fact, fact_records
from ....scopes import containment
from ....scopes.explain import explain
from ....scopes.lint import RULES, lint
from ....scopes.scope import Scope
from ....scopes.value import value_of
from ...context import Settings, with_settings
from ...io import json_bytes, read_scope_lines, read_scopes, require_one_stdin
from ...output import printable
from ...params import FILE, examples
from ...params import fact as fact_option

# What the kernel gives in the place of a failing condition (``codec.matches``).
_OUTSIDE: Final = -2
_UNREADABLE: Final = -3
_VERDICTS: Final = {1: "inside", 0: "undecided", -1: "outside"}
# What a side gives beyond the other, by the verdicts of its scopes: the first that is there counts.
_ANSWERS: Final = (("outside", "yes"), ("undecided", "undecided"), ("inside", "no"))


class Compared(NamedTuple):
    """A scope, its verdict against the other side, and the part that decided it (empty for ``inside``)."""

    scope: str
    verdict: str
    part: str


class Tried(NamedTuple):
    """A scope, whether it matches the call, and the cause if it does not."""

    scope: str
    matched: bool
    cause: str


@click.group()
def scope() -> None:
    """Check, explain, try and compare scopes in files, without a server."""


@scope.command(
    "lint",
    epilog=examples(
        "scope lint mail.scopes pay.scopes", "scope lint pay.scopes --ignore no-lower-bound --json"
    ),
)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option(
    "--fact", "facts", type=fact_option, multiple=True, help="A fact's value: name=text, name:=JSON."
)
@click.option(
    "--ignore",
    type=click.Choice(RULES),
    metavar="RULE",
    multiple=True,
    help="A rule to leave out. Repeatable.",
)
@with_settings
def lint_files(
    settings: Settings, /, files: Sequence[str], facts: Sequence[tuple[str, Any]], ignore: Sequence[str]
) -> None:
    """Find scopes in FILEs that look right and are not; each file is one ceiling.

    Exits with 1 if there are findings.
    """
    require_one_stdin(tuple(files), "FILE: only one can be read from stdin")
    known = {name: value_of(value) for name, value in facts}
    documents, lines = [], []
    for file in files:
        numbered = read_scope_lines(file, "FILE")
        for each in lint([Scope.parse(text) for _, text in numbered], known):
            if each.rule in ignore:
                continue
            line, text = numbered[each.scope]
            documents.append({"file": file, "line": line, **each._asdict(), "scope": text})
            lines += [
                f"{printable(file)}:{line}: {printable(each.part)}",
                f"  {printable(each.problem)} [{each.rule}]",
                f"  instead: {printable(each.instead)}",
            ]
    settings.show({"findings": documents}, lines or ["no findings"], ok=not documents)


@scope.command("explain", epilog=examples("scope explain mail.scopes"))
@click.argument("file", type=FILE)
@with_settings
def explain_file(settings: Settings, /, file: str) -> None:
    """Say in plain words what the scopes in FILE permit."""
    scopes = read_scopes(file, "FILE")
    meanings = [explain(Scope.parse(text)) for text in scopes]
    lines = []
    for text, meaning in zip(scopes, meanings, strict=True):
        lines += [printable(text), *(f"  {printable(line)}" for line in meaning)]
    documents = [{"scope": text, "meaning": meaning} for text, meaning in zip(scopes, meanings, strict=True)]
    settings.show({"scopes": documents}, lines)


@scope.command(
    "try",
    epilog=examples(
        """scope try mail.scopes send mcp/mail/send --arguments '{"to": "ana"}'""",
        "scope try deploy.scopes deploy cluster/web --fact level:=3",
    ),
)
@click.argument("file", type=FILE)
@click.argument("action")
@click.argument("resource")
@click.option("--arguments", default="", metavar="JSON|@FILE", help="The call's arguments, a JSON object.")
@click.option("--fact", "facts", type=fact_option, multiple=True, help="name=text, or name:=JSON.")
@with_settings
def try_call(
    settings: Settings,
    /,
    file: str,
    action: str,
    resource: str,
    arguments: str,
    facts: Sequence[tuple[str, Any]],
) -> None:
    """Show whether a scope in FILE matches the call ACTION on RESOURCE, or which comes nearest and why not.

    Exits with 1 if none matches, or an exception does. What a scope needs, such as an approval, is not tried.
    """
    require_one_stdin((file, arguments), "FILE, --arguments: only one can be read from stdin")
    scopes = read_scopes(file, "FILE")
    tried, nearest = try_scopes(scopes, action, resource, json_bytes(arguments, "--arguments"), dict(facts))
    best = tried[nearest]
    exception = Scope.parse(best.scope).exception
    matched = best.matched is not exception
    if matched and exception:
        lines = ["MATCHED: no exception is for this call"]
    elif matched:
        lines = [f"MATCHED by scope {nearest} `{printable(best.scope)}`"]
    elif exception:
        lines = ["NOT MATCHED", f"  scope {nearest} denies it: `{printable(best.scope)}`"]
    else:
        lines = ["NOT MATCHED", f"  nearest: scope {nearest} `{printable(best.scope)}`", f"  {best.cause}"]
    if matched and Scope.parse(best.scope).has_needs:
        lines.append("  a check asks for what it needs besides")
    settings.show(
        {"matched": matched, "nearest": nearest, "scopes": [each._asdict() for each in tried]},
        lines,
        ok=matched,
    )


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


def try_scopes(
    scopes: Sequence[str], action: str, resource: str, arguments: bytes, facts: dict[str, Any]
) -> tuple[list[Tried], int]:
    """Return the kernel's answer for each scope, and the index of the first that matches or comes nearest.

    A scope is nearer the more of its parts hold, in the order of a check: action and resource, then each
    condition, then the arguments that it does not mention. An exception that matches a call which a scope
    permits is nearer than all. Raises UsageError for a call that no check reads, and for malformed facts.
    """
    from ....state.rules.validation import RuleViolation, validate_facts

    try:
        records = fact_records(Fact(name, value, visible=True) for name, value in facts.items())
        validate_facts("--fact", records)
    except UnicodeEncodeError:
        raise UsageError("--fact: give text in UTF-8") from None
    except (RuleViolation, ValueError) as error:
        raise UsageError(f"--fact: {str(error).removeprefix('--fact: ')}") from None
    call = (action.encode("utf-8", "surrogateescape"), resource.encode("utf-8", "surrogateescape"), arguments)
    answers = [codec.matches(Scope.parse(text).encode(), *call, facts=records) for text in scopes]
    if any(place == _UNREADABLE for _, place, _ in answers):
        raise UsageError(
            "ACTION, RESOURCE, --arguments: a check denies this call whatever the scopes: one of them is "
            "malformed, or the call takes too much work"
        )
    tried, ranks = [], []
    parsed = [Scope.parse(text) for text in scopes]
    permits = [answer for scope, (answer, _, _) in zip(parsed, answers, strict=True) if not scope.exception]
    for text, scope, (matched, place, argument) in zip(scopes, parsed, answers, strict=True):
        conditions = scope.conditions
        if scope.exception:
            # The kernel says whether a call is outside of it.
            tried.append(Tried(text, not matched, "the call is outside of this exception" if matched else ""))
            ranks.append((not matched and (any(permits) or not permits), 2 if not matched else -1))
            continue
        if matched:
            cause, rank = "", 0
        elif place == _OUTSIDE:
            cause, rank = "the action or the resource is outside", 0
        elif place >= 0:
            cause, rank = f"condition {place} fails: {printable(str(conditions[place]))}", place + 1
        else:
            cause, rank = f"it does not mention argument {printable(argument)}", len(conditions) + 1
        tried.append(Tried(text, matched, cause))
        ranks.append((matched, rank))
    return tried, ranks.index(max(ranks))


def compare_scopes(other: Sequence[str], scopes: Sequence[str]) -> list[Compared]:
    """Return for each of ``scopes`` whether it lies inside one of ``other``, as ceilings of one session.

    ``inside`` and ``outside`` (no call matches it and a scope of ``other``) are proven. That a scope outside
    matches any call at all is not.
    """
    parents = [Scope.parse(text).to_record() for text in other]
    children = [Scope.parse(text) for text in scopes]
    exceptions = [child.to_record() for child in children if child.exception]
    compared = []
    for text, child in zip(scopes, children, strict=True):
        record = child.to_record()
        verdict, part = 1, ""
        if child.exception:
            if len(exceptions) == len(children):
                verdict, part = containment.compare(parents, exceptions, same_facts=True)[0]
        # A scope that no call meets permits nothing, so it gives nothing more than any other.
        elif containment.overlaps(record, record) and not containment.unmet_need(child):
            verdict, part = containment.compare(parents, [record, *exceptions], same_facts=True)[0]
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
