"""Scopes that look right and are not: findings about texts that do not say what their author meant.

A finding is advice. It never says that a scope is wrong, and a scope without findings may still permit too
much: the names of arguments and the forms of values are guesses about a tool. The page
``docs/how-to/writing-scopes.md`` has the rules, each with a call that its scope admits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from . import containment
from .parts import EACH, Accessor, Operator, Path, SegmentKind, ValueSource
from .scope import Condition, Scope
from .value import Exact, Json, Number, Value

_PATHS: Final = frozenset(
    {"path", "paths", "file", "files", "filename", "filepath", "dir", "directory", "folder"}
)
_URLS: Final = frozenset({"url", "urls", "uri", "href", "link", "endpoint"})
_PROGRAMS: Final = frozenset({"command", "commands", "cmd", "script", "code", "sql", "shell", "expression"})
# Words that an author means as a word of the language. After `free` they are names of arguments.
_NOT_WORDS: Final = frozenset({"none", "nothing", "all", "any", "everything", "anything"})
_CLOCKS: Final = frozenset({"now", "today"})

_NAME_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)
_QUERY: Final = re.compile(r"\s*(?:select|insert|update|delete|with|match)\b", re.IGNORECASE)
_NUMERAL: Final = re.compile(r"\s*[+-]?[0-9][0-9_.,]*\s*")
# GetObject, and GetObject:bucket: the operation of a cloud's action.
_OPERATION: Final = re.compile(
    r"(?:Get|List|Put|Post|Delete|Describe|Create|Update|Invoke|Assume|Start|Stop|Run|Send)[A-Z]\w*(?::.*)?"
)
_VERBS: Final = frozenset(
    {"read", "write", "list", "get", "delete", "create", "update", "edit", "view", "admin"}
)

_UPPER: Final = (Operator.LESS, Operator.LESS_EQUAL)
_LOWER: Final = (Operator.GREATER, Operator.GREATER_EQUAL)
_POSITIVE: Final = (
    Operator.EQUAL, Operator.IN, Operator.STARTS_WITH, Operator.GLOB, Operator.UNDER, Operator.SUBSET_OF,
)  # fmt: skip


RULES: Final = (
    "action-colon",
    "any-host",
    "any-scheme",
    "exclusion",
    "fact-type",
    "free-all",
    "loose-end",
    "no-call",
    "no-effect",
    "no-lower-bound",
    "not-a-word",
    "number-as-text",
    "path-text",
    "program-text",
    "url-text",
)
"""The ids of all rules."""


class ScopeFinding(NamedTuple):
    """A rule's id, the index of the scope, the part of its text, the problem, and what to write instead."""

    rule: str
    scope: int
    part: str
    problem: str
    instead: str


class _Advice(NamedTuple):
    rule: str
    problem: str
    instead: str


def lint(scopes: Sequence[Scope], facts: Mapping[str, Value] | None = None) -> list[ScopeFinding]:
    """Return the findings about scopes that are granted together, in the order of the scopes.

    Args:
        scopes: the scopes of one ceiling or token.
        facts: the values of the session's facts that are known; of others nothing is found.
    """
    findings = []
    for index, scope in enumerate(scopes):
        advice = [*_of_scope(scope)]
        for condition in () if scope.exception else scope.conditions:
            advice += [(str(condition), each) for each in _of_condition(condition, scope, facts or {})]
        findings += [ScopeFinding(each.rule, index, part, *each[1:]) for part, each in advice]
    findings += _without_effect(scopes)
    return sorted(findings, key=lambda each: each.scope)


# --- a scope ---


def _of_scope(scope: Scope) -> Iterator[tuple[str, _Advice]]:
    record = scope.to_record()
    ((verdict, part),) = containment.compare([record], [record], same_facts=True)
    unmet = containment.unmet_need(scope)
    if verdict < 0 or unmet:
        problem = unmet or f"no call can meet it: the {part} contradicts another part"
        yield str(scope), _Advice("no-call", problem, "mend or remove the scope")
    meant = _reads_as_action(scope)
    if meant:
        problem = f"the action is `{scope.actions[0]}`: it ends at the first colon"
        advice = _Advice("action-colon", problem, f"write the action first, without a colon: `{meant}`")
        yield str(scope).partition(" ")[0], advice
    for path in scope.free_paths:
        if len(path.segments) == 1 and path.segments[0].lower() in _NOT_WORDS:
            problem = f"it leaves open an argument that is named `{path}`"
            instead = "name the arguments that may have any value; without `free` no other is permitted"
            yield f"free {path}", _Advice("not-a-word", problem, instead)
    if scope.everything_free and any(_holds_argument(each) for each in scope.conditions):
        problem = "each argument that no condition mentions may have any value"
        instead = "name the arguments that may, as in `free subject, body`"
        yield "free *", _Advice("free-all", problem, instead)


