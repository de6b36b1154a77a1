"""Scopes and conditions as text, canonically printed (section 11 of the format).

Unknown kinds have no text of their own; they print as ``?`` and their number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .constants import Accessor, Kind, Operator, Source
from .text import encode_base64url

_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_NOT_BARE = re.compile(r"[ \"/,*{}]")
_SOURCES = {Source.ARGS: "args", Source.SESSION: "session", Source.TOOL: "tool"}
OPERATORS = {
    Operator.EQUAL: "==",
    Operator.NOT_EQUAL: "!=",
    Operator.IN: "in",
    Operator.NOT_IN: "not in",
    Operator.LESS: "<",
    Operator.LESS_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_EQUAL: ">=",
    Operator.STARTS_WITH: "starts_with",
    Operator.GLOB: "glob",
    Operator.UNDER: "under",
    Operator.CIDR: "cidr",
    Operator.SUBSET_OF: "subset_of",
    Operator.PRESENT: "present",
    Operator.ABSENT: "absent",
    Operator.NOT_STARTS_WITH: "not starts_with",
    Operator.NOT_GLOB: "not glob",
    Operator.NOT_UNDER: "not under",
    Operator.NOT_CIDR: "not cidr",
}
_LISTS = (Operator.IN, Operator.NOT_IN, Operator.SUBSET_OF)

Record = Mapping[str, Any]


# Ranges of characters to escape besides " and \, ends included.
_ESCAPED = (
    *(
        (0x0, 0x1F),
        (0x7F, 0xA0),
        (0xAD, 0xAD),
        (0x600, 0x605),
        (0x61C, 0x61C),
        (0x6DD, 0x6DD),
        (0x70F, 0x70F),
    ),
    *((0x890, 0x891), (0x8E2, 0x8E2), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200F), (0x2028, 0x202F)),
    *((0x205F, 0x206F), (0x3000, 0x3000), (0xD800, 0xF8FF), (0xFEFF, 0xFEFF), (0xFFF0, 0xFFFB)),
    *((0xFFFE, 0xFFFF), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F), (0x1BCA0, 0x1BCA3)),
    *((0x1D173, 0x1D17A), (0xE0000, 0x10FFFF)),
)
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _is_escaped(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _ESCAPED)


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if not _is_escaped(char):
        return char
    utf16 = char.encode("utf-16-be")
    return "".join(f"\\u{utf16[at : at + 2].hex()}" for at in range(0, len(utf16), 2))


def _quote(text: str) -> str:
    return '"' + "".join(map(_escape, text)) + '"'


def _name(name: str) -> str:
    return name if _IDENT.match(name) else _quote(name)


def _literal(text: str) -> str:
    return _quote(text) if _NOT_BARE.search(text) or any(map(_is_escaped, text)) else text


def print_path(record: Record) -> str:
    """A path; the source ARGS only where the text would mean another."""
    source, names = record["source"], list(record["segments"])
    if source == Source.ELEMENTS:
        text = "".join(part if part == "[]" else "." + _name(part[1:]) for part in names)[1:]
        return f"args.{text}" if names[0][1:] in _SOURCES.values() and names[1] != "[]" else text
    text = ".".join(map(_name, names))
    if source == Source.ARGS and not (len(names) > 1 and names[0] in _SOURCES.values()):
        return text
    return f"{_SOURCES.get(source, f'?{source}')}.{text}"


def print_number(record: Record) -> str:
    """A number in its shortest plain decimal form."""
    billionths = record.get("units", 0) * 10**9 + record.get("nanos", 0)
    whole, rest = divmod(abs(billionths), 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if billionths < 0 else ''}{whole}{fraction}"


def print_value(record: Record) -> str:
    """A value of a condition or fact."""
    if record.get("text") is not None:
        return _quote(record["text"])
    if record.get("number") is not None:
        return print_number(record["number"])
    if record.get("decimal") is not None:
        return str(record["decimal"])
    if record.get("json") is not None:
        return "".join(_escape(c) if _is_escaped(c) else c for c in record["json"])
    if record.get("digest") is not None:
        return f'digest("{encode_base64url(record["digest"])}")'
    return "true" if record["truth"] else "false"


def print_condition(record: Record) -> str:
    """A condition."""
    term = print_path(record["path"]) + ("?" if record.get("optional") else "")
    accessor = record.get("accessor", 0)
    if accessor:
        known = accessor in frozenset(Accessor)
        term = f"{Accessor(accessor).name.lower() if known else f'?{accessor}'}({term})"
    if record.get("each"):
        term = f"each({term})"
    if record.get("any"):
        term = f"any({term})"
    operator = record["operator"]
    word = OPERATORS.get(operator, f"?{operator}")
    if operator in (Operator.PRESENT, Operator.ABSENT):
        return f"{term} {word}"
    if record.get("fact"):
        return f"{term} {word} session.{record['fact']}"
    values = [print_value(v) for v in record.get("values", ())]
    single = len(values) == 1 and operator not in _LISTS
    return f"{term} {word} {values[0] if single else '[' + ', '.join(values) + ']'}"


def _print_segment(record: Record) -> str:
    kind, texts = record["kind"], [_literal(t) for t in record.get("texts", ())]
    if kind == Kind.LITERAL:
        return texts[0]
    if kind == Kind.PREFIX:
        return texts[0] + "*"
    if kind == Kind.ONE_OF:
        return "{" + ",".join(texts) + "}"
    return {Kind.ANY: "*", Kind.REST: "**"}.get(kind, f"?{kind}")


def _print_needs(record: Record) -> str:
    parts = []
    approval, budget = record.get("approval"), record.get("budget")
    if approval is not None:
        keys = [_quote(encode_base64url(key)) for key in approval["keys"]]
        parts.append(f"approval({', '.join([str(approval['threshold']), *keys])})")
    if record.get("uses"):
        parts.append(f"uses({record['uses']})")
    if budget is not None:
        unit = [_quote(budget["unit"])] if budget.get("unit") else []
        items = [_quote(budget["name"]), print_number(budget["limit"]), *unit, print_path(budget["amount"])]
        parts.append(f"budget({', '.join(items)})")
    return ", ".join(parts)


def _has_no_arguments(record: Record) -> bool:
    """Return True for the one condition of 6.5, with nothing free."""
    if len(record.get("where", ())) != 1 or record.get("free") or record.get("free_all"):
        return False
    (only,) = record["where"]
    path = only["path"]
    return only["operator"] == Operator.ABSENT and (path["source"], list(path["segments"])) == (1, ["_"])


def print_scope(record: Record) -> str:
    """A scope."""
    text = "except " if record.get("exception") else ""
    text += ",".join(record["actions"]) + ":" + "/".join(map(_print_segment, record["resource"]))
    if _has_no_arguments(record):
        text += " where no arguments"
    elif record.get("where"):
        text += " where " + print_conditions(record["where"])
    if record.get("free_all"):
        text += " free *"
    elif record.get("free"):
        text += " free " + ", ".join(map(print_path, record["free"]))
    if record.get("needs") is not None:
        text += " needs " + _print_needs(record["needs"])
    return text


def print_conditions(records: Sequence[Record]) -> str:
    """Conditions that must all hold."""
    return " and ".join(map(print_condition, records))
