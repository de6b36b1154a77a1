"""The equal work: one call, the token that allows it, and what a way of using a peer must state.

A token of eight permissions, of which the last fits the call and has four conditions on its arguments; it
expires in four hours. A chain adds blocks: each narrows what is left, the last one to the very call.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import workloads
from benchmarks.measure import Loop

ACTION: Final = "read"
RESOURCE: Final = workloads.RESOURCE
OTHER_RESOURCES: Final = tuple(f"mcp/jira/project_{number}" for number in range(7))
ALLOWED: Final = workloads.ARGUMENTS
# The same call with one argument that the fourth condition refuses.
DENIED: Final = ALLOWED.replace(b'"page":3', b'"page":11')
# The four conditions, as they are built in each peer's own words.
OWNER: Final = "acme"
REPO: Final = "web"
STATES: Final = ("open", "closed")
MAX_PAGE: Final = 10
# Depths of the chains, in blocks. A peer that can't attenuate has only the first.
DEPTHS: Final = (1, 2, 4)
TTL_S: Final = 4 * 3600
# Tokens that take turns, so that a processor does not learn the branches of one signature.
POOL: Final = 16
# What a block of calls should take, in us, so that floor and peer alternate within a millisecond.
BLOCK_US: Final = 800


def middle_limits(blocks: int) -> list[int]:
    """Return what each block between the first and the last allows per page at most."""
    return [100 - number for number in range(1, blocks - 1)]


# What `call` takes: the token in the form that is measured, then the request in the peer's form.
Item = tuple[Any, ...]


@dataclass(frozen=True)
class Form:
    """One way to use a peer.

    ``name`` is ``parse`` or ``kept``, with ``-chain-n`` for n blocks. ``signatures`` counts the public-key
    signatures that a call verifies. ``tokens`` are what a call is given, made anew by ``fresh``;
    ``request`` makes the peer's form of a call from JSON arguments, with the token at hand. ``call``
    returns whether the call is allowed, or raises one of ``refusals``. ``about_us`` is roughly what a
    call takes, and only decides how many make a block. ``stranger`` is a token that an unknown key made,
    where verifying is part of the call.
    """

    name: str
    blocks: int
    signatures: int
    token_bytes: int
    about_us: int
    tokens: Sequence[Any]
    call: Callable[..., object]
    refusals: tuple[type[Exception], ...]
    request: Callable[[bytes, Any], Item] = lambda arguments, _: (json.loads(arguments),)
    fresh: Callable[[Any], Any] = lambda token: token
    stranger: Any = None

    def item(self, token: Any, arguments: bytes) -> Item:
        """Return the input of one call."""
        return (self.fresh(token), *self.request(arguments, token))

    def require_decisions(self, peer: str) -> None:
        """Ask once for what must be allowed and what must not; raises WrongDecision."""
        for token in self.tokens:
            if not self._allows(token, ALLOWED):
                raise workloads.WrongDecision(f"{peer}/{self.name}: the call was denied")
        if self._allows(self.tokens[0], DENIED):
            raise workloads.WrongDecision(f"{peer}/{self.name}: a changed argument was allowed")
        if self.stranger is not None and self._allows(self.stranger, ALLOWED):
            raise workloads.WrongDecision(f"{peer}/{self.name}: a token of an unknown key was allowed")

    def _allows(self, token: Any, arguments: bytes) -> bool:
        try:
            return bool(self.call(*self.item(token, arguments)))
        except self.refusals:
            return False

    def subject(self, peer: str) -> Loop:
        """Return what is timed, after the decisions were asserted; each timed call must allow, too."""
        self.require_decisions(peer)
        turns = itertools.cycle(self.tokens)
        call = self.call

        def prepare(count: int) -> Sequence[Item]:
            return [self.item(next(turns), ALLOWED) for _ in range(count)]

        def run(items: Sequence[Item]) -> None:
            for item in items:
                if not call(*item):
                    raise workloads.WrongDecision(f"{peer}/{self.name}: a timed call was denied")

        return Loop(f"peer/{peer}/{self.name}", max(1, BLOCK_US // self.about_us), prepare, run)


def suffix(blocks: int) -> str:
    """Return what a form's name ends in for a chain of so many blocks."""
    return f"-chain-{blocks}" if blocks > 1 else ""
