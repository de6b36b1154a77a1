"""Stage ``refusal``: what a forger can make us spend, against one bare signature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import floors, workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm
from benchmarks.world import World


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows. All but the last must do no signature work, the last one exactly one."""
    tokens = [call.token for call in workloads.root(world, 4).calls]
    bare = floors.signatures(module, "floor/signatures-1", tokens, world.key.public_key)
    for workload in (
        workloads.garbage(world),
        workloads.torn(world),
        workloads.oversized(world),
        workloads.unknown_session(world),
    ):
        yield Row(Warm(f"refusal/{workload.name}", world, workload, calls=100), bare)
    yield Row(Warm("refusal/forged", world, workloads.forged(world), calls=12), bare)
