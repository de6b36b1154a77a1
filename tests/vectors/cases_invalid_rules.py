"""Blocks that are encoded and signed rightly and break a rule of sections 4 to 7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracle.constants import Reason
from tests.support.token_forger import Record, key
from tests.vectors.world import EXPIRES, ISSUED, NOW, Case, case, child, refused, root

MALFORMED = refused(Reason.MALFORMED_TOKEN)
READ = "read:files/*"
TOO_LATE = 2**53
LONG = "x" * 1025


def cases() -> Iterator[Case]:
    """The rule-breaking part of ``invalid.json``."""
    for name, block in _roots():
        yield case(f"root: {name}", "A rule of section 4.", MALFORMED, block)
    for name, block in _children():
        yield case(
            f"child: {name}",
            "A rule of section 4.",
            MALFORMED,
            root(READ, not_before_ms=ISSUED, max_blocks=8),
            block,
        )
    for name, record in _scopes():
        yield case(f"scope: {name}", "A rule of section 5.", MALFORMED, root(record))
    for name, record in _conditions():
        in_scope = {"actions": ["read"], "resource": [{"kind": 2}], "where": [record]}
        yield case(f"condition: {name}", "A rule of section 6.", MALFORMED, root(in_scope))
    record = _condition(values=[])
    yield case("where of a child", "A rule of section 6.", MALFORMED, root(READ), child(conditions=[record]))
    yield case(
        "seventeen conditions of a block", "A limit.", MALFORMED, root(READ, where=[_condition()] * 17)
    )


def _lists(name: str, good: str, bad: list[str]) -> Iterator[tuple[str, Record]]:
    """Yield the faults that all lists of texts in a block share."""
    yield f"{name} twice the same", {name: [good, good]}
    yield f"17 of {name}", {name: [good.replace("1", str(n + 1)) for n in range(17)]}
    for text in bad:
        yield f"{name} {text!r}"[:50], {name: [text]}


_TEXTS = ["", "a\x00", "a\x1f", "a\x7f", "a\u0085", LONG]
_CIDRS = [
    "",
    "10.0.0.0",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/08",
    "10.0.0.0/+8",
    "10.0.0.1/8",
    "010.0.0.0/8",
    "10.0.0/8",
    "10.0.0.256/32",
    "::1/129",
    "::1/64",
    "fe80::%eth0/64",
    "1::2::3/128",
    "::ffff:10.0.0.0/104",
    "::ffff:0:0/96",
    "[::]/0",
    "12345::/16",
    "10.0.0.0/8 ",
    "10.0.0.0/8/8",
    "::/00",
    "1.2.3.4/\u0663\u0662",
]


def _roots() -> Iterator[tuple[str, Record]]:
    yield "no root", root(READ, root=None)
    for name, size in (("issuer_key_id", 32), ("session_id", 16), ("token_id", 16)):
        for wrong in (0, size - 1, size + 1):
            yield f"{name} of {wrong} bytes", root(READ, root_fields={name: bytes([5] * wrong)})
    yield "no issued_at", root(READ, issued_at_ms=None)
    yield "no expires_at", root(READ, expires_at_ms=None)
    yield "expires with issue", root(READ, issued_at_ms=ISSUED, expires_at_ms=ISSUED)
    yield "expires before issue", root(READ, issued_at_ms=NOW, expires_at_ms=ISSUED)
    for name in ("issued_at_ms", "expires_at_ms", "not_before_ms"):
        late: Record = {name: TOO_LATE}
        yield f"{name} of 2^53", root(READ, **late)
    yield "no audience", root(READ, audience=None)
    yield "max_blocks 17", root(READ, max_blocks=17)
    yield "max_blocks of 32 bits", root(READ, max_blocks=2**32 - 1)
    yield "label with a control character", root(READ, label="a\n")
    yield "label too long", root(READ, label=LONG)
    yield "65 scopes", root(*[{"actions": ["a"], "resource": [{"kind": 2}]}] * 65)
    for _name, fields in (
        *_lists("audience", "a1", _TEXTS),
        *_lists("peer", "a1", _TEXTS),
        *_lists("source", "10.0.0.1/32", _CIDRS),
    ):
        yield _name, root(READ, **fields)


def _children() -> Iterator[tuple[str, Record]]:
    yield "a root", child(root=root()["root"])
    yield "issued before", child(issued_at_ms=ISSUED - 1)
    yield "expires after", child(expires_at_ms=EXPIRES + 1)
    yield "expires with the issue above", child(expires_at_ms=ISSUED)
    yield "expires with its own issue", child(issued_at_ms=NOW, expires_at_ms=NOW)
    yield "not before earlier", child(not_before_ms=ISSUED - 1)
    yield "max_blocks larger", child(max_blocks=9)
    yield "time of 2^53", child(not_before_ms=TOO_LATE)
    yield "source twice", child(source=["10.0.0.0/8", "10.0.0.0/8"])
    yield "an empty audience text", child(audience=[""])


def _scope(**fields: Any) -> Record:
    return {"actions": ["read"], "resource": [{"kind": 1, "texts": ["files"]}], **fields}


def _segment(kind: int, *texts: str) -> Record:
    return _scope(resource=[{"kind": kind, "texts": list(texts)}])


def _scopes() -> Iterator[tuple[str, Record]]:
    yield "no action", _scope(actions=[])
    yield "17 actions", _scope(actions=[f"a{n}" for n in range(17)])
    yield "action twice", _scope(actions=["a", "b", "a"])
    yield "star among actions", _scope(actions=["*", "a"])
    for action in ("", "a b", "a/b", "a*", "caf\u00e9", "a" * 65, "a\n"):
        yield f"action {action!r}"[:40], _scope(actions=[action])
    yield "no resource", _scope(resource=[])
    yield "33 segments", _scope(resource=[{"kind": 2}] * 33)
    yield "segment without a kind", _scope(resource=[{"texts": ["a"]}])
    yield "rest not last", _scope(resource=[{"kind": 5}, {"kind": 2}])
    yield "literal of no text", _segment(1)
    yield "literal of two texts", _segment(1, "a", "b")
    yield "any with a text", _segment(2, "a")
    yield "prefix of no text", _segment(3)
    yield "prefix of two texts", _segment(3, "a", "b")
    yield "one_of of one text", _segment(4, "a")
    yield "one_of twice the same", _segment(4, "a", "a")
    yield "one_of of 33 texts", _segment(4, *(f"t{n}" for n in range(33)))
    yield "rest with a text", _segment(5, "a")
    yield "unknown kind of 33 texts", _segment(6, *(["a"] * 33))
    yield "unknown kind, long text", _segment(6, LONG)
    for text in ("", ".", "..", "a/b", "a\\b", "a*", "{a", "a}", "a%2f", "a%FF", "a\x00", "a\u009f", LONG):
        yield f"literal {text!r}"[:40], _segment(1, text)
        if text not in (".", ".."):
            yield f"prefix {text!r}"[:40], _segment(3, text)
        yield f"one_of {text!r}"[:40], _segment(4, "ok", text)
    args = {"source": 1, "segments": ["a"]}
    yield "17 conditions", _scope(where=[_condition()] * 17)
    yield "65 free paths", _scope(free=[{"source": 1, "segments": [f"a{n}"]} for n in range(65)])
    yield "free path twice", _scope(free=[args, args])
    yield "an exception in a token", _scope(exception=True)
    yield "free path of the session", _scope(free=[{"source": 2, "segments": ["a"]}])
    yield "free path of the tool", _scope(free=[{"source": 3, "segments": ["a"]}])
    yield "free path without a source", _scope(free=[{"segments": ["a"]}])
    yield "free and free_all", _scope(free=[args], free_all=True)
    yield from _needs(args)


def _needs(args: Record) -> Iterator[tuple[str, Record]]:
    keys = [key(f"approver {n}").public for n in range(17)]
    one = {"units": 1}
    good = {"name": "money", "limit": one, "amount": args}
    for name, needs in [
        ("empty", {}),
        ("empty approval", {"approval": {}}),
        ("threshold 0", {"approval": {"keys": keys[:2]}}),
        ("threshold beyond the keys", {"approval": {"threshold": 3, "keys": keys[:2]}}),
        ("approval without keys", {"approval": {"threshold": 1}}),
        ("17 approval keys", {"approval": {"threshold": 1, "keys": keys}}),
        ("approval key twice", {"approval": {"threshold": 1, "keys": [keys[0], keys[0]]}}),
        ("approval key of 31 bytes", {"approval": {"threshold": 1, "keys": [keys[0][:31]]}}),
        ("empty budget", {"budget": {}}),
        ("budget without a name", {"budget": {**good, "name": ""}}),
        ("budget without a limit", {"budget": {**good, "limit": None}}),
        ("budget of 0", {"budget": {**good, "limit": {}}}),
        ("budget below 0", {"budget": {**good, "limit": {"units": -1, "nanos": 999_999_999}}}),
        ("budget limit with 10^9 nanos", {"budget": {**good, "limit": {"nanos": 10**9}}}),
        ("budget without an amount", {"budget": {**good, "amount": None}}),
        ("budget of a fact", {"budget": {**good, "amount": {"source": 2, "segments": ["a"]}}}),
        ("budget unit with a control character", {"budget": {**good, "unit": "E\t"}}),
        ("budget name too long", {"budget": {**good, "name": LONG}}),
    ]:
        yield f"needs: {name}", _scope(needs=needs)


def _condition(**fields: Any) -> Record:
    return {"path": {"source": 1, "segments": ["a"]}, "operator": 1, "values": [{"text": "x"}], **fields}


def _texts(*texts: str) -> list[Record]:
    return [{"text": text} for text in texts]


def _path(source: int, *segments: str) -> Record:
    return _condition(path={"source": source, "segments": list(segments)})


def _conditions() -> Iterator[tuple[str, Record]]:
    number, truth = {"number": {"units": 1}}, {"truth": True}
    yield "no path", _condition(path=None)
    yield "empty path", _condition(path={})
    yield "path without a source", _path(0, "a")
    yield "path without segments", _path(1)
    yield "path of 9 segments", _path(1, *"abcdefghi")
    yield "path with an empty segment", _path(1, "a", "")
    yield "path with a long segment", _path(1, LONG)
    yield "session path of 2 segments", _path(2, "a", "b")
    yield "unknown source of 9 segments", _path(7, *"abcdefghi")
    yield "no operator", _condition(operator=0)
    yield "values of two types", _condition(operator=3, values=[number, truth])
    yield "long text value", _condition(values=_texts(LONG))
    yield "65 values", _condition(operator=3, values=_texts(*(f"v{n}" for n in range(65))))
    for operator in (*range(1, 14), 19, 20, 21, 22):
        yield f"operator {operator} without values", _condition(operator=operator, values=[])
    for operator in (1, 2, 5, 6, 7, 8):
        yield f"operator {operator} with two values", _condition(operator=operator, values=_texts("x", "y"))
    for operator in (5, 6, 7, 8, 9, 10, 11, 12, 19, 20, 21, 22):
        yield f"operator {operator} with a truth", _condition(operator=operator, values=[truth])
    for operator in (9, 10, 11, 12, 19, 20, 21, 22):
        yield f"operator {operator} with a number", _condition(operator=operator, values=[number])
    for operator in (3, 4, 10, 12, 13, 14, 15, 20, 22):
        yield f"operator {operator} with a fact", _condition(operator=operator, values=[], fact="f")
    for operator in (3, 4, 13):
        yield f"operator {operator}, a value twice", _condition(operator=operator, values=_texts("x", "x"))
    for operator in (14, 15):
        bare = {"operator": operator, "values": []}
        yield f"operator {operator} with a value", _condition(operator=operator)
        yield f"operator {operator} with each", _condition(**bare, each=True)
        yield f"operator {operator} with any", _condition(**bare, any=True)
        yield f"operator {operator} optional", _condition(**bare, optional=True)
        yield f"operator {operator} with an accessor", _condition(**bare, accessor=1)
        yield f"operator {operator} with an unknown accessor", _condition(**bare, accessor=9)
    yield "subset_of with an accessor", _condition(operator=13, accessor=1)
    yield "subset_of with each", _condition(operator=13, each=True)
    yield "subset_of with any", _condition(operator=13, any=True)
    yield "each with any", _condition(each=True, any=True)
    yield "fact and values", _condition(fact="f")
    for fact in ("1a", "a-b", "a b", "a" * 65, "\u00e9", "a\n"):
        yield f"fact {fact!r}"[:40], _condition(values=[], fact=fact)
    yield "unknown operator, two types", _condition(operator=99, values=[number, truth])
    yield "unknown operator, 65 values", _condition(operator=99, values=_texts(*["x"] * 65))
    yield "unknown operator, fact and values", _condition(operator=99, fact="f")
    yield "unknown operator, bad fact", _condition(operator=99, values=[], fact="1")
    for glob in ("", "**/a", "a**", "a/b**", "**a", "a/**/b", "***", LONG):
        yield f"glob {glob!r}"[:40], _condition(operator=10, values=_texts(glob))
    for under in ("", "a/", "//", "a//b", "./a", "a/..", "a\\b", "a/%2e", "a\x00", LONG):
        yield f"under {under!r}"[:40], _condition(operator=11, values=_texts(under))
    for cidr in _CIDRS:
        yield f"cidr {cidr!r}", _condition(operator=12, values=_texts(cidr))
    for word, operator, texts in (
        ("glob", 20, ("a**", "")),
        ("under", 21, ("a/", "a/..")),
        ("cidr", 22, _CIDRS[:2]),
    ):
        for text in texts:
            yield f"not {word} {text!r}", _condition(operator=operator, values=_texts(text))
    yield "value without a member", _condition(values=[{}])
    yield from _elements_and_values()


def _elements_and_values() -> Iterator[tuple[str, Record]]:
    """Section 6.1 for paths of elements, section 7 for values."""
    for segments in ((".a",), ("[]",), ("[]", ".a"), (".a", "b", "[]"), (".a", "[]x"), (".a", "[0]", "[]")):
        yield f"elements {'/'.join(segments)}", _path(8, *segments)
    yield "elements of 9 segments", _path(8, ".a", *["[]"] * 8)
    for decimal in (
        "",
        "1",
        "1.50",
        "1e-10 ",
        "1E-10",
        "0.0000000001",
        "1e+0300",
        "+1e300",
        "01e300",
        "1e1000000000",
    ):
        yield f"decimal {decimal!r}", _condition(values=[{"decimal": decimal}])
    for json in (
        "",
        "nul",
        "[1 ]",
        "[1.0]",
        '{"b":1,"a":1}',
        '["\\u0061"]',
        '{"a":1,"a":1}',
        "[1],[1]",
        '1,"w":[]',
        "[1e1000000000]",
    ):
        yield f"json {json!r}", _condition(values=[{"json": json}])
    yield "json of 1025 bytes", _condition(values=[{"json": "[" + "1," * 511 + "11]"}])
    yield "json too deep", _condition(values=[{"json": "[" * 32 + "]" * 32}])
    yield "a text as json", _condition(values=[{"json": '"a"'}])
    yield "numbers as json", _condition(operator=3, values=[{"json": "1"}, {"json": "2"}])
    yield "numbers of both kinds as json", _condition(operator=3, values=[{"json": "1"}, {"json": "1e-10"}])
    yield "digest of 31 bytes", _condition(values=[{"digest": bytes(31)}])
    yield "json beside a text", _condition(operator=3, values=[{"json": "null"}, {"text": "a"}])
    yield "json twice", _condition(operator=3, values=[{"json": "null"}, {"json": "null"}])
    yield "json and an accessor", _condition(values=[{"json": "null"}], accessor=1)
    yield (
        "json and a fact's path",
        _condition(path={"source": 2, "segments": ["a"]}, values=[{"json": "null"}]),
    )
    for operator in (5, 6, 7, 8, 9, 10, 11, 12, 14):
        yield f"operator {operator} with json", _condition(operator=operator, values=[{"json": "null"}])
    yield "decimal twice", _condition(operator=3, values=[{"decimal": "1e-10"}, {"decimal": "1e-10"}])
