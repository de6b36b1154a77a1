"""Requests that are made to be expensive, one kind of condition each: the oracle decides them alike.

A scope has as many conditions on one value as it may, and fails by its last: all are evaluated.
Run by hand, each kind prints what its dearest request of 64 KB costs, in signatures:

    python -m tests.fuzz.worst_requests --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sessauth.limits import MAX_TOKEN_BYTES
from tests.oracle.check import check as oracle_check
from tests.oracle.model import OracleRequest
from tests.support import bulk_sessions
from tests.support.compare import kernel_decision
from tests.support.vector_files import read_view
from tests.vectors.world import NOW, VIEWS, ask, root, token

REQUEST_BYTES: Final = 65_536
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
    """Patterns that differ from a text of `a` in one place."""
    places = [rng.randrange(length) for _ in range(count)]
    return _values(*("*" + "a" * place + "b" + "a" * (length - place - 1) + "*" for place in places))


def _texts(length: int) -> Callable[[random.Random, int], dict[str, Any]]:
    """Make texts of `a`, half of them with a `b` at times: too near each other for most patterns, or not."""
    return lambda rng, size: {
        "p": (rng.choice(("", "b")) + "a" * rng.randrange(length // 2, 2 * length)) * (size // length // 2)
    }


KINDS: Final = {
    "names": Kind(
        lambda rng, i: f"m{i:04}? == 1",
        arguments=lambda rng, size: {f"{rng.choice('mn')}{i:04}": 1 for i in range(size // 10)},
    ),
    "under": Kind(
        lambda rng, i: f"each(p?) under {_values('z', 'a/' * rng.randrange(9) + 'a')}",
        lambda rng, i: "a/" * rng.choice((1, 3, 60, 511)) + rng.choice(("a", "a", "a", ".")),
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
        lambda rng, i: 'each(scheme(p?)) != "a"', lambda rng, i: "A" * rng.randrange(1, 300) + "://h"
    ),
    "port": Kind(
        lambda rng, i: f"each(port(p?)) != {i}",
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
        lambda rng, i: f"each(p?) glob {_globs(rng, 8, 20)[:-1]}, {_values('a*')[1:]}",
        lambda rng, i: "a" * rng.choice((3, 11, 30, 150)),
    ),
    "glob-8": Kind(lambda rng, i: f"p? glob {_globs(rng, 8, 60)}", arguments=_texts(8)),
    "glob-60": Kind(lambda rng, i: f"p? glob {_globs(rng, 60, 60)}", arguments=_texts(60)),
    "glob-100": Kind(lambda rng, i: f"p? glob {_globs(rng, 100, 60)}", arguments=_texts(100)),
    "glob-250": Kind(lambda rng, i: f"p? glob {_globs(rng, 250, 28)}", arguments=_texts(250)),
    "glob-path": Kind(
        lambda rng, i: f"p? glob {_values('*a/*aaa*/**', '*b*/*', '*a/*ab*/*', f'*/*{i}*/**')}",
        arguments=lambda rng, size: {
            "p": "/".join("a" * rng.randrange(9) + "a" * 80 for _ in range(size // 90))
        },
    ),
}


def _scopes(kind: Kind, rng: random.Random, count: int) -> list[str]:
    made = [kind.condition(rng, number) for number in range(count)]
    cut = [made[at : at + _SCOPE_CONDITIONS] for at in range(0, count, _SCOPE_CONDITIONS)]
    return [f"read:files/* where {' and '.join([*each, 'z == 1'])} free *" for each in cut]


def dearest_token(kind: Kind, rng: random.Random) -> bytes:
    """The token with the most conditions of a kind that fit."""
    low, high, made = 1, 64 * _SCOPE_CONDITIONS, b""
    while low <= high:
        middle = (low + high) // 2
        data = token(root(*_scopes(kind, random.Random(rng.random()), middle)))
        if len(data) <= MAX_TOKEN_BYTES:
            low, made = middle + 1, data
        else:
            high = middle - 1
    return made


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


def requests(seed: int, name: str, size: int) -> Iterator[tuple[bytes, OracleRequest]]:
    """Tokens of a kind with a few conditions, and calls of at most so many bytes, without an end."""
    rng = random.Random(f"{seed} {name}")
    kind = KINDS[name]
    while True:
        data = token(
            root(*_scopes(kind, rng, rng.choice((1, 4, 20) if len(kind.condition(rng, 1)) < 200 else (1,))))
        )
        if len(data) <= MAX_TOKEN_BYTES:
            yield data, ask(arguments=arguments(kind, rng, rng.randrange(20, size)).decode())


def agree(seed: int, name: str, rounds: int, size: int = 6_000) -> set[str]:
    """Judge so many calls of a kind by kernel and oracle; gives the reasons. Raises AssertionError."""
    checker = bulk_sessions.checker()
    found = set()
    for _, (data, request) in zip(range(rounds), requests(seed, name, size), strict=False):
        decision = kernel_decision(checker, data, request, NOW)
        assert decision == oracle_check(data, request, VIEW, NOW), (name, seed, request.arguments[:200])
        found.add(decision.reason.name)
    return found


def _microseconds(work: Callable[[], object]) -> float:
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / 1000


def cost(seed: int, name: str) -> float:
    """The CPU time of the dearest request of a kind, in signatures."""
    rng = random.Random(f"{seed} {name}")
    checker = bulk_sessions.checker()
    data = dearest_token(KINDS[name], rng)
    room = REQUEST_BYTES - len(data) - 300
    made = [ask(arguments=arguments(KINDS[name], rng, room).decode()) for _ in range(5)]
    request = max(made, key=lambda each: _microseconds(lambda: bulk_sessions.judge(checker, data, each)))
    chains = [token(root("read:files/*", label=f"{number}")) for number in range(20)]
    cold = [bulk_sessions.checker() for _ in range(3)]
    signature = (
        min(_microseconds(lambda c=each: [bulk_sessions.judge(c, x) for x in chains]) for each in cold) / 20
    )
    return (
        min(_microseconds(lambda: bulk_sessions.judge(checker, data, request)) for _ in range(3)) / signature
    )


def main() -> int:
    """Run by hand; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in KINDS:
        reasons = agree(options.seed, name, 20)
        sys.stdout.write(f"{name}: {cost(options.seed, name):.1f} signatures, {', '.join(sorted(reasons))}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
