"""Scopes in plain words, as a reviewer would say them who does not know the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .parts import Accessor, Needs, Operator, Path, Segment, SegmentKind, ValueSource
from .scope import Condition, Scope
from .value import operand_to_text

_RELATIONS: Final = {
    Operator.EQUAL: "is",
    Operator.NOT_EQUAL: "is a value of the same type other than",
    Operator.IN: "is",
    Operator.NOT_IN: "is a value of the same type other than",
    Operator.LESS: "is less than",
    Operator.LESS_EQUAL: "is at most",
    Operator.GREATER: "is more than",
    Operator.GREATER_EQUAL: "is at least",
    Operator.STARTS_WITH: "is text that begins with",
    Operator.GLOB: "is text of the pattern",
    Operator.UNDER: "is a clean path, equal to or below",
    Operator.CIDR: "is an address in",
    Operator.SUBSET_OF: "is a list whose elements are each",
    Operator.PRESENT: "is given, and not null",
    Operator.ABSENT: "is not given, or null",
    Operator.NOT_STARTS_WITH: "is text that does not begin with",
    Operator.NOT_GLOB: "is text, without `..`, and not of the pattern",
    Operator.NOT_UNDER: "is a clean path, neither equal to nor below",
    Operator.NOT_CIDR: "is an address outside",
}
_PARTS: Final = {
    Accessor.COUNT: "the number of elements in",
    Accessor.HOST: "the host of",
    Accessor.SCHEME: "the scheme of",
    Accessor.PORT: "the port of",
    Accessor.PATH: "the path of the URL",
    Accessor.DOMAIN: "the domain of the e-mail address",
    Accessor.LENGTH: "the number of characters in",
}
_LATER: Final = "something that a later version defines, so every call is denied"


def explain(scope: Scope) -> list[str]:
    """Return the meaning of a scope: what it permits, a line for each condition, and what it costs."""
    if scope.has_unknown_kind:
        return [_LATER]
    actions = "do anything with" if "*" in scope.actions else _any_of(scope.actions)
    if scope.exception:
        lines = [f"but may not {actions} {_resource(scope.resource)}"]
        if scope.conditions:
            lines.append("if all of these hold, or can't be told from the call's values:")
            lines += [f"  {_condition(each)}" for each in scope.conditions]
        return lines
    lines = [f"may {actions} {_resource(scope.resource)}"]
    if scope.has_no_arguments:
        lines.append("without any arguments")
    elif scope.conditions:
        lines.append("if all of these hold:")
        lines += [f"  {_condition(each)}" for each in scope.conditions]
    lines += _other_arguments(scope)
    if scope.needs is not None:
        lines += _needs(scope.needs)
    return lines


def _other_arguments(scope: Scope) -> list[str]:
    if scope.has_no_arguments:
        return []
    other = "other " if any(each.path.is_argument for each in scope.conditions) else ""
    if scope.everything_free or not (scope.conditions or scope.free_paths):
        return [f"with any {other}arguments"]
    if scope.free_paths:
        return [
            f"with any value of {_all_of(list(map(str, scope.free_paths)))}, and no {other}argument besides"
        ]
    return [f"with no {other}argument"]


def _resource(segments: Sequence[Segment]) -> str:
    below = segments[-1].kind == SegmentKind.REST
    named = segments[:-1] if below else segments
    if not named:
        return "anything"
    text = "/".join(map(_segment, named))
    return f"{text} and anything below it" if below else text


def _segment(segment: Segment) -> str:
    if segment.kind == SegmentKind.ANY:
        return "(any name)"
    if segment.kind == SegmentKind.PREFIX:
        return f"(any name that begins with {str(segment).removesuffix('*')})"
    if segment.kind == SegmentKind.ONE_OF:
        return f"({_any_of([str(Segment.literal(text)) for text in segment.texts])})"
    return str(segment)


def _condition(condition: Condition) -> str:
    subject = _value(condition.path)
    if condition.accessor:
        subject = f"{_PARTS[Accessor(condition.accessor)]} {subject}"
    if condition.each or (condition.any and condition.path.source != ValueSource.ELEMENTS):
        subject = f"{'each' if condition.each else 'some'} element of {subject}"
    elif condition.any:
        subject = f"at some place {subject}"
    words = f"{subject} {_RELATIONS[Operator(condition.operator)]}"
    if condition.fact:
        words += f" the session's {condition.fact}"
    elif condition.values:
        words += f" {_any_of(list(map(operand_to_text, condition.values)))}"
    return f"{words}, or there is none" if condition.optional else words


def _value(path: Path) -> str:
    if path.source == ValueSource.SESSION:
        return f"the session's {path.segments[0]}"
    return (
        f"the tool's {path.argument.removeprefix('tool.')}" if path.source == ValueSource.TOOL else str(path)
    )


def _needs(needs: Needs) -> list[str]:
    lines = []
    if needs.approval is not None:
        lines.append(f"after {needs.approval.threshold} of {len(needs.approval.keys)} approvers approved it")
    if needs.uses:
        lines.append(f"at most {needs.uses} {'time' if needs.uses == 1 else 'times'}")
    if needs.budget is not None:
        budget = needs.budget
        limit = f"{budget.limit} {budget.unit}".rstrip()
        lines.append(f"while the sum of {budget.amount} is at most {limit} (budget {budget.name})")
    return lines


def _any_of(texts: Sequence[str]) -> str:
    return _listed(texts, " or ")


def _all_of(texts: Sequence[str]) -> str:
    return _listed(texts, " and ")


def _listed(texts: Sequence[str], last: str) -> str:
    return last.join((", ".join(texts[:-1]), texts[-1]) if len(texts) > 1 else texts)
