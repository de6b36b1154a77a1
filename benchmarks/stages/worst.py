"""Stage ``worst``: the most expensive requests of at most 64 KiB that a check accepts, against one signature.

There is one for each kind of condition. They are made for a token of at most 8 KiB: what its holder adds
to it offline makes them expensive. Most end with the steps of work: the request is refused after all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from benchmarks import floors
from benchmarks import workloads as usual
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm
from benchmarks.state_setup import World
from benchmarks.tokens import mint
from benchmarks.workloads import Call, Workload
from sessauth import limits
from sessauth.reasons import Reason
from sessauth.tokens.token import Token

REQUEST_BYTES: Final = 64 << 10
# Room beside the arguments.
_OTHER_BYTES: Final = 512
_BYTES_A_STEP: Final = 16


def _text(pattern: str, patterns: int) -> str:
    """Return a text of a repeated pattern, as long as so many patterns may walk it."""
    room = REQUEST_BYTES - _OTHER_BYTES - limits.MAX_TOKEN_BYTES
    length = min(room, 16 * (limits.MIN_WORK - patterns) // (2 * patterns - 3))
    return (pattern * (length // len(pattern) + 1))[:length]


def _globs(piece: Callable[[int], str], count: int) -> str:
    return "p glob [" + ", ".join(f'"*{piece(number)}*"' for number in range(count)) + "]"


def _inner(length: int) -> Callable[[int], str]:
    """Return pieces that differ from a text of `a` in their middle alone."""
    return lambda number: "a" * ((length + number) // 2) + "b" + "a" * (length // 2)


def _conditions(world: World, conditions: Sequence[str]) -> Token:
    """Return a token whose scopes have 15 of these conditions each, and one that fails: all are evaluated."""
    texts = [
        "read:mcp/** where " + " and ".join([*conditions[at : at + 15], "z == 1"]) + " free *"
        for at in range(0, len(conditions), 15)
    ]
    return mint(world.issuer, world.session_id, texts)


def _cases(world: World) -> Iterator[tuple[str, Token, Any]]:
    """Yield a name, a token and the arguments for it."""
    for length, count in ((8, 64), (40, 64), (62, 64), (90, 64), (200, 30), (400, 16)):
        yield f"glob-{length}", _conditions(world, [_globs(_inner(length), count)]), {"p": _text("a", count)}
    many = [_globs(lambda number: "*".join(["aab"] * (70 + number)) + "*c", 20)]
    yield "glob-pieces", _conditions(world, many), {"p": _text("a" * 254 + "ab", 20)}
    rare = [_globs(lambda number: "ab" * 20 + "b" * (1 + number % 9), 64)]
    yield "glob-periodic", _conditions(world, rare), {"p": _text("ab", 64)}
    short = [_globs(lambda number: "a" * (number % 4 + 1) + "b", 64) for _ in range(6)]
    yield "glob-short", _conditions(world, [f"{each}" for each in short]), {"p": "a" * 31}
    names = {f"n{number:04}": 0 for number in range(5500)}
    yield "names", _conditions(world, [f"m{number:04}? == 1" for number in range(300)]), names
    numbers = list(range(100, 100 + 7000))
    members = ", ".join(map(str, range(9000, 9037)))
    yield "each", _conditions(world, [f"each(p) not in [{members}]"] * 1), {"p": numbers}
    objects = {f"n{number}": number for number in range(1000)}
    yield "json", _conditions(world, [f'p? != {{"a": {number}}}' for number in range(260)]), {"p": objects}
    paths = ", ".join(f'"z{number}"' for number in range(63))
    under = [f'each(p) under [{paths}, "a"]'] * 16
    yield "under", _conditions(world, under), {"p": ["a/" * 511 + "a"] * 54}
    networks = ", ".join(f'"{number:x}:2:3::/96"' for number in range(2, 60))
    cidr = [f'each(p) cidr [{networks}, "::/0"]'] * 8
    yield "cidr", _conditions(world, cidr), {"p": ["1:2:3:4:5:6:7:8"] * 550}
    yield "url", _conditions(world, ['each(host(p?)) != "a"'] * 300), {"p": ["h://[::1]"] * 870}
    yield "order", _conditions(world, ["each(p?) < 1.00000000000000000001"] * 150), {"p": [0.5] * 1740}
    short = ", ".join(f'"*{number}b*"' for number in range(20))
    yield (
        "glob-each",
        _conditions(world, [f'each(p?) glob [{short}, "a*"]'] * 35),
        {"p": ["a" * 11] * 350},
    )


def workloads(world: World) -> Iterator[Workload]:
    """Yield the workloads; each call is denied, or refused for its work, as it comes."""
    verifier = world.verifier()
    for name, token, arguments in _cases(world):
        data = json.dumps(arguments, separators=(",", ":")).encode()
        call = Call(token.data, "read", "mcp/a", data)
        decision = verifier.check(*call[:4], tool=call.tool)
        yield Workload(name, (call,), Reason(decision.reason))


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    tokens = [call.token for call in usual.root(world, 4).calls]
    bare = floors.signatures(module, "floor/signatures-1", tokens, world.key.public_key)
    for workload in workloads(world):
        yield Row(Warm(f"worst/{workload.name}", world, workload, calls=2), bare)
