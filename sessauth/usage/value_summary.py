"""A summary of the values in one place: at one argument path, or in one segment of a resource.

:class:`ValueSummary` consists of sets, minima and maxima, so parts merge in any order. :func:`is_language`
finds arguments whose values are programs: shell commands, code, database queries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Final, TypeVar

from ..errors import ScopeError, UsageError
from ..limits import MAX_STRING_BYTES
from ..scopes.scope import Condition
from ..scopes.value import Exact, Json, Number, Operand, operands_of
from . import records
from .argument_reader import ELEMENT, ArgumentNode, NoValue, Path, equality_of, host_of, is_clean_path
from .argument_reader import Json as JsonValue
from .records import Count, Form, PlainFields, Truth, optional

# Longer texts, and JSON values of longer forms, are known by their digests.
_MAX_TEXT_CHARS: Final = 256
_MAX_FORM_BYTES: Final = 128
_SCALARS: Final = (str, bool, Number, Exact)

KINDS: Final = ("text", "number", "truth", "null", "list", "object", "other")
"""Types of JSON; ``other`` is a number that the format gives no value."""

T = TypeVar("T", Operand, str)


def ordered(values: Iterable[Operand]) -> list[Operand]:
    """Return operands in one order: truths, numbers, texts, JSON values."""
    return sorted(values, key=_rank)


def _rank(value: Operand) -> tuple[int, Decimal, str, bytes]:
    if isinstance(value, bool):
        return 0, Decimal(int(value)), "", b""
    if isinstance(value, Number | Exact):
        return 1, value.to_decimal(), "", b""
    if isinstance(value, Json):
        return 3, Decimal(), value.form, value.digest
    return 2, Decimal(), value, b""


def values_to_json(values: Iterable[Operand]) -> list[object]:
    """Return operands in one order: a number as ``{"number": "1.5"}``, a JSON value as its scope text."""
    return [_value_to_json(each) for each in ordered(values)]


def _value_to_json(value: Operand) -> object:
    if isinstance(value, Number | Exact):
        return {"number": str(value)}
    return {"json": str(value)} if isinstance(value, Json) else value


def _values(data: object) -> frozenset[Operand]:
    return frozenset(_value(each) for each in records.items(data, records.MAX_VALUES))


def _value(data: object) -> Operand:
    if isinstance(data, bool):
        return data
    if isinstance(data, dict):
        if "json" in data:
            return _json(records.fields(data, "json")["json"])
        return _exact(records.fields(data, "number")["number"])
    return records.text(data, records.MAX_VALUES_BYTES)


def _json(data: object) -> Json:
    text = records.text(data, 8 * MAX_STRING_BYTES)
    try:
        (value,) = Condition.parse(f"v == {text}").values
    except ScopeError:
        value = False
    if not isinstance(value, Json):
        raise UsageError("a usage record: expected a JSON value, as scope text writes it")
    return value


def _exact(data: object) -> Number | Exact:
    text = records.text(data, MAX_STRING_BYTES)
    try:
        (number,) = operands_of([Decimal(text)], equality=False)
    except (ScopeError, ArithmeticError):
        number = False
    if not isinstance(number, Number | Exact):
        raise UsageError("a usage record: expected a number of the format, as a text")
    return number


def _kinds(data: object) -> dict[str, int]:
    names = [kind for kind in KINDS if isinstance(data, dict) and kind in data]
    counts = records.fields(data, *names)
    return {kind: records.count(calls) for kind, calls in counts.items()}


def _hosts(data: object) -> frozenset[str]:
    return frozenset(records.text(host, 253) for host in records.items(data, records.MAX_HOSTS))


_KINDS: Final = Form(lambda kinds: {kind: kinds[kind] for kind in KINDS if kind in kinds}, _kinds)
_VALUES: Final = optional(values_to_json, _values)
_NUMBER: Final = optional(str, _exact)
_PREFIX: Final = optional(str, lambda data: records.text(data, records.MAX_PREFIX_BYTES))
_HOSTS: Final = optional(sorted, _hosts)


@dataclass(slots=True)
class ValueSummary(PlainFields):
    """The values of one place.

    ``found``: calls with a value there. ``values``: the distinct values, lists and objects as JSON values;
    ``elements``: the distinct scalars in lists. Either is None if there were too many, or one that has no
    such form. ``low`` and ``high`` bound the numbers. ``prefix`` begins all texts (None: there was no text).
    ``clean``: all texts are clean paths. ``hosts``: those of all texts (None: some text is no URL, or there
    are too many). ``longest``: elements of the longest list. ``opaque``: values below it are not known
    completely.

    At a path of a list's elements ``found`` counts the lists, and the other parts are of the elements, with
    no values of objects and lists; ``clean``: no list was empty. Below it ``found`` counts elements.
    """

    found: Count = 0
    kinds: Annotated[dict[str, int], _KINDS] = field(default_factory=dict)
    values: Annotated[frozenset[Operand] | None, _VALUES] = frozenset()
    low: Annotated[Number | Exact | None, _NUMBER] = None
    high: Annotated[Number | Exact | None, _NUMBER] = None
    prefix: Annotated[str | None, _PREFIX] = None
    clean: Truth = True
    hosts: Annotated[frozenset[str] | None, _HOSTS] = frozenset()
    elements: Annotated[frozenset[Operand] | None, _VALUES] = frozenset()
    longest: Count = 0
    opaque: Truth = False

    def add(self, node: ArgumentNode) -> None:
        """Count the value of one call."""
        value = node.value
        if isinstance(value, list) and node.path[-1] == ELEMENT:
            self._add_elements(value, node.opaque)
            return
        # A value that is known changes nothing but the counts.
        if isinstance(value, list):
            known = "list" in self.kinds and _is_known_list(value, self)
        else:
            known = isinstance(value, _SCALARS) and value in (self.values or ())
        if known:
            self.found += 1
            self.kinds[kind_of(value)] += 1
        else:
            self.merge(_one(value, node.opaque, self))

    def _add_elements(self, elements: list[JsonValue], opaque: bool) -> None:
        self.found += 1
        self.clean &= bool(elements)
        self.opaque |= opaque
        for element in elements:
            # Members of an object have summaries of their own.
            part = ValueSummary() if isinstance(element, dict) else _one(element, False, self)
            part.found, part.clean, part.kinds = 0, True, {kind_of(element): 1}
            part.values = None if isinstance(element, dict | list) else part.values
            self.merge(part)

    def add_segment(self, text: str) -> None:
        """Count a segment of a resource: neither path nor URL."""
        if self.values is not None and text in self.values:
            self.found += 1
            self.kinds["text"] += 1
            return
        self.merge(
            ValueSummary(1, {"text": 1}, frozenset((text,)), prefix=_cut(text), clean=False, hosts=None)
        )

    def merge(self, other: ValueSummary) -> None:
        """Add the values of another."""
        self.found += other.found
        for kind, calls in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + calls
        self.values = _union(self.values, other.values, records.MAX_VALUES)
        self.elements = _union(self.elements, other.elements, records.MAX_VALUES)
        self.hosts = _union(self.hosts, other.hosts, records.MAX_HOSTS)
        if other.low is not None and other.high is not None:
            self.low = other.low if self.low is None else min(self.low, other.low, key=_rank)
            self.high = other.high if self.high is None else max(self.high, other.high, key=_rank)
        if other.prefix is not None:
            self.prefix = other.prefix if self.prefix is None else common_prefix(self.prefix, other.prefix)
        self.clean &= other.clean
        self.longest = max(self.longest, other.longest)
        self.opaque |= other.opaque

    def _validate(self) -> None:
        # Reported values are cut to the same limits as observed ones.
        self.merge(ValueSummary())


def kind_of(value: JsonValue) -> str:
    """Return the kind of a JSON value, one of :data:`KINDS`."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, Number | Exact):
        return "number"
    if isinstance(value, NoValue):
        return "other"
    return "null" if value is None else "list" if isinstance(value, list) else "object"


