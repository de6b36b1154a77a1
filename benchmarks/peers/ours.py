"""Our rows, which the peers are compared with: the warm and the cold check of the budget, by depth."""

from __future__ import annotations

from typing import Final

from benchmarks import workloads
from benchmarks.measure import Subject
from benchmarks.peers.work import POOL
from benchmarks.stages.checks import Cold, Warm
from benchmarks.stages.proofs import Host, Proved
from benchmarks.state_setup import World
from benchmarks.workloads import Workload

# Signatures of a block of cold checks, as in the stage ``cold``.
BLOCK_SIGNATURES: Final = 12
# A warm check of a bound token with a proof that is taken.
PROOF_NAME: Final = "ours/proof-mac"


class Ours:
    """Warm and cold checks of chains, each made once and kept."""

    def __init__(self, world: World) -> None:
        """Take the state that is checked against."""
        self._world = world
        self._known = workloads.root(world)
        self._made: dict[str, Subject] = {}

    def warm(self, blocks: int) -> Subject:
        """Return checks whose chains are in the cache: what a kept token is compared with."""
        name = warm_name(blocks)
        if name not in self._made:
            self._made[name] = Warm(name, self._world, self._tokens(blocks))
        return self._made[name]

    def cold(self, blocks: int) -> Subject:
        """Return checks that verify each signature: what parsing every time is compared with."""
        name = cold_name(blocks)
        if name not in self._made:
            calls = max(1, BLOCK_SIGNATURES // blocks)
            self._made[name] = Cold(name, self._world, self._tokens(blocks), self._known, calls=calls)
        return self._made[name]

    def proof(self) -> Subject:
        """Return warm checks of bound tokens, each with a proof: for a peer that proves each call."""
        if PROOF_NAME not in self._made:
            self._made[PROOF_NAME] = Proved(PROOF_NAME, self._world, Host(self._world), "mac")
        return self._made[PROOF_NAME]

    def named(self, name: str) -> Subject:
        """Return a row by its name; KeyError if there is none."""
        if name == PROOF_NAME:
            return self.proof()
        kind, _, blocks = name.removeprefix("ours/").partition("-")
        return {"warm": self.warm, "cold": self.cold}[kind](int(blocks))

    def _tokens(self, blocks: int) -> Workload:
        if blocks == 1:
            return workloads.root(self._world, POOL)
        return workloads.chain(self._world, blocks, POOL)


def warm_name(blocks: int) -> str:
    """Return the name of the warm row of so many blocks."""
    return f"ours/warm-{blocks}"


def cold_name(blocks: int) -> str:
    """Return the name of the cold row of so many blocks, which are as many signatures."""
    return f"ours/cold-{blocks}"
