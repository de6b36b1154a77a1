"""Named workloads: tokens, the call that each is presented for, and the decision that must come.

Shapes, names and arguments come from a seed. Token ids and times are new in each run, so no result
depends on bytes that were measured before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks import tokens
from benchmarks.state_setup import World
from benchmarks.tokens import ARGUMENTS, FOUR_CONDITIONS, RESOURCE, eight_scopes
from sessauth.crypto.armor import presented_text
from sessauth.reasons import Reason
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier

__all__ = ["ARGUMENTS", "RESOURCE", "Call", "Workload", "WrongDecision", "eight_scopes"]

# Arguments of six levels, with lists of texts and of objects among them.
NESTED: Final = {
    "repository": {"owner": "acme", "name": "web"},
    "filter": {
        "labels": ["bug", "regression", "p1"],
        "range": {"from": {"day": {"year": 2026, "month": 11}}, "to": {"day": {"year": 2026, "month": 12}}},
        "any": [{"path": "src/app.py", "line": line} for line in range(12)],
    },
    "files": ["src/app.py", "src/web/index.html", "docs/readme.md"],
    "callback": "https://hooks.example.org/ci?run=7",
    "page": {"number": 3, "size": 50},
}
NESTED_CONDITIONS: Final = (
    'repository.owner == "acme"',
    'repository.name in ["web", "api"]',
    'filter.labels subset_of ["bug", "regression", "p1", "p2"]',
    "filter.range.to.day.year <= 2026",
    "count(filter.any) <= 20",
    'each(files) glob ["src/**", "docs/*"]',
    'host(callback) == "hooks.example.org"',
    "page.size <= 100",
)


class Call(NamedTuple):
    """One presented token and what it is presented for."""

    token: bytes
    action: str
    resource: str
    arguments: bytes
    tool: bytes = b""


class WrongDecision(AssertionError):
    """A workload was decided otherwise than it must be, so timing it would time something else."""


@dataclass(frozen=True)
class Workload:
    """Calls that all end in one reason."""

    name: str
    calls: tuple[Call, ...]
    reason: Reason = Reason.ALLOWED

    def require_decisions(self, verifier: Verifier) -> None:
        """Ask for each call once; raises WrongDecision that names the first that is decided otherwise."""
        for number, call in enumerate(self.calls):
            decision = verifier.check(*call[:4], tool=call.tool)
            expected = self.reason is Reason.ALLOWED
            if decision.reason is not self.reason or bool(decision) is not expected:
                raise WrongDecision(f"{self.name}[{number}]: {decision.reason.name}, not {self.reason.name}")


def presented(made: Sequence[Token]) -> tuple[Call, ...]:
    """Return the usual call for each of these tokens."""
    return tuple(Call(token.data, "read", RESOURCE, ARGUMENTS) for token in made)


def root(world: World, count: int = 1) -> Workload:
    """Sealed roots of one block: eight scopes, the last one fits and has four conditions."""
    return Workload("root", scopes(world, 8, count).calls)


def as_text(workload: Workload) -> Workload:
    """Return the same calls with their tokens as every Bearer header carries them."""
    calls = (call._replace(token=presented_text(call.token).encode()) for call in workload.calls)
    return Workload(f"{workload.name}-text", tuple(calls), workload.reason)


def scopes(world: World, scope_count: int, count: int = 1) -> Workload:
    """Sealed roots of so many scopes, the last of which fits and has four conditions."""
    texts = tokens.scopes(scope_count)
    made = [tokens.mint(world.issuer, world.session_id, texts) for _ in range(count)]
    return Workload(f"scopes-{scope_count}", presented(made))


def root_of_32_conditions(world: World) -> Workload:
    """A sealed root of eight scopes with four conditions each; the last one fits."""
    texts = [*tokens.other_scopes(7, FOUR_CONDITIONS), tokens.FITS]
    return Workload("root-32-conditions", presented([tokens.mint(world.issuer, world.session_id, texts)]))


def nested(world: World) -> Workload:
    """A sealed root whose one scope has eight conditions on nested arguments: objects, lists, a URL."""
    where = " and ".join(NESTED_CONDITIONS)
    token = tokens.mint(world.issuer, world.session_id, [f"read:{RESOURCE} where {where} free *"])
    arguments = json.dumps(NESTED, separators=(",", ":")).encode()
    return Workload("nested", (Call(token.data, "read", RESOURCE, arguments),))


def chain(world: World, blocks: int, count: int = 1) -> Workload:
    """Chains of an open root with eight scopes, narrowed by each block behind it."""
    made = [tokens.chain(world.issuer, world.session_id, blocks) for _ in range(count)]
    return Workload(f"chain-{blocks}", presented(made))


def children(world: World, count: int) -> Workload:
    """Children of one parent, each with one block of its own."""
    parent = tokens.mint(world.issuer, world.session_id, eight_scopes(), "open")
    made = [parent.attenuate(where=[f"page <= {10 + number}"]) for number in range(count)]
    return Workload("child-of-known-parent", presented(made))
