"""Named workloads: tokens, the call that each is presented for, and the decision that must come.

Shapes, names and arguments come from a seed. Token ids and times are new in each run, so no result
depends on bytes that were measured before.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks.world import AUDIENCE, HOUR_MS, SEED, World
from sessauth.catalogue import ToolCatalogue
from sessauth.limits import MAX_TOKEN_BYTES
from sessauth.reasons import Reason
from sessauth.token import Token
from sessauth.verifier import Verifier

RESOURCE: Final = "mcp/github/list_pull_requests"
ARGUMENTS: Final = b'{"owner":"acme","repo":"web","state":"open","page":3,"per_page":50}'
FOUR_CONDITIONS: Final = 'owner == "acme" and repo == "web" and state in ["open", "closed"] and page <= 10'
TTL_MS: Final = 4 * HOUR_MS


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


def _other_scopes(count: int, conditions: str = "") -> list[str]:
    where = f" where {conditions} free *" if conditions else ""
    return [f"read:mcp/jira/project_{number}/*{where}" for number in range(count)]


def _mint(world: World, scopes: Sequence[str], session_id: bytes = b"", ending: str = "sealed") -> Token:
    return world.issuer.mint(
        session_id or world.session_id, scopes, [AUDIENCE], ttl_ms=TTL_MS, ending=ending, label="agent-7"
    )


def _calls(tokens: Sequence[Token]) -> tuple[Call, ...]:
    return tuple(Call(token.data, "read", RESOURCE, ARGUMENTS) for token in tokens)


def eight_scopes() -> list[str]:
    """Return the scopes of the row that the budget of a warm check is stated for: the last of them fits."""
    return [*_other_scopes(7), f"read:{RESOURCE} where {FOUR_CONDITIONS} free *"]


def root(world: World, count: int = 1) -> Workload:
    """Sealed roots of one block: eight scopes, the last one fits and has four conditions."""
    return Workload("root", _calls([_mint(world, eight_scopes()) for _ in range(count)]))


def root_of_32_conditions(world: World) -> Workload:
    """A sealed root of eight scopes with four conditions each; the last one fits."""
    scopes = [*_other_scopes(7, FOUR_CONDITIONS), f"read:{RESOURCE} where {FOUR_CONDITIONS} free *"]
    return Workload("root-32-conditions", _calls([_mint(world, scopes)]))


def chain(world: World, blocks: int, count: int = 1) -> Workload:
    """Chains of an open root with eight scopes, narrowed by each block behind it."""
    return Workload(f"chain-{blocks}", _calls([_chain(world, blocks) for _ in range(count)]))


def _chain(world: World, blocks: int) -> Token:
    token = _mint(world, eight_scopes(), ending="open")
    for number in range(1, blocks):
        last = number == blocks - 1
        token = token.attenuate(
            scopes=[f"read:{RESOURCE} where {FOUR_CONDITIONS} free *"] if last else [],
            where=[] if last else [f"per_page <= {100 - number}"],
            ending="sealed" if last else "open",
        )
    return token


def children(world: World, count: int) -> Workload:
    """Children of one parent, each with one block of its own."""
    parent = _mint(world, eight_scopes(), ending="open")
    tokens = [parent.attenuate(where=[f"page <= {10 + number}"]) for number in range(count)]
    return Workload("child-of-known-parent", _calls(tokens))


def mcp_catalogue(world: World) -> ToolCatalogue:
    """Return the pinned catalogue of the made-up server."""
    return ToolCatalogue.from_mcp(world.github.name, world.github.tools)


def mcp_hot_set(world: World) -> Workload:
    """Four agents in each of 64 sessions, each with a token of two blocks, calling tools of one server."""
    source = random.Random(SEED)
    catalogue = mcp_catalogue(world)
    calls = []
    for session_id in world.hot_session_ids:
        parent = _mint(
            world, ["read,write:mcp/github/** free *", "read:mcp/jira/** free *"], session_id, ending="open"
        )
        for agent in range(4):
            owner, repo = f"org-{source.randrange(20)}", f"repo-{agent}"
            token = parent.attenuate(
                scopes=[f'read:mcp/github/* where owner == "{owner}" and repo == "{repo}" free *']
            )
            made = world.github.call(source.choice(world.github.read_tools), owner, repo)
            action, resource = catalogue.request(made.tool)
            facts = catalogue.describe(made.tool)
            calls.append(Call(token.data, action, resource, made.arguments, facts))
    return Workload("mcp-hot-set", tuple(calls))


def out_of_scope(world: World) -> Workload:
    """A good token, for a resource that none of its scopes names."""
    token = _mint(world, eight_scopes())
    return Workload(
        "out-of-scope", (Call(token.data, "read", "mcp/github/delete_repo", ARGUMENTS),), Reason.OUT_OF_SCOPE
    )


def condition_failed(world: World) -> Workload:
    """A good token, with an argument that its last condition refuses."""
    token = _mint(world, eight_scopes())
    arguments = ARGUMENTS.replace(b'"page":3', b'"page":11')
    return Workload(
        "condition-failed", (Call(token.data, "read", RESOURCE, arguments),), Reason.CONDITION_FAILED
    )


def garbage(_world: World) -> Workload:
    """Random bytes of a token's size."""
    source = random.Random(SEED)
    calls = tuple(Call(source.randbytes(600), "read", RESOURCE, ARGUMENTS) for _ in range(64))
    return Workload("garbage", calls, Reason.MALFORMED_TOKEN)


def torn(world: World) -> Workload:
    """A good token without its last byte: the decoder gets as far as it can."""
    call = _calls([_chain(world, 2)])[0]
    return Workload("torn", (call._replace(token=call.token[:-1]),), Reason.MALFORMED_TOKEN)


def oversized(world: World) -> Workload:
    """A good token, padded beyond the largest size."""
    token = _mint(world, eight_scopes()).data
    padded = token + bytes(MAX_TOKEN_BYTES + 1 - len(token))
    return Workload("oversized", (Call(padded, "read", RESOURCE, ARGUMENTS),), Reason.TOKEN_TOO_LARGE)


def unknown_session(world: World) -> Workload:
    """A well-signed token of a session that the state does not know."""
    token = _mint(world, eight_scopes(), world.unknown_session_id)
    return Workload("unknown-session", _calls([token]), Reason.UNKNOWN_SESSION)


def forged(world: World) -> Workload:
    """Tokens of a live session and a known key, each with one bit of the signature flipped."""
    tokens = []
    for _ in range(16):
        token = _mint(world, eight_scopes())
        signature = token._chain.signatures[0]
        wrong = bytes([signature[0] ^ 1]) + signature[1:]
        tokens.append(token.data.replace(signature, wrong, 1))
    return Workload(
        "forged", tuple(Call(data, "read", RESOURCE, ARGUMENTS) for data in tokens), Reason.BAD_SIGNATURE
    )
