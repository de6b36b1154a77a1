"""Stage ``warm``: the chain was verified before; everything else is judged anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import floors, realistic, workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm, WarmPrepared, WarmTool
from benchmarks.state_setup import World

CHAINS = (2, 4, 8, 16)


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    root = workloads.root(world)
    lookup = floors.lookup(module, root.calls[0].token)
    one_block = Warm("warm/root", world, root)
    yield Row(one_block, lookup)
    yield Row(WarmPrepared("warm/prepared", world, root), lookup)
    yield Row(Warm("warm/text", world, workloads.as_text(root)), one_block)
    for blocks in CHAINS:
        yield Row(Warm(f"warm/chain-{blocks}", world, workloads.chain(world, blocks)), one_block)
    for scopes in (1, 64):
        yield Row(Warm(f"warm/scopes-{scopes}", world, workloads.scopes(world, scopes)), lookup)
    yield Row(Warm("warm/root-32-conditions", world, workloads.root_of_32_conditions(world)), lookup)
    yield Row(Warm("warm/nested", world, workloads.nested(world)), lookup)
    tools = realistic.catalogue()
    agents = realistic.agents(world, tools)
    yield Row(Warm("warm/agents", world, agents), lookup)
    yield Row(WarmTool("warm/agents-check-tool", world, agents, tools), lookup)