def _one(value: JsonValue, opaque: bool, so_far: ValueSummary) -> ValueSummary:
    """Return the summary of one value, without the parts that ``so_far`` has given up."""
    summary = ValueSummary(1, {kind_of(value): 1}, opaque=opaque)
    if isinstance(value, str):
        long = len(value) > _MAX_TEXT_CHARS
        summary.values, summary.prefix = _as_json(value) if long else frozenset((value,)), _cut(value)
        summary.clean = so_far.clean and is_clean_path(value)
        host = "" if so_far.hosts is None else host_of(value)
        summary.hosts = frozenset((host,)) if host else None
    elif isinstance(value, bool):
        summary.values = frozenset((value,))
    elif isinstance(value, Number | Exact):
        summary.values, summary.low, summary.high = frozenset((value,)), value, value
    else:
        summary.values = _as_json(value)
    if isinstance(value, list):
        scalars = frozenset(element for element in value if isinstance(element, _SCALARS))
        summary.elements = scalars if all(isinstance(each, _SCALARS) for each in value) else None
        summary.longest = len(value)
    return summary


def _is_known_list(value: list[JsonValue], summary: ValueSummary) -> bool:
    """Return True if a list changes nothing but the counts."""
    if len(value) > summary.longest:
        return False
    known = summary.elements
    if known is not None and not all(isinstance(each, _SCALARS) and each in known for each in value):
        return False
    return summary.values is None or (_as_json(value) or frozenset([""])) <= summary.values


