"""Stage ``cold``: signatures that nothing kept, against the same signatures verified bare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import floors, workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Cold
from benchmarks.state_setup import World
from benchmarks.workloads import Workload
from sessauth._fast._check import Chain

CHAINS = (2, 4, 8, 16)
# Tokens of a workload. Each has its own root, so that no prefix of one is a prefix of another.
POOL = 60
# A floor must not see so few signatures again and again that a processor learns their branches.
LEAST_TOKENS = 8
# Signatures of a block: more would take so long that other processes get into most blocks.
BLOCK_SIGNATURES = 12


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    known = workloads.root(world)
    yield _row(world, module, workloads.root(world, POOL), known, "floor/signatures-1")
    for blocks in CHAINS:
        pool = workloads.chain(world, blocks, max(LEAST_TOKENS, POOL // blocks))
        yield _row(world, module, pool, known, f"floor/signatures-{blocks}")
    family = workloads.children(world, POOL)
    yield _row(
        world,
        module,
        Workload(family.name, family.calls[1:]),
        Workload(family.name, family.calls[:1]),
        "floor/signature-of-child",
        last=1,
    )


def _row(world: World, module: Any, pool: Workload, known: Workload, floor: str, *, last: int = 0) -> Row:
    tokens = [call.token for call in pool.calls]
    calls = max(1, BLOCK_SIGNATURES // (last or len(Chain.parse(tokens[0]).signatures)))
    bare = floors.signatures(module, floor, tokens, world.key.public_key, last=last, calls=calls)
    return Row(Cold(f"cold/{pool.name}", world, pool, known, calls=calls), bare)
