"""Matching scopes against a request, and the closed world (sections 5, 6.5 and 9.8 of the format)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .conditions import Context, OutOfWork, holds, is_refuted, is_unknown
from .constants import KINDS, SOURCES, Kind, Source
from .model import Condition, Path, Scope, Segment

_PREFIXES: dict[int, str] = {Source.SESSION: "session.", Source.TOOL: "tool."}


class Failed(Exception):
    """A list of scopes, or a condition, refused. ``scope`` and ``clause`` are -1 where none is named."""

    def __init__(self, kind: str, scope: int = -1, clause: int = -1, argument: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.scope = scope
        self.clause = clause
        self.argument = argument


@dataclass(frozen=True, slots=True)
class Match:
    """The scope that decides for its list."""

    scope: int
    needs: bool


def path_text(path: Path, place: Sequence[int] = ()) -> str:
    """The argument of a position (11): segments joined by dots; the source unless it is an argument's."""
    if path.source == Source.ELEMENTS:
        known = iter(place)
        parts = [f"[{next(known, '')}]" if segment == "[]" else segment for segment in path.segments]
        return "".join(parts)[1:]
    return _PREFIXES.get(path.source, "") + ".".join(path.segments)


def first_unknown(scopes: Sequence[Scope]) -> tuple[int, int] | None:
    """The first unknown kind in a list of scopes, as (scope, clause)."""
    for index, scope in enumerate(scopes):
        if any(segment.kind not in KINDS for segment in scope.resource):
            return index, -1
        for clause, condition in enumerate(scope.where):
            if is_unknown(condition):
                return index, clause
        paths = list(scope.free)
        if scope.needs is not None and scope.needs.budget_amount is not None:
            paths.append(scope.needs.budget_amount)
        if any(path.source not in SOURCES for path in paths):
            return index, -1
    return None


def _segment_matches(pattern: Segment, segment: str) -> bool:
    if pattern.kind == Kind.ANY:
        return True
    if pattern.kind == Kind.PREFIX:
        return segment.startswith(pattern.texts[0])
    return pattern.kind in (Kind.LITERAL, Kind.ONE_OF) and segment in pattern.texts


def resource_matches(patterns: Sequence[Segment], segments: Sequence[str]) -> bool:
    """Return True if all segments match, one to one, except a last REST."""
    if patterns[-1].kind == Kind.REST:
        patterns = patterns[:-1]
        segments = segments[: len(patterns)]
    return len(patterns) == len(segments) and all(map(_segment_matches, patterns, segments))


_ELEMENT = object()
_Step = object


def _steps(path: Path) -> tuple[_Step, ...]:
    """The steps of an argument's path: names, and ``_ELEMENT``."""
    if path.source == Source.ARGS:
        return path.segments
    return tuple(_ELEMENT if segment == "[]" else segment[1:] for segment in path.segments)


def leftover(scope: Scope, context: Context) -> str | None:
    """The first argument that a closed scope does not mention, or None (6.5). Raises OutOfWork."""
    if scope.free_all or not (scope.where or scope.free):
        return None
    paths = [*(condition.path for condition in scope.where), *scope.free]
    mentioned = [_steps(path) for path in paths if path.source in (Source.ARGS, Source.ELEMENTS)]

    def walk(
        prefix: tuple[_Step, ...], shown: str, container: dict[str, object] | list[object]
    ) -> str | None:
        context.work.add(len(container) * max(1, len(mentioned)))
        items: list[tuple[_Step, str, object]]
        if isinstance(container, dict):
            items = [(name, f"{shown}.{name}" if shown else name, value) for name, value in container.items()]
        else:
            items = [(_ELEMENT, f"{shown}[{index}]", value) for index, value in enumerate(container)]
        for step, text, value in items:
            path = (*prefix, step)
            if path in mentioned:
                continue
            nexts = [p[len(path)] for p in mentioned if len(p) > len(path) and p[: len(path)] == path]
            named = any(step is not _ELEMENT for step in nexts)
            if not (
                (type(value) is dict and named)
                or (type(value) is list and any(step is _ELEMENT for step in nexts))
            ):
                return text
            found = walk(path, text, value)  # type: ignore[arg-type]
            if found is not None:
                return found
        return None

    return walk((), "", context.arguments)


def _refusal(scope: Scope, context: Context) -> tuple[int, str] | None:
    """Return the failed (clause, argument) of a scope with matching action and resource, or None."""
    for clause, condition in enumerate(scope.where):
        place: list[int] = []
        try:
            if not holds(condition, context, place):
                return clause, path_text(condition.path, place)
        except OutOfWork:
            raise Failed("work", clause=clause) from None
    left = leftover(scope, context)
    return None if left is None else (-1, left)


def _held(clause: int) -> float:
    """The number of conditions that held before this one failed: all, where an argument is left over."""
    return clause if clause >= 0 else math.inf


def match_scopes(scopes: Sequence[Scope], action: str, segments: Sequence[str], context: Context) -> Match:
    """The deciding scope of a list (9.8 point 4). Raises Failed: ``condition``, ``scope`` or ``work``."""
    with_needs: Match | None = None
    nearest: Failed | None = None
    for index, scope in enumerate(scopes):
        if scope.actions != ("*",) and action not in scope.actions:
            continue
        if not resource_matches(scope.resource, segments):
            continue
        try:
            refusal = _refusal(scope, context)
        except Failed as failed:
            raise Failed("work", index, failed.clause) from None
        except OutOfWork:
            raise Failed("work", index) from None
        if refusal is not None:
            if nearest is None or _held(refusal[0]) > _held(nearest.clause):
                nearest = Failed("condition", index, *refusal)
        elif scope.needs is None:
            return Match(index, False)
        elif with_needs is None:
            with_needs = Match(index, True)
    if with_needs is not None:
        return with_needs
    raise nearest or Failed("scope")


def match_layer(scopes: Sequence[Scope], action: str, segments: Sequence[str], context: Context) -> None:
    """A layer of a ceiling: its scopes, then its exceptions (5.1). Raises Failed."""
    permits = [scope for scope in scopes if not scope.exception]
    if permits or not scopes:
        match_scopes(permits, action, segments, context)
    for index, scope in enumerate(scopes[len(permits) :], len(permits)):
        if all(segment.kind in KINDS for segment in scope.resource) and (
            (scope.actions != ("*",) and action not in scope.actions)
            or not resource_matches(scope.resource, segments)
        ):
            continue
        for clause, condition in enumerate(scope.where):
            try:
                if is_refuted(condition, context):
                    break
            except OutOfWork:
                raise Failed("work", index, clause) from None
        else:
            raise Failed("scope", index)


def check_where(conditions: Sequence[Condition], context: Context) -> None:
    """A block's own conditions (9.8 point 5). Raises Failed: ``condition`` or ``work``."""
    for clause, condition in enumerate(conditions):
        place: list[int] = []
        try:
            if not holds(condition, context, place):
                raise Failed("condition", -1, clause, path_text(condition.path, place))
        except OutOfWork:
            raise Failed("work", -1, clause) from None