def _as_json(value: JsonValue) -> frozenset[Operand] | None:
    """Return a value as a JSON value, a long one by its digest; None if it has no equality form."""
    found = equality_of(value)
    return None if found is None else frozenset((found.shortened(_MAX_FORM_BYTES),))


def _union(a: frozenset[T] | None, b: frozenset[T] | None, most: int) -> frozenset[T] | None:
    if a is None or b is None:
        return None
    both = a | b
    texts = sum(map(_weight, both))
    return both if len(both) <= most and texts <= records.MAX_VALUES_BYTES else None


def _weight(value: Operand) -> int:
    if isinstance(value, Json):
        return len(value.form.encode()) + len(value.digest)
    return (
        len(value.text) if isinstance(value, Exact) else len(value.encode()) if isinstance(value, str) else 0
    )


def common_prefix(a: str, b: str) -> str:
    """Return the longest text that both begin with, in whole characters."""
    for index, (ours, theirs) in enumerate(zip(a, b, strict=False)):
        if ours != theirs:
            return a[:index]
    return min(a, b, key=len)


def _cut(text: str) -> str:
    """Return the longest beginning of ``text`` within the bound, in whole characters."""
    return text.encode()[: records.MAX_PREFIX_BYTES].decode(errors="ignore")


# Names of arguments that are run, in lower case without separators.
_NAMES: Final = re.compile(
    r"commands?(?:line)?|cmd(?:line)?|(?:shell|bash)(?:command)?|(?:source|python)?code|program|script|javascript"
    r"|expression|function|eval|sql(?:query)?|query|statements?"
)
# Arguments that are stored or shown: code in them is not run.
_STORED: Final = re.compile(
    r"contents?|filetext|(?:new|old)(?:string|text|str)|body|description|diff|patch|message|comment|text|title|notes?"
)
_SEPARATORS: Final = re.compile(r"[\s_.-]+")
# Words that begin a command, and hardly a sentence.
_PROGRAMS: Final = re.compile(
    r"apt|apt-get|awk|bash|bun|cargo|cd|chmod|chown|cmake|cp|curl|dd|df|docker|"
    r"du|exec|gcc|gh|git|grep|gunzip|gzip|helm|ifconfig|ip|jq|kubectl|ln|ls|"
    r"mkdir|mkfifo|mv|mysql|nc|ncat|netstat|nmap|node|npm|npx|nslookup|openssl|"
    r"perl|php|pip|pip3|pkill|pnpm|printenv|psql|pytest|python|python3|rm|rmdir|"
    r"rsync|ruff|scp|sed|sh|sqlite3|ssh|sudo|systemctl|tar|telnet|terraform|tr|"
    r"uname|unzip|uv|vim|wget|whoami|xargs|yarn|zsh"
)
# Programs whose names are words, too: an option, a path or a sign must follow.
_WORDS: Final = re.compile(
    r"cat|cut|date|deno|diff|dig|echo|env|eval|export|find|go|head|java|kill|"
    r"killall|less|make|mount|open|ping|poetry|powershell|ps|pwd|ruby|sleep|sort|"
    r"source|tail|tee|top|touch|uniq|wc|which|zip"
)
# Marks of a shell command that no sentence has.
_SHELL: Final = re.compile(r"&&|\|\||\$\(|`[^`]+`|\$\{?[A-Z_]{2,}|>\s*/|2>&1")
_NEXT: Final = re.compile(r"[|;]\s*([\w./-]+)")
_ARGUMENT: Final = re.compile(r"(?:^|\s)-{1,2}[A-Za-z]|[/~;|<>$*=]|\w\.\w")
_ASSIGNMENT: Final = re.compile(r"^(?:[A-Za-z_]\w*=\S*\s+)+")
_SQL: Final = re.compile(
    r"^\s*(?:select\b.*\b(?:from|\d)|insert\s+into\b|update\b.+\bset\b|delete\s+from\b|with\b.+\bas\s*\("
    r"|(?:create|drop|alter|truncate)\s+(?:table|view|index|database|schema|user|role)\b|grant\b.+\bon\b"
    r"|pragma\s+\w|merge\s+into\b)",
    re.I | re.S,
)
_CODE: Final = re.compile(
    r"^\s*(?:import\s+[\w.]+(?:\s+as\s+\w+|\s*,.*)?\s*(?:[#;].*)?$|import\s.*['\"]|from\s+[\w.]+\s+import\b"
    r"|def\s+\w+\(|print\(|(?:const|let|var)\s+\w+\s*=|function\s*\w*\(|async\s+(?:def|function|\()"
    r"|await\s+\w+[.(]|\(?[\w, ]*\)?\s*=>|document\.|window\.|console\.|require\(|#!/|return\s+\w+[.(])",
    re.M,
)
_MAX_CHARS: Final = 4096

