"""Reads scope and condition text (the EBNF of section 11 of the format) into wire dicts.

It builds the structure and leaves the rules of sections 5 and 6 to ``forms.py``.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from .canonical import NoForm, canonical_decimal, form, form_digest
from .constants import Accessor, Kind, Operator, Source
from .json_values import NUMBER, number_of, parse_object
from .model import BILLION
from .scope_text import OPERATORS
from .text import decode_base64url

_ACTIONS = re.compile(r"(?:\*|[A-Za-z0-9_.-]+)(?:,(?:\*|[A-Za-z0-9_.-]+))*:")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_BARE = re.compile(r"[^ \"/,*{}]+")
_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_FACT = re.compile(r"session\.([A-Za-z_][A-Za-z0-9_]*)")
_NO_ARGUMENTS = re.compile(r"no +arguments(?= |\Z)")
_INT = re.compile(r"[1-9][0-9]*")
_SPACE = re.compile(r" +")
_EXCEPT = re.compile(r"except +")
_RELATION = re.compile(
    r"not +(?:in|starts_with|glob|under|cidr)(?= )|"
    r"subset_of|starts_with|present|absent|under|glob|cidr|in|[=!<>]=|[<>]"
)
_ACCESSOR = re.compile(r"(count|host|scheme|port|path|domain|length)\(")
# Behind these a bracket begins an array.
_OF_ONE = (*(1, 2), *(5, 6, 7, 8))
_EQUALITY = (Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN, Operator.NOT_IN, Operator.SUBSET_OF)
_BY_WORD = {word: operator for operator, word in OPERATORS.items()}
_SOURCES = {"args": Source.ARGS, "session": Source.SESSION, "tool": Source.TOOL}


class BadScopeText(ValueError):
    """The text does not follow the grammar."""


def _as_json(value: object) -> dict[str, Any]:
    """A JSON value as ``json`` or, if that is too long, as ``digest``."""
    try:
        text = form(value)
    except NoForm as error:
        raise BadScopeText("a number is no value") from error
    return {"json": text} if len(text.encode("utf-8")) <= 1024 else {"digest": form_digest(text)}


def _alike(values: list[dict[str, Any]], operator: int) -> list[dict[str, Any]]:
    """Make long texts JSON values, and beside one JSON value all others too."""
    if operator not in _EQUALITY:
        return values
    values = [_as_json(v["text"]) if len(v.get("text", "").encode("utf-8")) > 1024 else v for v in values]
    types = {"number" if "decimal" in v else next(iter(v)) for v in values}
    if len(types) == 1 and not types & {"json", "digest"}:
        return values
    return [v if "json" in v or "digest" in v else _as_json(_plain(v)) for v in values]


def _plain(record: dict[str, Any]) -> object:
    if "number" in record:
        return record["number"]["units"] * BILLION + record["number"]["nanos"]
    if "decimal" in record:
        return number_of(NUMBER.fullmatch(record["decimal"]))  # type: ignore[arg-type]
    return record.get("text", record.get("truth"))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def need(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = self.match(pattern)
        if match is None:
            raise BadScopeText(f"{what} is missing at character {self.at} of {self.text!r}")
        return match

    def skip(self, word: str) -> bool:
        if not self.text.startswith(word, self.at):
            return False
        self.at += len(word)
        return True

    def take(self, word: str) -> None:
        if not self.skip(word):
            raise BadScopeText(f"{word!r} is missing at character {self.at} of {self.text!r}")

    def keyword(self, word: str) -> bool:
        """White space, a word, white space: all of it or nothing."""
        match = re.compile(rf" +{word} +").match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match is not None

    def comma(self) -> bool:
        found = self.skip(",")
        if found:
            self.match(_SPACE)
        return found

    def end(self) -> None:
        if self.at != len(self.text):
            raise BadScopeText(f"{self.text[self.at :]!r} is left over")

    def string(self) -> str:
        return str(json.loads(self.need(_STRING, "a string")[0]))

    def literal(self) -> str:
        return self.string() if self.text.startswith('"', self.at) else self.need(_BARE, "a segment")[0]

    def segment(self) -> dict[str, Any]:
        if self.skip("**"):
            return {"kind": int(Kind.REST), "texts": []}
        if self.skip("*"):
            return {"kind": int(Kind.ANY), "texts": []}
        if self.skip("{"):
            texts = [self.literal()]
            while self.skip(","):
                texts.append(self.literal())
            self.take("}")
            return {"kind": int(Kind.ONE_OF), "texts": texts}
        text = self.literal()
        return {"kind": int(Kind.PREFIX if self.skip("*") else Kind.LITERAL), "texts": [text]}

    def name(self) -> str:
        return self.string() if self.text.startswith('"', self.at) else self.need(_IDENT, "a name")[0]

    def path(self) -> dict[str, Any]:
        quoted = self.text.startswith('"', self.at)
        steps = ["." + self.name()]
        while True:
            if self.skip("[]"):
                steps.append("[]")
            elif self.skip("."):
                steps.append("." + self.name())
            else:
                break
        source = Source.ARGS
        if not quoted and len(steps) > 1 and steps[0][1:] in _SOURCES and steps[1] != "[]":
            source = _SOURCES[steps.pop(0)[1:]]
        if "[]" not in steps:
            return {"source": int(source), "segments": [step[1:] for step in steps]}
        if source != Source.ARGS:
            raise BadScopeText("only arguments have elements")
        return {"source": int(Source.ELEMENTS), "segments": steps}

    def number(self) -> dict[str, int]:
        billionths = number_of(self.need(NUMBER, "a number"))
        if not isinstance(billionths, int):
            raise BadScopeText("not a Number")
        units, nanos = divmod(billionths, BILLION)
        return {"units": units, "nanos": nanos}

    def value(self) -> dict[str, Any]:
        if self.text.startswith('"', self.at):
            return {"text": self.string()}
        for word, truth in (("true", True), ("false", False)):
            if self.skip(word):
                return {"truth": truth}
        if self.skip("digest("):
            digest = decode_base64url(self.string())
            self.take(")")
            return {"digest": digest}
        if self.skip("null"):
            return {"json": "null"}
        if self.text.startswith(("[", "{"), self.at):
            return self.container()
        mark = self.at
        exact = number_of(self.need(NUMBER, "a number"))
        if isinstance(exact, Decimal):
            return {"decimal": canonical_decimal(exact)}
        self.at = mark
        return {"number": self.number()}

    def container(self) -> dict[str, Any]:
        """A JSON object or array."""
        try:
            _, end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(self.text, self.at)
            part = self.text[self.at : end]
            self.at = end
            return _as_json(parse_object(b'{"v":' + part.encode("utf-8") + b"}")["v"])
        except (ValueError, RecursionError) as error:
            raise BadScopeText("no JSON value") from error

    def values(self, operator: int) -> list[dict[str, Any]]:
        if operator in _OF_ONE or not self.skip("["):
            return [self.value()]
        values = [self.value()]
        while self.comma():
            values.append(self.value())
        self.take("]")
        return values

    def condition(self) -> dict[str, Any]:
        record: dict[str, Any] = {"each": self.skip("each("), "any": self.skip("any(")}
        if record["each"] and record["any"]:
            raise BadScopeText("each and any exclude each other")
        accessor = self.match(_ACCESSOR)
        record["accessor"] = int(Accessor[accessor[1].upper()]) if accessor else 0
        record["path"] = self.path()
        record["optional"] = self.skip("?")
        for opened in (accessor is not None, record["each"] or record["any"]):
            if opened:
                self.take(")")
        self.need(_SPACE, "white space")
        operator = _BY_WORD[_SPACE.sub(" ", self.need(_RELATION, "a relation")[0])]
        record["operator"] = int(operator)
        if operator in (Operator.PRESENT, Operator.ABSENT):
            return record
        self.need(_SPACE, "white space")
        fact = self.match(_FACT)
        record.update({"fact": fact[1]} if fact else {"values": _alike(self.values(operator), operator)})
        return record

    def conditions(self) -> list[dict[str, Any]]:
        records = [self.condition()]
        while self.keyword("and"):
            records.append(self.condition())
        return records

    def need_item(self, needs: dict[str, Any]) -> str:
        if self.skip("uses("):
            kind, needs["uses"] = "uses", int(self.need(_INT, "a number of uses")[0])
        elif self.skip("approval("):
            kind = "approval"
            approval: dict[str, Any] = {"threshold": int(self.need(_INT, "a threshold")[0]), "keys": []}
            while self.comma():
                approval["keys"].append(decode_base64url(self.string()))
            needs["approval"] = approval
        else:
            self.take("budget(")
            kind = "budget"
            budget: dict[str, Any] = {"name": self.string()}
            self.take(",")
            self.match(_SPACE)
            budget["limit"] = self.number()
            self.take(",")
            self.match(_SPACE)
            # A quoted word is the unit where a path follows it, else the path itself.
            mark = self.at
            budget["amount"] = self.path()
            if self.comma():
                after, self.at = self.at, mark
                budget["unit"] = self.string()
                self.at = after
                budget["amount"] = self.path()
            needs["budget"] = budget
        self.take(")")
        return kind

    def scope(self) -> dict[str, Any]:
        exception = self.match(_EXCEPT) is not None
        actions = self.need(_ACTIONS, "actions")[0][:-1].split(",")
        record: dict[str, Any] = {"actions": actions, "resource": [self.segment()], "exception": exception}
        while self.skip("/"):
            record["resource"].append(self.segment())
        record["where"] = []
        if self.keyword("where"):
            if self.match(_NO_ARGUMENTS):
                path = {"source": int(Source.ARGS), "segments": ["_"]}
                record["where"] = [{"path": path, "operator": int(Operator.ABSENT)}]
                return self.with_needs(record)
            record["where"] = self.conditions()
        if self.keyword("free"):
            if self.skip("*"):
                record["free_all"] = True
            else:
                record["free"] = [self.path()]
                while self.comma():
                    record["free"].append(self.path())
        return self.with_needs(record)

    def with_needs(self, record: dict[str, Any]) -> dict[str, Any]:
        if self.keyword("needs"):
            record["needs"] = {}
            kinds = [self.need_item(record["needs"])]
            while self.comma():
                kinds.append(self.need_item(record["needs"]))
            if len(set(kinds)) != len(kinds):
                raise BadScopeText("a need is stated twice")
        return record


def read_scope(text: str) -> dict[str, Any]:
    """The wire dict of a scope. Raises BadScopeText."""
    reader = _Reader(text)
    record = reader.scope()
    reader.end()
    return record


def read_conditions(text: str) -> list[dict[str, Any]]:
    """The wire dicts of conditions joined by ``and``. Raises BadScopeText."""
    reader = _Reader(text)
    records = reader.conditions()
    reader.end()
    return records