def _holds_argument(condition: Condition) -> bool:
    presence = (Operator.PRESENT, Operator.ABSENT)
    return condition.path.is_argument and condition.operator not in presence


def _reads_as_action(scope: Scope) -> str:
    """Return how a scope may be meant whose resource begins like an action; empty if it does not."""
    first = scope.resource[0]
    if len(scope.actions) != 1 or first.kind != SegmentKind.LITERAL:
        return ""
    action, text = scope.actions[0], first.texts[0]
    if _OPERATION.fullmatch(text):
        return f"{action}.{text.partition(':')[0]}:bucket/**"
    return f"{text}:{action}" if len(scope.resource) == 1 and text in _VERBS and action not in _VERBS else ""


def _without_effect(scopes: Sequence[Scope]) -> Iterator[ScopeFinding]:
    """Find scopes inside another one: a list permits what any of its scopes permits."""
    records = [scope.to_record() for scope in scopes]
    exceptions = [scope.to_record() for scope in scopes if scope.exception]
    for index, record in enumerate(records):
        if scopes[index].exception:
            if len(exceptions) < len(records) and not any(_may_hit(record, each) for each in records):
                problem = "no scope of the list permits such a call"
                yield ScopeFinding("no-effect", index, str(scopes[index]), problem, "mend or remove it")
            continue
        if containment.compare([record, *exceptions], [record], same_facts=True)[0][0] < 0 and exceptions:
            problem = "an exception denies all that it permits"
            yield ScopeFinding(
                "no-call", index, str(scopes[index]), problem, "remove the scope or the exception"
            )
            continue
        other = _wider(records, index) if containment.overlaps(record, record) else None
        if other is None:
            continue
        unasked = scopes[index].has_needs and not scopes[other].has_needs
        problem = f"scope {other} `{scopes[other]}` permits these calls " + (
            "without what this one needs" if unasked else "too"
        )
        instead = "remove the wider of them, or this one: a scope never restricts another"
        yield ScopeFinding("no-effect", index, str(scopes[index]), problem, instead)


def _wider(records: Sequence[Mapping[str, object]], index: int) -> int | None:
    """Return the first scope that permits all that this one does; of equal ones the earlier."""
    for other, record in enumerate(records):
        if other != index and not record["exception"] and _inside(record, records[index]):
            if other < index or not _inside(records[index], record):
                return other
    return None


def _may_hit(exception: Mapping[str, object], scope: Mapping[str, object]) -> bool:
    """Return True if an exception may deny a call that a scope permits, by actions and resources."""
    bare = [{**each, "where": [], "free": [], "exception": False} for each in (exception, scope)]
    return not scope["exception"] and containment.overlaps(bare[0], bare[1])


def _inside(parent: Mapping[str, object], child: Mapping[str, object]) -> bool:
    return containment.compare([parent], [child], same_facts=True)[0][0] == 1


# --- a condition ---


def _of_condition(condition: Condition, scope: Scope, facts: Mapping[str, Value]) -> Iterator[_Advice]:
    yield from _of_fact_type(condition, facts)
    if condition.path.source == ValueSource.SESSION:
        return
    if condition.path.argument in _CLOCKS:
        problem = f"`{condition.path}` is an argument of the call, which the agent chooses"
        yield _Advice("not-a-word", problem, "a scope has no clock: give the session or the token an end")
    for rule in _RULES:
        advice = rule(condition, scope)
        if advice is not None:
            yield advice


