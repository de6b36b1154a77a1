"""Parts of a check by themselves: where its time goes, beside the floors that it can't go below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import floors, workloads
from benchmarks.floors import fresh
from benchmarks.measure import Loop, Row
from benchmarks.world import World
from sessauth._fast.chain import Chain


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the floors that no other row has, then decoding."""
    token = workloads.root(world).calls[0].token
    lookup = floors.lookup(module, token)
    yield Row(lookup, None)
    yield Row(floors.blake2b(module), None)
    yield Row(floors.view(world.reader), None)
    yield Row(decode("decode/root", token), lookup)
    yield Row(decode("decode/chain-4", workloads.chain(world, 4).calls[0].token), lookup)


def decode(name: str, token: bytes) -> Loop:
    """Return the subject of decoding a token, with no signature work."""
    parse = Chain.parse

    def run(tokens: Sequence[bytes]) -> None:
        for each in tokens:
            parse(each)

    return Loop(name, 200, lambda count: [fresh(token) for _ in range(count)], run)