# The action of tools that a catalogue pins as reading: programs that they run change nothing.
READ: Final = "read"
PROGRAM: Final = "a program or a query"
"""The words for such a value in a report."""


def is_language(path: Path, summaries: Iterable[ValueSummary]) -> bool:
    """Return True if the texts of an argument are programs, by its name or by half of them."""
    name = _SEPARATORS.sub("", next((part for part in reversed(path) if part != ELEMENT), "")).lower()
    if _STORED.fullmatch(name):
        return False
    texts = {text for summary in summaries for text in _texts(summary)}
    return bool(texts) and (
        _NAMES.fullmatch(name) is not None or 2 * sum(map(is_program, texts)) >= len(texts)
    )


def _texts(summary: ValueSummary) -> set[str]:
    """Return the texts that are known; else their common beginning."""
    known = (*(summary.values or ()), *(summary.elements or ()))
    return {value for value in known if isinstance(value, str)} or (
        set() if summary.prefix is None else {summary.prefix}
    )


@lru_cache(4096)
def is_program(text: str) -> bool:
    """Return True if a text looks like a command, a query of a database or code, and like no sentence."""
    text = text[:_MAX_CHARS]
    command = _ASSIGNMENT.sub("", text.strip())
    first, space, rest = command.partition(" ")
    word = first.rpartition("/")[2]
    if space and (_PROGRAMS.fullmatch(word) or (_WORDS.fullmatch(word) and _ARGUMENT.search(rest))):
        return True
    if space and (_SHELL.search(command) or any(map(_PROGRAMS.fullmatch, _NEXT.findall(command)))):
        return True
    return bool(_SQL.search(text) or _CODE.search(text))
