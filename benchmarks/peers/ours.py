"""Our rows, which the peers are compared with: warm and cold checks by depth, minting and attenuating."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks import tokens, workloads
from benchmarks.measure import Loop, Subject
from benchmarks.peers.work import ACTION, ALLOWED, DENIED, POOL, RESOURCE, fresh_text
from benchmarks.stages.checks import Cold, Warm
from benchmarks.stages.proofs import Host, Proved
from benchmarks.state_setup import World
from sessauth.tokens.token import Token

# Signatures of a block of cold checks, as in the stage ``cold``.
BLOCK_SIGNATURES: Final = 12
# Tokens that are made in a block.
MADE: Final = 12
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
            make = {
                "warm": self._warm,
                "text": self._text,
                "proof": self._proof,
                "mint": self._mint,
                "attenuate": self._attenuate,
            }[kind]
            self._made[name] = make(name, rest)
        return self._made[name]

    def _warm(self, name: str, blocks: str) -> Subject:
        """Return checks whose chains are in the cache, for a kept token."""
        return Warm(name, self._world, workloads.chain(self._world, int(blocks), POOL))

    def _text(self, name: str, blocks: str) -> Subject:
        """Return checks of texts that verify each signature, for a token that is read every time."""
        calls = max(1, BLOCK_SIGNATURES // int(blocks))
        texts = workloads.as_text(workloads.chain(self._world, int(blocks), POOL))
        return Cold(name, self._world, texts, self._known, calls=calls)

    def _proof(self, name: str, kind: str) -> Subject:
        """Return warm checks of bound tokens, each with a proof, for a peer that proves each call."""
        return Proved(name, self._world, Host(self._world), kind)

    def _mint(self, name: str, _: str) -> Subject:
        """Return mintings of the root that the checks present, to its text."""
        issuer, session_id, scopes = self._world.issuer, self._world.session_id, tokens.eight_scopes()
        return self._making(name, lambda _: tokens.mint(issuer, session_id, scopes).text, [""])

    def _attenuate(self, name: str, _: str) -> Subject:
        """Return a holder's work: an open token's text in, the text of a narrower and sealed one out."""
        issuer, session_id, scopes = self._world.issuer, self._world.session_id, tokens.eight_scopes()
        parents = [tokens.mint(issuer, session_id, scopes, "open").stored_text() for _ in range(POOL)]

        def narrowed(parent: str) -> str:
            return Token.parse(parent).attenuate(scopes=[tokens.FITS], ending="sealed").text

        return self._making(name, narrowed, parents)

    def _making(self, name: str, make: Callable[[str], str], parents: Sequence[str]) -> Subject:
        verifier = self._world.verifier()
        for arguments, allowed in ((ALLOWED, True), (DENIED, False)):
            if bool(verifier.check(make(parents[0]), ACTION, RESOURCE, arguments)) is not allowed:
                raise workloads.WrongDecision(f"{name}: what it made was not decided as it must be")
        turns = itertools.cycle(parents)

        def run(items: Sequence[str]) -> None:
            for parent in items:
                make(parent)

        return Loop(name, MADE, lambda count: [fresh_text(next(turns)) for _ in range(count)], run)
