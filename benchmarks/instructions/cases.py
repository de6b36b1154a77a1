"""Counted cases: their calls, made outside the counted process, and the run of these in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import denied, floors, workloads
from benchmarks.measure import Subject
from benchmarks.stages import batch, checks, decode
from benchmarks.state_setup import World
from benchmarks.workloads import Workload
from sessauth.verifier.verifier import Verifier

# Tokens whose signatures are counted. How much one takes depends on its bits, so floor and subject have the
# very same ones, and all of them.
POOL: Final = 24
# Blocks of the chains that are counted.
CHAINS: Final = (2, 4, 8)


# The rows by the names of those that are timed, each with its floor, which comes before it.
FLOORS: Final = {
    "floor/lookup": "",
    "decode/root": "floor/lookup",
    "decode/chain-4": "floor/lookup",
    "warm/root": "floor/lookup",
    "warm/chain-4": "warm/root",
    "batch/256": "warm/root",
    "floor/signatures-1": "",
    "cold/root": "floor/signatures-1",
    "floor/signatures-2": "",
    "cold/chain-2": "floor/signatures-2",
    "floor/signatures-4": "",
    "cold/chain-4": "floor/signatures-4",
    "floor/signatures-8": "",
    "cold/chain-8": "floor/signatures-8",
    "floor/signature-of-child": "",
    "cold/child-of-known-parent": "floor/signature-of-child",
    "refusal/garbage": "floor/signatures-1",
    "refusal/oversized": "floor/signatures-1",
    "refusal/unknown-session": "floor/signatures-1",
}


class Opened:
    """Stand-in for the world in the counted process: it only opens what another process wrote."""

    def __init__(self, source: Any, audience: str) -> None:
        """Take the opened state and the audience of its verifiers."""
        self._source = source
        self._audience = audience

    def verifier(self) -> Verifier:
        """Return a verifier with an empty cache and an empty view."""
        return Verifier(self._source, audience=self._audience)


@dataclass(frozen=True)
class Case:
    """One row: it is run with ``few`` calls and with ``many``, and the difference counts.

    ``name`` is a key of ``FLOORS``, ``kind`` one of ``KINDS``. ``known`` is what a cold check's verifier has
    seen before, ``issuer_key`` what a bare signature stands under, and ``last`` how many of a chain's last
    blocks count; 0: all.
    """

    name: str
    kind: str
    workload: Workload
    few: int
    many: int
    known: Workload | None = None
    issuer_key: bytes = b""
    last: int = 0

    @property
    def floor(self) -> str:
        """The name of the case that it is compared with, or nothing."""
        return FLOORS[self.name]


def cases(world: World) -> list[Case]:
    """Return the cases, in the order of ``FLOORS``."""
    root, chain = workloads.root(world), workloads.chain(world, 4)
    pool, family = workloads.root(world, POOL), workloads.children(world, POOL + 1)
    children, first = Workload("children", family.calls[1:]), Workload("child", family.calls[:1])
    key = world.key.public_key
    return [
        Case("floor/lookup", "lookup", root, 100, 400),
        Case("decode/root", "decode", root, 100, 400),
        Case("decode/chain-4", "decode", chain, 100, 400),
        Case("warm/root", "warm", root, 100, 400),
        Case("warm/chain-4", "warm", chain, 100, 400),
        Case("batch/256", "batch", root, 256, 1024),
        Case("floor/signatures-1", "signature", pool, 0, POOL, issuer_key=key),
        Case("cold/root", "cold", pool, 0, POOL, known=root),
        *(case for blocks in CHAINS for case in _chains(world, blocks, root)),
        Case("floor/signature-of-child", "signature", children, 0, POOL, issuer_key=key, last=1),
        Case("cold/child-of-known-parent", "cold", children, 0, POOL, known=first),
        Case("refusal/garbage", "warm", denied.garbage(world), 64, 256),
        Case("refusal/oversized", "warm", denied.oversized(world), 64, 256),
        Case("refusal/unknown-session", "warm", denied.unknown_session(world), 64, 256),
    ]


def _chains(world: World, blocks: int, known: Workload) -> Iterator[Case]:
    """Yield the floor of chains of so many blocks, and a check of each that no cache has."""
    count = max(1, POOL // blocks)
    pool = workloads.chain(world, blocks, count)
    key = world.key.public_key
    yield Case(f"floor/signatures-{blocks}", "signature", pool, 0, count, issuer_key=key)
    yield Case(f"cold/chain-{blocks}", "cold", pool, 0, count, known=known)


def _signature(case: Case, _world: Any, module: Any) -> Subject:
    tokens = [call.token for call in case.workload.calls]
    return floors.signatures(module, case.name, tokens, case.issuer_key, last=case.last)


def _cold(case: Case, world: Any, _module: Any) -> Subject:
    assert case.known is not None
    return checks.Cold(case.name, world, case.workload, case.known, calls=case.many)


KINDS: Final[dict[str, Callable[[Case, Any, Any], Subject]]] = {
    "lookup": lambda case, world, module: floors.lookup(module, case.workload.calls[0].token),
    "decode": lambda case, world, module: decode.decode(case.name, case.workload.calls[0].token),
    "warm": lambda case, world, module: checks.Warm(case.name, world, case.workload),
    "batch": lambda case, world, module: batch.Batch(case.name, world, case.workload, 256),
    "signature": _signature,
    "cold": _cold,
}


def subject(case: Case, world: Any, module: Any) -> Subject:
    """Return what is run; raises WrongDecision if a call is decided otherwise than it must be."""
    return KINDS[case.kind](case, world, module)
