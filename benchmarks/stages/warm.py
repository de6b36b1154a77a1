"""Stage ``warm``: the chain was verified before; everything else is judged anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import floors, workloads
from benchmarks.measure import Row
from benchmarks.stages.checks import Warm, WarmKernel, WarmTool
from benchmarks.world import World


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the rows."""
    root = workloads.root(world)
    lookup = floors.lookup(module, root.calls[0].token)
    one_block = Warm("warm/root", world, root)
    yield Row(one_block, lookup)
    own_size = floors.lookup(module, root.calls[0].token, f"floor/lookup-{len(root.calls[0].token)}")
    yield Row(Warm("warm/root-by-own-size", world, root), own_size)
    yield Row(WarmKernel("warm/root-kernel", world, root), lookup)
    yield Row(Warm("warm/root-32-conditions", world, workloads.root_of_32_conditions(world)), lookup)
    yield Row(Warm("warm/chain-2", world, workloads.chain(world, 2)), one_block)
    yield Row(Warm("warm/chain-4", world, workloads.chain(world, 4)), one_block)
    hot_set = workloads.mcp_hot_set(world)
    catalogue = workloads.mcp_catalogue(world)
    yield Row(Warm("warm/mcp-hot-set", world, hot_set), lookup)
    yield Row(WarmTool("warm/mcp-check-tool", world, hot_set, catalogue), lookup)
    yield Row(Warm("warm/out-of-scope", world, workloads.out_of_scope(world)), lookup)
    yield Row(Warm("warm/condition-failed", world, workloads.condition_failed(world)), lookup)
