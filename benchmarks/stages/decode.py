"""Stage ``decode``: a token's bytes to a chain, with no signature work, against the lookup floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import floors, workloads
from benchmarks.floors import fresh
from benchmarks.measure import Loop, Row
from benchmarks.state_setup import World
from sessauth._fast._check import Chain

CHAINS = (4, 16)


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the floor, then the rows."""
    token = workloads.root(world).calls[0].token
    lookup = floors.lookup(module, token)
    yield Row(lookup, None)
    yield Row(decode("decode/root", token), lookup)
    for blocks in CHAINS:
        deep = workloads.chain(world, blocks).calls[0].token
        yield Row(decode(f"decode/chain-{blocks}", deep), lookup)


def decode(name: str, token: bytes) -> Loop:
    """Return the subject of decoding a token."""
    parse = Chain.parse

    def run(tokens: Sequence[bytes]) -> None:
        for each in tokens:
            parse(each)

    return Loop(name, 200, lambda count: [fresh(token) for _ in range(count)], run)
