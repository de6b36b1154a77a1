"""Parts of a check: where its time goes, beside the floors that it can't go below.

The stages of a check can't be called one by one, and the first refusal ends it. So a row ``stage/x`` is a
check that is refused at x, or the part itself where that can be called: what it costs is everything up to
there. ``stage/cache-hit`` and ``-miss`` are refused behind the view, for a revision that is still to come;
``stage/scope`` since none of eight scopes fits, ``stage/condition`` at the last of four conditions.
``stage/pulse`` is what tells a check that nothing was committed, ``stage/view`` asking the state itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import denied, floors, workloads
from benchmarks.floors import fresh
from benchmarks.measure import Loop, NotMeasured, Row
from benchmarks.stages.checks import Stale, Warm
from benchmarks.state_setup import World
from sessauth._fast.check.view import View
from sessauth._fast.token.chain import Chain

CHAINS = (4, 16)
BLOCK_SIGNATURES = 12


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield the floors that no other row has, then the parts."""
    root = workloads.root(world)
    token = root.calls[0].token
    lookup = floors.lookup(module, token)
    yield Row(lookup, None)
    yield Row(floors.blake2b(module), None)
    bare_view = floors.view(world.reader)
    yield Row(bare_view, None)
    yield Row(decode("decode/root", token), lookup)
    for blocks in CHAINS:
        deep = workloads.chain(world, blocks).calls[0].token
        yield Row(decode(f"decode/chain-{blocks}", deep), lookup)
    for blocks in (1, *CHAINS):
        yield _signed(world, module, blocks)
    yield Row(pulse("stage/pulse", world), lookup)
    yield Row(view("stage/view", View(world.reader)), bare_view)
    yield Row(Stale("stage/cache-hit", world, root, known=True), lookup)
    yield Row(Stale("stage/cache-miss", world, root, known=False), lookup)
    yield Row(Warm("stage/scope", world, denied.out_of_scope(world)), lookup)
    yield Row(Warm("stage/condition", world, denied.condition_failed(world)), lookup)


def decode(name: str, token: bytes) -> Loop:
    """Return the subject of decoding a token, with no signature work."""
    parse = Chain.parse

    def run(tokens: Sequence[bytes]) -> None:
        for each in tokens:
            parse(each)

    return Loop(name, 200, lambda count: [fresh(token) for _ in range(count)], run)


def view(name: str, source: View) -> Loop:
    """Return the subject of asking a view, whose state stands still, for its revision."""

    def run(items: Sequence[None]) -> None:
        for _ in items:
            source.revision  # noqa: B018 - reading it asks the state

    return Loop(name, 2000, lambda count: [None] * count, run)


def pulse(name: str, world: World) -> Loop:
    """Return the subject of reading the number that moves with every commit."""
    source = world.reader.commit_id

    def prepare(count: int) -> Sequence[None]:
        if source is None:
            raise NotMeasured("the layout of the data file is not the one that a pulse is read from")
        return [None] * count

    def run(items: Sequence[None]) -> None:
        assert source is not None
        for _ in items:
            source.number  # noqa: B018 - reading it is what is timed

    return Loop(name, 3000, prepare, run)


def _signed(world: World, module: Any, blocks: int) -> Row:
    """Return the row of the signatures of decoded chains, against the same ones verified bare."""
    pool = workloads.chain(world, blocks, 8)
    tokens = [call.token for call in pool.calls]
    chains = [Chain.parse(token) for token in tokens]
    key = world.key.public_key
    calls = max(1, BLOCK_SIGNATURES // blocks)
    if any(chain.verify(key) >= 0 for chain in chains):
        raise workloads.WrongDecision(f"stage/chain-{blocks}: a signature does not stand")
    bare = floors.signatures(module, f"floor/signatures-{blocks}", tokens, key, calls=calls)
    turns = iter(range(2**62))

    def prepare(count: int) -> list[Chain]:
        return [chains[next(turns) % len(chains)] for _ in range(count)]

    def run(items: Sequence[Chain]) -> None:
        for chain in items:
            chain.verify(key)

    return Row(Loop(f"stage/chain-{blocks}", calls, prepare, run), bare)
