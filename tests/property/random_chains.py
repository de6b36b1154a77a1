"""Random scopes, blocks and chains that are well-formed, and mostly permit a given call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.oracle.texts import is_plain_segment
from tests.oracle.wire import encode
from tests.property.random_values import CIDRS, FACT_NAMES, leaves, random_condition, true_condition
from tests.support.token_forger import Key, Record, assemble, ending, id16, key, sign

NOW = 1_800_000_000_000
ACTIONS = ("read", "write", "list", "a.b-c_d")
SEGMENTS = ("files", "logs", "mcp", "github", "a", "ab", "a.txt", "x y", "...", "\u00e9")
AUDIENCES = ("gateway", "gateway-2")
SOURCES = ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "11.1.1.1", "not an address", "")
PEERS = ("spiffe://x/a", "spiffe://x/b", "sha256:00")
ISSUERS = ("issuer", "second issuer")
SESSIONS = ("session", "other session")
# The block that holds the address of most requests.
_MINE = ("10.0.0.0/8",)
_APPROVER = key("approver").public


@dataclass(frozen=True, slots=True)
class Call:
    """The call that scopes are made for: what it asks, its arguments as the oracle reads them."""

    action: str
    segments: tuple[str, ...]
    arguments: dict[str, Any]


@dataclass(slots=True)
class Draft:
    """A chain with what is needed to sign it again after a change."""

    payloads: list[bytes]
    signers: list[Key]
    blocks: list[Record]
    token: bytes = b""

    def seal(self) -> bytes:
        """Sign and assemble the payloads as they are."""
        self.token = assemble(self.payloads, sign(self.payloads, self.signers))
        return self.token


def call(rng: Random, arguments: dict[str, Any]) -> Call:
    """A random call with these arguments."""
    segments = tuple(rng.choice(SEGMENTS) for _ in range(rng.choice((1, 2, 2, 3, 4))))
    return Call(rng.choice(ACTIONS), segments, arguments)


def _segment_for(rng: Random, text: str) -> Record:
    roll = rng.random()
    if roll < 0.45:
        return {"kind": 1, "texts": [text]}
    if roll < 0.65:
        return {"kind": 2}
    if roll < 0.8:
        return {"kind": 3, "texts": [text[: rng.randint(1, len(text))]]}
    other = rng.choice([s for s in SEGMENTS if s != text])
    return {"kind": 4, "texts": rng.sample([text, other], 2)}


def resource_for(rng: Random, segments: Sequence[str]) -> list[Record]:
    """A pattern that matches the segments."""
    if rng.random() < 0.35:
        kept = rng.randint(0, len(segments))
        return [*(_segment_for(rng, s) for s in segments[:kept]), {"kind": 5}]
    return [_segment_for(rng, s) for s in segments]


def scope_for(rng: Random, call: Call, needs: float = 0.05) -> Record:
    """A scope that very likely permits the call."""
    actions = ["*"] if rng.random() < 0.3 else rng.sample(ACTIONS, 2)
    if actions[0] != "*" and call.action not in actions:
        actions[0] = call.action
    record: Record = {"actions": actions, "resource": resource_for(rng, call.segments)}
    if rng.random() < 0.65:
        record["where"] = [true_condition(rng, call.arguments) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        if rng.random() < 0.05:
            record["where"].insert(rng.randint(0, len(record["where"])), random_condition(rng))
        if rng.random() < 0.5:
            record["free_all"] = True
        else:
            paths = [path for path, _ in leaves(call.arguments) if len(path) == 1 or rng.random() < 0.3]
            dropped = rng.random() < 0.05
            record["free"] = [{"source": 1, "segments": list(p)} for p in paths[dropped:]]
    if rng.random() < needs:
        record["needs"] = _needs(rng)
    return record


def random_scope(rng: Random) -> Record:
    """Any well-formed scope."""
    segments = [rng.choice(SEGMENTS) for _ in range(rng.randint(1, 3))]
    record = scope_for(rng, Call(rng.choice(ACTIONS), tuple(segments), {}))
    if rng.random() < 0.5:
        record["where"] = [random_condition(rng) for _ in range(rng.randint(1, 3))]
    return record


def probe(rng: Random, call: Call) -> Record:
    """A scope for every call with a condition that may or may not hold: the position tells which."""
    found = leaves(call.arguments)
    path = rng.choice(found)[0] if found else ()
    near = true_condition(rng, call.arguments) if rng.random() < 0.5 else random_condition(rng, path)
    if near.get("values") and rng.random() < 0.5:
        # The same operand in another relation.
        near["operator"] = rng.choice((1, 2, 3, 4)) if rng.random() < 0.6 else near["operator"]
        near["values"] = near["values"][:1]
    return {"actions": ["*"], "resource": [{"kind": 5}], "where": [near], "free_all": True}


def _needs(rng: Random) -> Record:
    return rng.choice(
        (
            {"uses": 3},
            {"approval": {"threshold": 1, "keys": [_APPROVER]}},
            {"approval": {"threshold": 1, "keys": [_APPROVER]}, "uses": 1},
            {"budget": {"name": "b", "limit": {"units": 5}, "amount": {"source": 1, "segments": ["a"]}}},
        )
    )


def scopes_for(rng: Random, call: Call, needs: float = 0.05) -> list[Record]:
    """A list of scopes of which one very likely permits the call."""
    scopes = [scope_for(rng, call, needs)]
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        scopes.insert(rng.randint(0, len(scopes)), random_scope(rng))
    if rng.random() < 0.03:
        scopes = [random_scope(rng)]
    if rng.random() < 0.5:
        scopes.insert(0, probe(rng, call))
    return scopes


def _root(rng: Random, call: Call) -> tuple[Record, Key]:
    issuer = key(ISSUERS[rng.random() < 0.1])
    root: Record = {
        "issuer_key_id": issuer.id,
        "session_id": id16(SESSIONS[rng.random() < 0.02]),
        "token_id": id16(f"token {rng.random()}"),
    }
    if rng.random() < 0.1:
        root["min_revision"] = rng.choice((1, 1, 50, 100, 100, 100, 101))
    block: Record = {
        "root": root,
        "issued_at_ms": NOW - rng.choice((0, 60_000)),
        "expires_at_ms": NOW + 3_600_000,
    }
    if rng.random() < 0.01:
        block["issued_at_ms"] = NOW + rng.choice((30_000, 30_001))
    block["audience"] = ["gateway"] if rng.random() < 0.8 else list(AUDIENCES)
    block["scopes"] = [] if rng.random() < 0.01 else scopes_for(rng, call)
    return block, issuer


def _narrow(rng: Random, block: Record, above: Record, call: Call) -> None:
    """Add optional fields that stay within what is stated above."""
    if rng.random() < 0.15:
        above["expires_at_ms"] = max(
            above["issued_at_ms"] + 1,
            above["expires_at_ms"] - rng.choice((1, 1000, 1000, 2000, 3_599_000, 3_600_000)),
        )
        block["expires_at_ms"] = above["expires_at_ms"]
    if rng.random() < 0.08:
        above["not_before_ms"] = max(
            above["not_before_ms"], NOW - rng.choice((0, 5, 5, 1000, 1000, 1000, -1))
        )
        block["not_before_ms"] = above["not_before_ms"]
    if rng.random() < 0.04:
        block["audience"] = ["gateway"] if rng.random() < 0.7 else [rng.choice(AUDIENCES)]
    if rng.random() < 0.07:
        block["source"] = list(
            dict.fromkeys([*rng.sample(CIDRS, rng.randint(1, 3)), *_MINE[rng.random() < 0.3 :]])
        )
    if rng.random() < 0.07:
        block["peer"] = rng.sample(PEERS, rng.randint(1, 2))
    if rng.random() < 0.1:
        block["label"] = rng.choice(("planner", "\u00e9 x"))
    if rng.random() < 0.25:
        block["where"] = [true_condition(rng, call.arguments) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.08:
            block["where"].append(random_condition(rng))
    if rng.random() < 0.08:
        fact = rng.choice(FACT_NAMES)
        path = {"source": 2, "segments": [fact]}
        block.setdefault("where", []).append({"path": path, "operator": rng.choice((14, 14, 14, 15))})
    if rng.random() < 0.08:
        above["max_blocks"] = rng.randint(min(4, above["max_blocks"]), above["max_blocks"])
        block["max_blocks"] = above["max_blocks"]


def chain(rng: Random, call: Call) -> Draft:
    """A well-formed chain of 1 to 6 blocks, with any last ending."""
    count = rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6))
    first, issuer = _root(rng, call)
    above: Record = {
        "issued_at_ms": first["issued_at_ms"], "expires_at_ms": first["expires_at_ms"], "not_before_ms": 0,
        "max_blocks": 16,
    }  # fmt: skip
    blocks, signers, bound = [first], [issuer], False
    for index in range(count):
        if index:
            blocks.append({} if rng.random() < 0.3 else {"scopes": scopes_for(rng, call)})
        block, last = blocks[index], index == count - 1
        _narrow(rng, block, above, call)
        next_key = key(f"holder {rng.randint(0, 40)} {index}")
        may_seal = not bound and rng.random() < 0.7
        if bound or rng.random() < 0.04:
            proof = key(f"proof {index}").public if rng.random() < 0.5 else b""
            block.update(ending("bound", next_key, proof, may_seal))
            bound = not may_seal
        elif last and rng.random() < 0.96:
            block.update(ending("sealed"))
        else:
            block.update(ending("open", next_key))
        signers.append(next_key)
    draft = Draft([encode("Block", b) for b in blocks], signers[:count], blocks)
    draft.seal()
    return draft


def resource_text(segments: Sequence[str]) -> bytes:
    """The resource of a request."""
    assert all(map(is_plain_segment, segments))
    return "/".join(segments).encode("utf-8")
