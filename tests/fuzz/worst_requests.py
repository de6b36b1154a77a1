"""Requests that are made to be expensive, one kind of condition each: kernel and oracle decide them alike.

A scope has many conditions on one value, all of which hold: so the clause at which the
work ends is the count. Rows ``worst/...`` of the benchmarks measure the most expensive ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

from sessauth.limits import MAX_TOKEN_BYTES
from tests.oracle.check import check as oracle_check
from tests.oracle.model import OracleRequest
from tests.support import bulk_sessions
from tests.support.compare import kernel_decision
from tests.support.vector_files import read_view
from tests.vectors.world import NOW, VIEWS, ask, root, token

SIZES: Final = (60, 6_000, 50_000)
_SCOPE_CONDITIONS: Final = 15
_MOST_ELEMENTS: Final = 9_000
VIEW: Final = read_view(VIEWS["plain"])[0]


@dataclass(frozen=True, slots=True)
class Kind:
    """A condition on `p` by its number, and the arguments: `elements` of a list, or all of them."""

    condition: Callable[[random.Random, int], str]
    element: Callable[[random.Random, int], Any] | None = None
    arguments: Callable[[random.Random, int], dict[str, Any]] | None = None


def _values(*values: object) -> str:
    return "[" + ", ".join(json.dumps(value) for value in values) + "]"


def _globs(rng: random.Random, length: int, count: int) -> str:
    """Patterns that differ from a text of `a` in one place, and one that matches."""
    places = [rng.randrange(length) for _ in range(count)]
    return _values(*("*" + "a" * place + "b" + "a" * (length - place - 1) + "*" for place in places), "*")


KINDS: Final = {
    "names": Kind(
        lambda rng, i: f"m{i:04}? == 1",
        arguments=lambda rng, size: {f"{rng.choice('mn')}{i:04}": 1 for i in range(size // 10)},
    ),
    "under": Kind(
        lambda rng, i: f"each(p?) under {_values('z', 'a/' * rng.randrange(9) + 'b', 'a')}",
        lambda rng, i: "a/" * rng.choice((1, 3, 60, 511)) + "a",
    ),
    "cidr": Kind(
        lambda rng, i: f"each(p?) cidr {_values('1::/16', '10.0.0.0/8', f'{i + 2:x}::/16', '::/1')}",
        lambda rng, i: rng.choice(("1:2:3:4:5:6:7:8", "10.1.1.1", "2::1", "1::1")),
    ),
    "host": Kind(
        lambda rng, i: f"each(host(p?)) in {_values('h', '::1', 'aa.b', str(i))}",
        lambda rng, i: rng.choice(("HTTP://H", "h://[::1]", "ws://aa.B:1/x", "s://h/" + "x" * 90)),
    ),
    "host-cidr": Kind(
        lambda rng, i: "each(host(p?)) cidr " + _values("::/0", "0.0.0.0/0"),
        lambda rng, i: rng.choice(("h://[::1]", "h://1.2.3.4")),
    ),
    "scheme": Kind(
        lambda rng, i: 'each(scheme(p?)) != "a"', lambda rng, i: "A" * rng.randrange(2, 256) + "://h"
    ),
    "path": Kind(
        lambda rng, i: f"each(path(p?)) not under {_values('/z', '/' + 'a/' * rng.randrange(9) + 'b')}",
        lambda rng, i: "h://h" + "/a" * rng.choice((0, 1, 9, 400)) + rng.choice(("", "?/..", "#;")),
    ),
    "domain": Kind(
        lambda rng, i: f'each(domain(p?)) != "a{i}"',
        lambda rng, i: f"{'a' * rng.randrange(1, 64)}@{'b.' * rng.randrange(99)}H",
    ),
    "length": Kind(
        lambda rng, i: f"each(length(p?)) <= {900 + i}", lambda rng, i: "\u00e9" * rng.choice((1, 90, 900))
    ),
    "not-cidr": Kind(
        lambda rng, i: f"each(p?) not cidr {_values('1::/16', f'{i + 2:x}::/16', '9.0.0.0/8')}",
        lambda rng, i: rng.choice(("::1", "10.1.1.1", "8::1")),
    ),
    "not-glob": Kind(
        lambda rng, i: f"p? not glob {_values(*(f'*x{i}y{k}*' for k in range(40)))}",
        arguments=lambda rng, size: {"p": "a/" * (size // 2)},
    ),
    "port": Kind(
        lambda rng, i: f"each(port(p?)) != {20_000 + i}",
        lambda rng, i: rng.choice(("http://h", f"a://h:{99 + i % 9000}")),
    ),
    "json": Kind(
        lambda rng, i: f'p? != {{"a": {i}}}',
        arguments=lambda rng, size: {"p": {f"n{i}": [i, 1.5] for i in range(size // 20)}},
    ),
    "json-elements": Kind(
        lambda rng, i: f'each(p?) != {{"a": {i}}}', lambda rng, i: rng.choice((1, "x", {"a": -1}))
    ),
    "json-digest": Kind(
        lambda rng, i: f'each(p?) != {{"a": "{"b" * 1100}{i}"}}',
        lambda rng, i: rng.choice((1, {"a": "b" * 50})),
    ),
    "decimal-order": Kind(
        lambda rng, i: "each(p?) < 1.00000000000000000001", lambda rng, i: rng.choice((1, 0.5, 1e-10))
    ),
    "decimal-in": Kind(
        lambda rng, i: f"each(p?) not in [1.{'0' * 12}{i + 1}]", lambda rng, i: float(f"0.{'1' * 14}{i + 1}")
    ),
    "text-order": Kind(lambda rng, i: 'each(p?) < "b"', lambda rng, i: "a" * rng.randrange(1, 40)),
    "glob-elements": Kind(
        lambda rng, i: f"each(p?) glob {_globs(rng, 8, 20)}",
        lambda rng, i: "a" * rng.choice((3, 11, 30, 150)),
    ),
    "glob": Kind(
        lambda rng, i: f"p? glob {_values(*(f'*x{i}y{k}*' for k in range(40)), '*')}",
        arguments=lambda rng, size: {"p": "a" * size},
    ),
    "glob-path": Kind(
        lambda rng, i: f"p? glob {_values('*a/*aaa*/**', '*b*/*', '*a/*ab*/*', f'*/*{i}*/**', '**')}",
        arguments=lambda rng, size: {
            "p": "/".join("a" * rng.randrange(9) + "a" * 80 for _ in range(size // 90))
        },
    ),
}


def _scopes(kind: Kind, rng: random.Random, count: int) -> list[str]:
    made = [kind.condition(rng, number) for number in range(count)]
    cut = [made[at : at + _SCOPE_CONDITIONS] for at in range(0, count, _SCOPE_CONDITIONS)]
    return [f"read:files/* where {' and '.join([*each, 'z == 1'])} free *" for each in cut]


def arguments(kind: Kind, rng: random.Random, size: int) -> bytes:
    """Arguments of at most so many bytes."""
    if kind.arguments is not None:
        return json.dumps(kind.arguments(rng, size), separators=(",", ":")).encode()[:1_000_000]
    assert kind.element is not None
    elements, used = [], 10
    for number in range(_MOST_ELEMENTS):
        element = kind.element(rng, number)
        used += len(json.dumps(element, separators=(",", ":"))) + 1
        if used > size:
            break
        elements.append(element)
    return json.dumps({"p": elements}, separators=(",", ":")).encode()


def most(kind: Kind, rng: random.Random) -> bytes:
    """A token with about as many conditions of a kind as fit."""
    count, data = 900, b""
    while not data or len(data) > MAX_TOKEN_BYTES:
        data, count = token(root(*_scopes(kind, rng, count))), count * 4 // 5
    return data


def requests(seed: int, name: str) -> Iterator[tuple[bytes, OracleRequest]]:
    """Tokens of a kind with one condition or as many as fit, and calls of up to 50 KB, without an end."""
    rng = random.Random(f"{seed} {name}")
    kind = KINDS[name]
    for size in cycle(SIZES):
        data = token(root(*_scopes(kind, rng, 1))) if size < SIZES[-1] else most(kind, rng)
        yield data, ask(arguments=arguments(kind, rng, rng.randrange(size // 2, size)).decode())


def agree(seed: int, name: str, rounds: int) -> set[str]:
    """Check so many calls of a kind by kernel and oracle; return the reasons. Raises AssertionError."""
    checker = bulk_sessions.checker()
    found = set()
    for data, request in islice(requests(seed, name), rounds):
        decision = kernel_decision(checker, data, request, NOW)
        assert decision == oracle_check(data, request, VIEW, NOW), (name, seed, request.arguments[:200])
        found.add(decision.reason.name)
    return found
