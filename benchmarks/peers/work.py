"""The equal work: one call, the token that allows it, and what a way of using a peer must state.

A token of eight permissions, of which the last fits the call and has four conditions on its arguments; it
expires in four hours. A chain adds blocks: each narrows what is left, the last one to the very call.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
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

    ``name`` is ``text`` or ``kept``, with ``-chain-n`` for n blocks, or ``mint`` or ``attenuate``.
    ``signatures`` counts the public-key signatures that a call verifies. ``tokens`` are what a call is given,
    made anew by ``fresh``; ``request`` makes the peer's form of a call from JSON arguments, with the token at
    hand. ``call`` returns whether the call is allowed, or raises one of ``refusals``; where it makes a token,
    it returns the text, and ``reads`` says whether that allows a call with JSON arguments. ``about_us`` is
    roughly what a call takes, and only decides how many make a block. ``stranger`` is a token that an unknown
    key made, where verifying is part of the call.
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
    reads: Callable[[str, bytes], object] | None = None

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
            outcome = self.call(*self.item(token, arguments))
            return bool(outcome if self.reads is None else self.reads(str(outcome), arguments))
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


def as_text(arguments: bytes, _: object) -> Item:
    """Return the request of a form that reads texts: arguments as they arrive, which it parses itself."""
    return (arguments.decode(),)


def nothing(_arguments: bytes, _: object) -> Item:
    """Return the request of a form that makes a token: no call is there yet."""
    return ()


def fresh_text(text: str) -> str:
    """Return the text as a new object, as every request brings one."""
    return text.encode().decode()


def suffix(blocks: int) -> str:
    """Return what a form's name ends in for a chain of so many blocks."""
    return f"-chain-{blocks}" if blocks > 1 else ""


def making(
    *,
    mint: Callable[[], str],
    attenuate: Callable[[str], str] | None,
    reads: Callable[[str, bytes], object],
    refusals: tuple[type[Exception], ...],
) -> Iterator[Form]:
    """Yield the forms that make tokens: ``mint`` from nothing, and ``attenuate`` from a text of one block."""
    calls: dict[str, tuple[int, Sequence[Any], Callable[..., str]]] = {"mint": (1, [None], lambda _: mint())}
    if attenuate is not None:
        calls["attenuate"] = 2, [mint() for _ in range(POOL)], attenuate
    for name, (blocks, tokens, call) in calls.items():
        yield Form(
            name=name,
            blocks=blocks,
            signatures=0,
            token_bytes=len(call(tokens[0])),
            about_us=100,
            tokens=tokens,
            call=call,
            refusals=refusals,
            request=nothing,
            reads=reads,
        )