def _of_fact_type(condition: Condition, facts: Mapping[str, Value]) -> Iterator[_Advice]:
    if condition.path.source != ValueSource.SESSION:
        return
    of_list = condition.each or condition.any or condition.accessor == Accessor.COUNT
    if of_list or condition.operator == Operator.SUBSET_OF:
        yield _Advice("fact-type", "no fact is a list: it never holds", "use `in` for one of several values")
        return
    fact = facts.get(condition.path.segments[0])
    if fact is None or condition.accessor or not condition.values:
        return
    kinds = {Number if isinstance(value, Exact) else type(value) for value in condition.values}
    if not kinds & {type(fact), Json}:
        yield _Advice(
            "fact-type",
            f"the session's fact is {_TYPES[type(fact)]}, and the condition is about {_TYPES[kinds.pop()]}: "
            "it never holds",
            "write the value in the fact's type, or state the fact as name:=JSON",
        )


_TYPES: Final[Mapping[type, str]] = {str: "a text", bool: "a truth", Number: "a number"}


def _of_glob(condition: Condition, scope: Scope) -> _Advice | None:
    if condition.operator not in (Operator.GLOB, Operator.NOT_GLOB):
        return None
    texts = _texts(condition)
    if condition.operator == Operator.NOT_GLOB:
        is_clean = condition.accessor == Accessor.PATH or not _is_path(condition, texts)
        return None if is_clean else _path(condition, scope)
    if condition.accessor == Accessor.HOST:
        if any(re.match(r"\*[^.*]", text) for text in texts):
            return _Advice(
                "loose-end",
                "a name of another owner may end so",
                'begin with a dot: host(url) glob "*.acme.com"',
            )
        return None
    if condition.accessor:
        return None
    if any(text.startswith("*@") for text in texts):
        return _Advice(
            "loose-end",
            "the text may hold several addresses, of which the last ends so",
            'domain(to) == "acme.com": it takes one plain address',
        )
    if _is_url(condition, texts):
        return _url(condition, scope)
    if _is_program(condition, texts):
        return _program(condition)
    return _path(condition, scope) if _is_path(condition, texts) else None


def _of_prefix(condition: Condition, scope: Scope) -> _Advice | None:
    if condition.operator != Operator.STARTS_WITH or condition.accessor:
        return None
    texts = _texts(condition)
    if _is_url(condition, texts):
        return _url(condition, scope)
    if _is_program(condition, texts):
        return _program(condition)
    return _path(condition, scope) if _is_path(condition, texts) else None


def _path(condition: Condition, scope: Scope) -> _Advice | None:
    if _beside(condition, scope, (Operator.UNDER, Operator.NOT_UNDER), Accessor.NONE):
        return None
    under = "not under" if condition.operator == Operator.NOT_GLOB else "under"
    return _Advice(
        "path-text",
        "it is compared as text: `..`, `%2e%2e` or `//` in it may lead elsewhere",
        f'{condition.path} {under} "src", alone or beside it: {under} takes clean paths only',
    )


def _url(condition: Condition, scope: Scope) -> _Advice | None:
    for text in _texts(condition):
        found = _URL.fullmatch(text)
        host, rest = (found[2], found[3]) if found is not None else (text, "")
        is_open = "*" in host if condition.operator == Operator.GLOB else host and not rest
        if is_open and not _beside(condition, scope, _POSITIVE, Accessor.HOST):
            return _Advice(
                "url-text",
                "a URL of another host may match, such as https://api.acme.com.evil.com/",
                f'{condition.path} starts_with "https://" and host({condition.path}) == "api.acme.com"',
            )
        if rest not in ("", "/", "/*", "/**") and not _beside(condition, scope, _POSITIVE, Accessor.PATH):
            return _Advice(
                "path-text",
                "the path is compared as text: `..` in it, or `%2e%2e`, leads elsewhere on the host",
                f'path({condition.path}) under "/v1", beside a scheme and a host',
            )
    return None


def _program(condition: Condition) -> _Advice:
    return _Advice(
        "program-text",
        "what follows is run too, such as `; cat key`",
        f"list the whole texts: {condition.path} in […]; or ask for an approval",
    )


def _of_url_path(condition: Condition, scope: Scope) -> _Advice | None:
    if condition.accessor != Accessor.PATH or _beside(
        condition, scope, (*_POSITIVE, Operator.CIDR), Accessor.HOST
    ):
        return None
    wholes = [text for other in _beside(condition, scope, _POSITIVE, Accessor.NONE) for text in _texts(other)]
    if any(found and found[2] and found[3] for found in map(_URL.fullmatch, wholes)):
        return None
    return _Advice(
        "any-host",
        "each host has such paths",
        f'{condition.path} starts_with "https://" and host({condition.path}) == "api.acme.com" beside it',
    )


