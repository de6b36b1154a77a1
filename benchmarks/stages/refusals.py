"""Stage ``refusal``: what is denied, against one bare signature.

What strangers and forgers can make a verifier spend comes first: but for ``forged`` none of it may need a
signature. Behind it what good tokens come to once their session or a block of them is gone: their chains
are in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import floors, refused, workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm
from benchmarks.world import World


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    tokens = [call.token for call in workloads.root(world, 4).calls]
    bare = floors.signatures(module, "floor/signatures-1", tokens, world.key.public_key)
    for make in (
        refused.garbage,
        refused.torn,
        refused.oversized,
        refused.unknown_session,
        refused.ended_session,
        refused.expired,
        refused.revoked_deep,
    ):
        workload = make(world)
        yield Row(Warm(f"refusal/{workload.name}", world, workload, calls=100), bare)
    yield Row(Warm("refusal/forged", world, refused.forged(world), calls=12), bare)
