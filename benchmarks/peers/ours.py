"""Our rows, which the peers are compared with: the warm and the cold check of the budget, by depth."""

from __future__ import annotations

from typing import Final

from benchmarks import workloads
from benchmarks.measure import Subject
from benchmarks.peers.work import POOL
from benchmarks.stages.checks import Cold, Warm
from benchmarks.stages.proofs import Host, Proved
from benchmarks.state_setup import World

# Signatures of a block of cold checks, as in the stage ``cold``.
BLOCK_SIGNATURES: Final = 12
# A warm check of a bound token with a proof that is taken.
PROOF_NAME: Final = "ours/proof-mac"


class Ours:
    """Warm and cold checks of chains, and checks with proofs, each made once and kept."""

    def __init__(self, world: World) -> None:
        """Take the state that is checked against."""
        self._world = world
        self._known = workloads.root(world)
        self._made: dict[str, Subject] = {}

    def named(self, name: str) -> Subject:
        """Return a row by its name; KeyError if there is none."""
        if name not in self._made:
            kind, _, rest = name.removeprefix("ours/").partition("-")
            make = {"warm": self._warm, "cold": self._cold, "proof": self._proof}[kind]
            self._made[name] = make(name, rest)
        return self._made[name]

    def _warm(self, name: str, blocks: str) -> Subject:
        """Return checks whose chains are in the cache, for a kept token."""
        return Warm(name, self._world, workloads.chain(self._world, int(blocks), POOL))

    def _cold(self, name: str, blocks: str) -> Subject:
        """Return checks that verify each signature, for a token that is parsed every time."""
        calls = max(1, BLOCK_SIGNATURES // int(blocks))
        return Cold(
            name, self._world, workloads.chain(self._world, int(blocks), POOL), self._known, calls=calls
        )

    def _proof(self, name: str, kind: str) -> Subject:
        """Return warm checks of bound tokens, each with a proof, for a peer that proves each call."""
        return Proved(name, self._world, Host(self._world), kind)
