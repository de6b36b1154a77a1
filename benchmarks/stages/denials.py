"""Stage ``refusal``: what is denied, against one bare signature.

What strangers and forgers can make a verifier spend comes first: but for ``forged`` none of it may need a
signature. Behind it what good tokens come to once their session or a block of them is gone: their chains
are in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import denied, floors, workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm
from benchmarks.state_setup import World


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    tokens = [call.token for call in workloads.root(world, 4).calls]
    bare = floors.signatures(module, "floor/signatures-1", tokens, world.key.public_key)
    for make in (
        denied.garbage,
        denied.torn,
        denied.oversized,
        denied.unknown_session,
        denied.ended_session,
        denied.expired,
        denied.revoked_deep,
    ):
        workload = make(world)
        yield Row(Warm(f"refusal/{workload.name}", world, workload, calls=100), bare)
    yield Row(Warm("refusal/forged", world, denied.forged(world), calls=12), bare)
