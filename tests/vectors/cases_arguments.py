"""Arguments: their canonical form, from JSON and from values, or that they have none."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tests.oracle.canonical import canonical, of_values
from tests.oracle.json_values import BadJson
from tests.support.token_forger import Record

# Texts too long to write out: runs of equal parts.
Runs = tuple[tuple[str, int], ...]


def _json() -> Iterator[tuple[str, str, str | bytes | Runs, str | Runs]]:
    """Name, comment, JSON, and the canonical form; empty: it has none."""
    yield "nothing", "No bytes are an empty object.", "", "{}"
    yield "empty object", "White space goes.", " { }\n", "{}"
    yield "white space", "Of all four kinds, wherever it may stand.", '{\t"b" :\r[ 1 , 2 ]\n}', '{"b":[1,2]}'
    yield "sorted", "Members by name, lists as they are.", '{"b":[3,1],"a":1,"":0}', '{"":0,"a":1,"b":[3,1]}'
    yield (
        "prefix first",
        "A name before those that it begins.",
        '{"ab":1,"a":2,"aa":3}',
        '{"a":2,"aa":3,"ab":1}',
    )
    yield (
        "nested",
        "Each object by itself.",
        '{"z":{"b":1,"a":[{"d":1,"c":2}]}}',
        '{"z":{"a":[{"c":2,"d":1}],"b":1}}',
    )
    yield "upper case", "By code unit, not by alphabet.", '{"a":1,"B":2,"_":3}', '{"B":2,"_":3,"a":1}'
    yield (
        "utf-16 order",
        "U+10000 takes the units D800 DC00, which come before U+E000 and U+FFFF and behind U+D7FF.",
        '{"\uffff":1,"\ue000":2,"\U00010000":3,"\ud7ff":4,"\u00e9":5,"\U0010ffff":6}',
        '{"\u00e9":5,"\ud7ff":4,"\U00010000":3,"\U0010ffff":6,"\ue000":2,"\uffff":1}',
    )
    yield (
        "utf-16 order, second unit",
        "The first unit is the same.",
        '{"\U00010401":1,"\U00010400z":2,"\U00010400":3}',
        '{"\U00010400":3,"\U00010400z":2,"\U00010401":1}',
    )
    yield "names unescaped", "Sorted as they read.", '{"\\u0062":1,"a":2}', '{"a":2,"b":1}'
    yield (
        "escapes undone",
        "What needs none stands for itself.",
        '{"a":"\\u0041\\/\\u00e9"}',
        '{"a":"A/\u00e9"}',
    )
    yield "surrogate pair", "One character.", '{"a":"\\ud83d\\ude00"}', '{"a":"\U0001f600"}'
    yield (
        "short escapes",
        "The five that have a letter.",
        '{"a":"\\u0008\\u0009\\u000A\\u000c\\u000D"}',
        '{"a":"\\b\\t\\n\\f\\r"}',
    )
    yield (
        "other controls",
        "Lower case digits.",
        '{"a":"\\u0000\\u001F\\u000B"}',
        '{"a":"\\u0000\\u001f\\u000b"}',
    )
    yield "quote, backslash", "These two stay.", '{"\\"":"\\\\\\u0022\\u005c"}', '{"\\"":"\\\\\\"\\\\"}'
    yield (
        "delete, separators",
        "No escape is needed.",
        '{"a":"\\u007f\\u2028\\u2029\\u0080"}',
        '{"a":"\x7f\u2028\u2029\x80"}',
    )
    yield "not normalised", "Two names.", '{"e\\u0301":1,"\\u00e9":2}', '{"e\u0301":1,"\u00e9":2}'
    yield "words", "As they are.", '{"a":[true,false,null]}', '{"a":[true,false,null]}'
    for number in (
        "0",
        "-0",
        "1.0",
        "1.10",
        "1e5",
        "1E+05",
        "1e-07",
        "-0.0e-0",
        "1E400",
        "9" * 40,
        "0.1" + "0" * 30,
    ):
        yield (
            f"number {number[:9]} of {len(number)}",
            "As it was written.",
            f'{{"n": {number} }}',
            f'{{"n":{number}}}',
        )
    deepest = '{"a":' + "[" * 31 + "]" * 31 + "}"
    yield "deepest", "32 levels.", deepest, deepest
    yield "too deep", "33 levels.", '{"a":' + "[" * 32 + "]" * 32 + "}", ""
    most: Runs = (('{"a":[0', 1), (",0", 9997), ("]}", 1))
    yield "most values", "10,000 of them.", most, most
    yield "too many values", "10,001 of them.", (('{"a":[0', 1), (",0", 9998), ("]}", 1)), ""
    longest: Runs = (('{"a":"', 1), ("x", 1_048_568), ('"}', 1))
    yield "longest", "1,048,576 bytes.", longest, longest
    yield "too long", "One byte more.", (('{"a":"', 1), ("x", 1_048_569), ('"}', 1)), ""
    yield "too long by white space", "What would go counts.", ((" ", 1_048_575), ("{}", 1)), ""
    yield "name twice", "In one object.", '{"a":1,"a":1}', ""
    yield "name twice, escaped", "They read alike.", '{"a":1,"\\u0061":1}', ""
    yield "name twice below", "In any object.", '{"a":[{"b":1,"b":2}]}', ""
    yield "same name in two objects", "That is no repetition.", '{"a":{"a":1}}', '{"a":{"a":1}}'
    for name, text in (
        ("list", "[]"),
        ("number", "1"),
        ("white space alone", " "),
        ("not JSON", "{'a':1}"),
        ("byte order mark", "\ufeff{}"),
        ("something behind", "{} {}"),
        ("comma behind", '{"a":1,}'),
        ("leading zero", '{"a":01}'),
        ("plus", '{"a":+1}'),
        ("no digit behind the point", '{"a":1.}'),
        ("NaN", '{"a":NaN}'),
        ("infinity", '{"a":-Infinity}'),
        ("lone surrogate", '{"a":"\\ud800"}'),
        ("lone low surrogate", '{"a":"\\udc00\\ud800"}'),
        ("control in a string", '{"a":"\n"}'),
        ("unknown escape", '{"a":"\\x41"}'),
        ("cut off", '{"a":"b'),
        ("comment", '{"a":1/**/}'),
    ):
        yield name, "Section 8 refuses it.", text, ""
    yield "no UTF-8", "Section 8 refuses it.", b'{"a":"\xff"}', ""
    yield "overlong", "Section 8 refuses it.", b'{"a":"\xc0\xaf"}', ""
    yield "surrogate as UTF-8", "Section 8 refuses it.", b'{"a":"\xed\xa0\x80"}', ""


def _numbers() -> Iterator[tuple[str, Record, str]]:
    """Comment, a number as a value, and how it is written; empty: it has no canonical form."""
    for whole in ("0", "-1", "9007199254740993", "9223372036854775808", "-" + "9" * 40):
        yield "A whole number has all its digits.", {"whole": whole}, whole
    for comment, bits, text in (
        ("Zero has no sign.", "8000000000000000", "0"),
        ("A whole double has no point.", "3ff0000000000000", "1"),
        ("The shortest digits.", "3fb999999999999a", "0.1"),
        ("Up to 21 digits before the point.", "444b1ae4d6e2ef4f", "999999999999999900000"),
        ("From 1e21 on an exponent.", "444b1ae4d6e2ef50", "1e+21"),
        ("No zero too many.", "4430000000000000", "295147905179352830000"),
        ("Down to 1e-6 no exponent.", "3eb0c6f7a0b5ed8d", "0.000001"),
        ("Below it one.", "3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("The smallest.", "0000000000000001", "5e-324"),
        ("The largest.", "ffefffffffffffff", "-1.7976931348623157e+308"),
        ("The next to the largest whole one that is exact.", "4340000000000001", "9007199254740994"),
        ("Below 1e23.", "44b52d02c7e14af5", "9.999999999999997e+22"),
        ("The double that 1e23 is read as lies below it.", "44b52d02c7e14af6", "1e+23"),
        ("Above 1e23.", "44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("NaN is no number of JSON.", "7ff8000000000000", ""),
        ("Infinity is none.", "7ff0000000000000", ""),
        ("Infinity is none.", "fff0000000000000", ""),
    ):
        yield comment, {"binary64_hex": bits}, text
    for comment, decimal, text in (
        ("Trailing zeros stay.", "1.10", "1.10"),
        ("Zero keeps its sign and digits.", "-0.00", "-0.00"),
        ("A positive exponent is written.", "110E+6", "1.10e+8"),
        ("One digit has no point.", "1E+5", "1e+5"),
        ("Down to 1e-6 no exponent.", "0.000001", "0.000001"),
        ("Below it one.", "1E-7", "1e-7"),
        ("Zeros count as digits.", "0E-7", "0e-7"),
        ("No digit is lost.", "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("Far beyond a double.", "1E+400", "1e+400"),
        ("NaN is no number of JSON.", "NaN", ""),
        ("Infinity is none.", "-Infinity", ""),
    ):
        yield comment, {"decimal": decimal}, text


def read_number(value: Mapping[str, str]) -> int | float | Decimal:
    """The number that a vector of values stands for."""
    if "whole" in value:
        return int(value["whole"])
    if "decimal" in value:
        return Decimal(value["decimal"])
    return float(struct.unpack(">d", bytes.fromhex(value["binary64_hex"]))[0])


def _put(record: Record, name: str, text: str | bytes | Runs) -> bytes:
    """Put a text into a record, as ``vector_files.read_bytes`` reads it; returns its bytes."""
    if isinstance(text, bytes):
        record[name + "_hex"] = text.hex()
        return text
    if isinstance(text, str):
        record[name] = text
        return text.encode()
    record[name + "_runs"] = [list(run) for run in text]
    return "".join(part * times for part, times in text).encode()


def _agree(name: str, expected: bytes | None, make: Callable[[], bytes]) -> None:
    try:
        found: Any = make()
    except BadJson:
        found = None
    if found != expected:
        raise AssertionError(f"{name}: expected {expected!r}, the oracle gives {found!r}")


def content() -> Record:
    """The content of ``arguments.json``."""
    vectors: list[Record] = []
    for name, comment, text, form in _json():
        record: Record = {"name": name, "comment": comment}
        given = _put(record, "arguments", text)
        expected: Record = {}
        _agree(
            name, _put(expected, "canonical", form) if form else None, lambda given=given: canonical(given)
        )
        vectors.append({**record, "expected": expected or {"problem": "malformed"}})
    numbers: list[Record] = []
    for comment, value, text in _numbers():
        wanted = b'{"n":%s}' % text.encode() if text else None
        _agree(str(value), wanted, lambda value=value: of_values({"n": read_number(value)}))
        expected = {"canonical": text} if text else {"problem": "malformed"}
        numbers.append({"comment": comment, "value": value, "expected": expected})
    return {
        "title": "Arguments and their canonical form",
        "format": "docs/token-format.md, version 1",
        "vectors": vectors,
        "numbers": numbers,
    }
