"""Reads scope and condition text (the EBNF of section 11 of the format) into wire dicts.

It builds the structure and leaves the rules of sections 5 and 6 to ``forms.py``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .constants import Accessor, Kind, Operator, Source
from .json_values import number as exact_number
from .model import BILLION
from .scope_text import OPERATORS
from .text import decode_base64url

_ACTIONS = re.compile(r"(?:\*|[A-Za-z0-9_.-]+)(?:,(?:\*|[A-Za-z0-9_.-]+))*:")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_BARE = re.compile(r"[^ \"/,*{}]+")
_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_FACT = re.compile(r"session\.([A-Za-z_][A-Za-z0-9_]*)")
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?")
_INT = re.compile(r"[1-9][0-9]*")
_SPACE = re.compile(r" +")
_RELATION = re.compile(r"not +in(?= )|subset_of|starts_with|present|absent|under|glob|cidr|in|[=!<>]=|[<>]")
_ACCESSOR = re.compile(r"(count|host|scheme|port)\(")
_BY_WORD = {word: operator for operator, word in OPERATORS.items()}
_SOURCES = {"args": Source.ARGS, "session": Source.SESSION, "tool": Source.TOOL}


class BadScopeText(ValueError):
    """The text does not follow the grammar."""


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
        names = [self.name()]
        while self.skip("."):
            names.append(self.name())
        source = Source.ARGS
        if not quoted and len(names) > 1 and names[0] in _SOURCES:
            source = _SOURCES[names.pop(0)]
        return {"source": int(source), "segments": names}

    def number(self) -> dict[str, int]:
        sign, whole, fraction, exponent = self.need(_NUMBER, "a number").groups()
        billionths = exact_number(sign, whole, fraction or "", int(exponent or 0))
        if not isinstance(billionths, int):
            raise BadScopeText("a number is no value")
        units, nanos = divmod(billionths, BILLION)
        return {"units": units, "nanos": nanos}

    def value(self) -> dict[str, Any]:
        if self.text.startswith('"', self.at):
            return {"text": self.string()}
        for word, truth in (("true", True), ("false", False)):
            if self.skip(word):
                return {"truth": truth}
        return {"number": self.number()}

    def values(self) -> list[dict[str, Any]]:
        if not self.skip("["):
            return [self.value()]
        values = [self.value()]
        while self.comma():
            values.append(self.value())
        self.take("]")
        return values

    def condition(self) -> dict[str, Any]:
        record: dict[str, Any] = {"each": self.skip("each(")}
        accessor = self.match(_ACCESSOR)
        record["accessor"] = int(Accessor[accessor[1].upper()]) if accessor else 0
        record["path"] = self.path()
        record["optional"] = self.skip("?")
        for opened in (accessor is not None, record["each"]):
            if opened:
                self.take(")")
        self.need(_SPACE, "white space")
        operator = _BY_WORD[_SPACE.sub(" ", self.need(_RELATION, "a relation")[0])]
        record["operator"] = int(operator)
        if operator in (Operator.PRESENT, Operator.ABSENT):
            return record
        self.need(_SPACE, "white space")
        fact = self.match(_FACT)
        record.update({"fact": fact[1]} if fact else {"values": self.values()})
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
        actions = self.need(_ACTIONS, "actions")[0][:-1].split(",")
        record: dict[str, Any] = {"actions": actions, "resource": [self.segment()]}
        while self.skip("/"):
            record["resource"].append(self.segment())
        record["where"] = self.conditions() if self.keyword("where") else []
        if self.keyword("free"):
            if self.skip("*"):
                record["free_all"] = True
            else:
                record["free"] = [self.path()]
                while self.comma():
                    record["free"].append(self.path())
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
