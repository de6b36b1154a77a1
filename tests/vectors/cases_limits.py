"""Chains and requests that stand exactly at a limit of section 12, and are accepted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracle.constants import Reason
from tests.support.token_forger import Record, key
from tests.vectors.world import Case, allowed, ask, at_block, case, child, root, token

READ = "read:files/*"


def cases() -> Iterator[Case]:
    """The part of ``valid.json`` that stands at limits."""
    text = "x" * 1024
    yield case("limit: 8192 bytes", "The largest token.", allowed(), root(READ), *_padding())
    yield case(
        "limit: label of 1024 bytes", "The longest string.", allowed(), root(READ, label="\u00e9" * 512)
    )
    yield case("limit: times of 2^53 - 1", "The last moment.", allowed(), root(READ, expires_at_ms=2**53 - 1))
    yield case(
        "limit: 16 audiences, sources, peers",
        "The longest lists.",
        allowed(),
        root(
            READ,
            audience=[*(f"a{n}" for n in range(15)), "gateway"],
            peer=[f"p{n}" for n in range(16)],
            source=[f"10.0.{n}.0/24" for n in range(16)],
        ),
        request=ask(source="10.0.15.255", peer=("p15",)),
    )
    yield case("limit: 64 scopes", "The last of them matches.", allowed(0, 63), root(*["a:b"] * 63, READ))
    yield case(
        "limit: 16 actions of 64 characters",
        "The longest action.",
        allowed(),
        root(_scope(actions=[*(f"a{n}" for n in range(15)), "r" * 64])),
        request=ask("r" * 64, "a"),
    )
    yield case(
        "limit: 32 segments",
        "The longest resource.",
        allowed(),
        root(_scope(resource=[{"kind": 2}] * 32)),
        request=ask(resource="/".join("a" * 32)),
    )
    yield case(
        "limit: resource of 1024 bytes",
        "The longest segment.",
        allowed(),
        root(_scope(resource=[_segment(1, text)])),
        request=ask(resource=text),
    )
    yield case(
        "limit: 32 texts of a segment",
        "The last of them matches.",
        allowed(),
        root(_scope(resource=[_segment(4, *(f"t{n}" for n in range(32)))])),
        request=ask(resource="t31"),
    )
    yield case(
        "prefix that looks like dots",
        "A PREFIX text may be . or .., since no segment is.",
        allowed(),
        root(_scope(resource=[_segment(3, "..")])),
        request=ask(resource="..."),
    )
    yield case(
        "limit: 16 conditions",
        "The last of them fails.",
        at_block(Reason.CONDITION_FAILED, 0, 0, 15, "b"),
        root("read:** where " + " and ".join(["a? == 1"] * 15 + ["b == 1"])),
    )
    yield case(
        "limit: 64 free paths of 8 segments",
        "The last of them is used.",
        allowed(),
        root(_scope(free=[_path(*"abcdefg", f"n{n}") for n in range(64)])),
        request=ask(resource="a", arguments='{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"n63":0}}}}}}}}'),
    )
    yield case(
        "limit: 64 values",
        "The last of them is equal.",
        allowed(),
        root("read:** where a in [" + ", ".join(map(str, range(64))) + "]"),
        request=ask(arguments='{"a": 63}'),
    )
    yield case(
        "limit: value of 1024 bytes",
        "The longest text value.",
        allowed(),
        root(f'read:** where a == "{text}"'),
        request=ask(arguments=f'{{"a": "{text}"}}'),
    )
    yield case(
        "limit: glob and path of 1024 bytes",
        "The longest pattern and path.",
        allowed(),
        root(f'read:** where a glob "{text}" and a under "{text}"'),
        request=ask(arguments=f'{{"a": "{text}"}}'),
    )
    yield case(
        "path of 1025 bytes",
        "No clean path.",
        at_block(Reason.CONDITION_FAILED, 0, 0, 0, "a"),
        root('read:** where a under "x"'),
        request=ask(arguments=f'{{"a": "x/{"y" * 1023}"}}'),
    )
    yield case(
        "limit: 16 approval keys",
        "The threshold is all of them.",
        at_block(Reason.APPROVAL_REQUIRED, 0, 0),
        root(_scope(needs={"approval": {"threshold": 16, "keys": [key(f"k{n}").public for n in range(16)]}})),
        request=ask(resource="a"),
    )
    yield case(
        "limit: uses of 64 bits",
        "The largest number of uses.",
        at_block(Reason.NEEDS_SERVER, 0, 0),
        root(_scope(needs={"uses": 2**64 - 1})),
        request=ask(resource="a"),
    )
    yield case(
        "limit: smallest budget",
        "A billionth.",
        at_block(Reason.NEEDS_SERVER, 0, 0),
        root(_scope(needs={"budget": {"name": "b", "limit": {"nanos": 1}, "amount": _path("n")}})),
        request=ask(resource="a"),
    )
    yield case(
        "limit: unknown kind of 32 texts",
        "Held to counts only.",
        at_block(Reason.UNKNOWN_KIND, 0, 0),
        root(_scope(resource=[_segment(2**31 - 1, *["a/*"] * 32)])),
    )
    yield from _json_limits()


def _padding() -> list[Record]:
    """Children that fill a chain up to exactly 8192 bytes."""
    full = [*(child(label="x" * 1024) for _ in range(6)), child(label="x" * 500)]
    room = 8192 - len(token(root(READ), *full, child(label="x" * 500)))
    return [*full, child(label="x" * (500 + room))]


def _json_limits() -> Iterator[Case]:
    open_root = root("read:**")
    deep = "[" * 31 + "]" * 31
    for name, arguments in [
        ("32 levels", f'{{"a": {deep}}}'),
        ("10,000 values", '{"a": [' + "1," * 9_997 + "1]}"),
        ("white space around", ' \t\r\n{ "a" : [ 1 , 2 ] } \n'),
        ("every escape", r'{"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00": 1}'),
        ("a null character in a text", r'{"a": "\u0000"}'),
        ("a number that is no value", '{"a": 1e999999999999999999999}'),
        ("noncharacters", '{"a": "\uffff\u007f"}'),
    ]:
        yield case(
            f"JSON: {name}",
            "Arguments within the limits.",
            allowed(),
            open_root,
            request=ask(arguments=arguments),
        )


def _scope(**fields: Any) -> Record:
    return {"actions": ["*"], "resource": [{"kind": 2}], **fields}


def _segment(kind: int, *texts: str) -> Record:
    return {"kind": kind, "texts": list(texts)}


def _path(*segments: str) -> Record:
    return {"source": 1, "segments": list(segments)}