def _of_host(condition: Condition, scope: Scope) -> _Advice | None:
    if condition.accessor != Accessor.HOST or condition.operator not in _POSITIVE:
        return None
    if _beside(condition, scope, _POSITIVE, Accessor.SCHEME):
        return None
    wholes = map(_texts, _beside(condition, scope, _POSITIVE, Accessor.NONE))
    if any(texts and all(map(_URL.match, texts)) for texts in wholes):
        return None
    return _Advice(
        "any-scheme",
        "each scheme has hosts: file://, javascript://",
        f'{condition.path} starts_with "https://" beside it, or scheme({condition.path}) == "https"',
    )


def _of_order(condition: Condition, scope: Scope) -> _Advice | None:
    if condition.operator not in (*_UPPER, *_LOWER):
        return None
    if any(_NUMERAL.fullmatch(text) for text in _texts(condition)):
        return _Advice(
            "number-as-text",
            'texts are in the order of their bytes: "9" is above "10", and a number never matches',
            f"without quotes: {condition.path} <= 100",
        )
    if condition.operator not in _UPPER or condition.accessor or not condition.path.is_argument:
        return None
    if not all(isinstance(value, Number | Exact) for value in condition.values) or not condition.values:
        return None
    # A budget takes numbers of 0 or more only.
    needs = scope.needs
    if needs is not None and needs.budget is not None and needs.budget.amount == condition.path:
        return None
    if _beside(condition, scope, _LOWER, condition.accessor):
        return None
    return _Advice("no-lower-bound", "numbers below 0 match", f"{condition.path} >= 0 and {condition}")


_NAMES_EXCLUDED: Final = (Operator.NOT_EQUAL, Operator.NOT_IN, Operator.NOT_STARTS_WITH, Operator.NOT_GLOB)


def _of_exclusion(condition: Condition, scope: Scope) -> _Advice | None:
    if condition.operator not in _NAMES_EXCLUDED or not condition.path.is_argument:
        return None
    if condition.accessor not in (Accessor.NONE, Accessor.HOST, Accessor.DOMAIN):
        return None
    texts = list(filter(None, _texts(condition)))
    mixed = [value for value in condition.values if isinstance(value, Json) and value.form.startswith('"')]
    if not texts and not mixed:
        return None
    if _beside(condition, scope, _POSITIVE, condition.accessor):
        return None
    if condition.operator == Operator.NOT_GLOB and _is_path(condition, texts):
        return None
    return _Advice(
        "exclusion",
        "every other text matches"
        + (" and every value of another type" if mixed else "")
        + ", also another spelling of the same name",
        "say which are permitted: `in`, `starts_with`",
    )


_RULES: Final[Sequence[Callable[[Condition, Scope], _Advice | None]]] = (
    _of_glob,
    _of_prefix,
    _of_host,
    _of_url_path,
    _of_order,
    _of_exclusion,
)


def _beside(
    condition: Condition, scope: Scope, operators: Sequence[Operator], accessor: int
) -> list[Condition]:
    """Return the conditions of the scope on the same value by one of the operators, and by the accessor."""
    return [
        other
        for other in scope.conditions
        if other.path == condition.path and other.accessor == accessor and other.operator in operators
    ]


def _texts(condition: Condition) -> list[str]:
    return [value for value in condition.values if isinstance(value, str)]


def _words(path: Path) -> set[str]:
    """Return the words of the last name of a path: ``files[].sourcePath`` has ``source`` and ``path``."""
    names = [segment for segment in path.parts if segment != EACH]
    return {word.lower() for word in _NAME_WORD.findall(names[-1])}


def _is_url(condition: Condition, texts: Sequence[str]) -> bool:
    return bool(_words(condition.path) & _URLS) or any(map(_URL.match, texts))


def _is_path(condition: Condition, texts: Sequence[str]) -> bool:
    return bool(_words(condition.path) & _PATHS) or any(text.startswith(("/", "./", "~/")) for text in texts)


def _is_program(condition: Condition, texts: Sequence[str]) -> bool:
    words = _words(condition.path)
    return bool(words & _PROGRAMS) or ("query" in words and any(map(_QUERY.match, texts)))
