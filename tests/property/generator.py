"""Seeded random cases for kernel and oracle: views, chains right and wrong, requests.

A batch shares one view; its chains are judged for several requests, since signing is what costs.
About a third of all cases is allowed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.oracle.constants import KeyStatus, SessionStatus
from tests.oracle.decode import parse_chain
from tests.oracle.forms import scope as scope_of
from tests.oracle.model import OracleKey, OracleRequest, OracleSession, OracleView
from tests.oracle.wire import Malformed, decode, encode
from tests.property.mutations import (
    edit_record,
    edited,
    forged,
    mutate_bytes,
    mutated_payload,
    restructured,
    with_unknown_kind,
)
from tests.property.random_chains import (
    ACTIONS,
    AUDIENCES,
    ISSUERS,
    NOW,
    PEERS,
    SEGMENTS,
    SOURCES,
    Call,
    Draft,
    call,
    chain,
    resource_text,
    scopes_for,
)
from tests.property.random_values import FACT_NAMES, members, near, parsed, random_condition, render, scalar
from tests.support.token_forger import Ceilings, Record, id16, key

_BAD_ACTIONS = (b"", b"*", b"a b", b"x" * 65, b"caf\xc3\xa9", b"\xff")
_BAD_RESOURCES = (
    b"",
    b"/a",
    b"a//b",
    b"..",
    b"a/*",
    b"a\\b",
    b"a%2Fb",
    b"a\x00",
    b"\xff",
    b"a" * 1025,
    b"a/" * 32 + b"a",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One call to judge under the view of its batch."""

    token: bytes
    request: OracleRequest
    now_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Cases that share a view. ``drafts`` are the well-formed chains among them."""

    view: OracleView
    ceilings: Ceilings
    cases: list[Case]
    drafts: list[Draft]


def batches(seed: int) -> Iterator[Batch]:
    """Endless batches; the same seed gives the same ones."""
    number = 0
    while True:
        yield batch(Random(f"{seed} {number}"))
        number += 1


def batch(rng: Random) -> Batch:
    """One view, a few chains, and requests for each of them."""
    tree = members(rng)
    wanted = call(rng, parsed(render(rng, tree)))
    drafts = [chain(rng, wanted) for _ in range(2)]
    ceilings, view = _view(rng, wanted, drafts)
    cases: list[Case] = []
    for token in _tokens(rng, drafts):
        now = _now(rng)
        cases.extend(Case(token, _request(rng, wanted, tree), now) for _ in range(rng.choice((1, 2, 3, 4))))
    return Batch(view, ceilings, cases, drafts)


def _tokens(rng: Random, drafts: list[Draft]) -> Iterator[bytes]:
    for draft in drafts:
        for _ in range(6):
            yield draft.token
    draft = rng.choice(drafts)
    yield edited(rng, draft)
    yield mutated_payload(rng, draft)
    if rng.random() < 0.5:
        yield mutate_bytes(rng, draft.token)
    if rng.random() < 0.5:
        yield restructured(rng, *rng.sample(drafts, 2))
    if rng.random() < 0.2:
        yield forged(rng, draft)
    if rng.random() < 0.2:
        yield with_unknown_kind(rng, draft)
    if rng.random() < 0.05:
        yield rng.choice((b"", b"\x08\x02", b"\x08\x01", bytes(8193), b"\x08\x00", b"sessauth_token_"))


def _now(rng: Random) -> int:
    roll = rng.random()
    if roll < 0.93:
        return NOW
    return NOW + rng.choice((-1, 1, 999, 1000, 1001, 3_599_999, 3_600_000, -30_001, -90_000, -90_001))


def _request(rng: Random, wanted: Call, tree: dict[str, Any]) -> OracleRequest:
    """The wanted call, or one that differs in one part or another."""
    request = OracleRequest(
        action=wanted.action.encode(),
        resource=resource_text(wanted.segments),
        arguments=render(rng, tree).encode("utf-8"),
        audience="gateway",
        source="10.1.2.3",
        peer=PEERS,
    )
    if rng.random() < 0.65:
        return request
    changes: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 2))):
        changes.update(_change(rng, wanted, tree))
    if rng.random() < 0.1:
        # The token alone, which has no call.
        changes.update(action=b"", resource=b"", arguments=b"", tool=b"", token_only=True)
    return replace(request, **changes)


def _change(rng: Random, wanted: Call, tree: dict[str, Any]) -> dict[str, Any]:
    roll = rng.randrange(14)
    if roll < 2:
        return {"action": rng.choice(ACTIONS).encode() if rng.random() < 0.8 else rng.choice(_BAD_ACTIONS)}
    if roll < 5:
        if rng.random() < 0.2:
            return {"resource": rng.choice(_BAD_RESOURCES)}
        segments = list(wanted.segments)
        segments[rng.randrange(len(segments))] = rng.choice(SEGMENTS)
        return {"resource": resource_text(segments[: rng.randint(1, len(segments))])}
    if roll < 9:
        if rng.random() < 0.25:
            return {"arguments": mutate_bytes(rng, render(rng, tree).encode("utf-8"))}
        changed = near(rng, tree) if rng.random() < 0.8 else members(rng)
        return {"arguments": render(rng, changed).encode("utf-8")}
    if roll == 9:
        return {"tool": render(rng, members(rng)).encode() if rng.random() < 0.8 else b"[]"}
    if roll == 10:
        return {"source": rng.choice(SOURCES)}
    if roll == 11:
        return {"peer": tuple(rng.sample(PEERS, rng.randint(0, 2)))}
    if roll == 12:
        return {"audience": rng.choice((*AUDIENCES, ""))}
    return rng.choice(
        (
            {"session": id16("session")},
            {"session": id16("other session")},
            {"at_least_revision": 100},
            {"at_least_revision": 101},
            {"arguments": b""},
        )
    )


def _facts(rng: Random) -> dict[str, tuple[Any, bool]]:
    return {name: (scalar(rng), name != "hidden") for name in FACT_NAMES if rng.random() < 0.8}


def _ceiling_scope(rng: Random, record: Record) -> Record:
    """The scope with every field there, now and then changed in one place and still well-formed."""
    if rng.random() < 0.1:
        changed = copy.deepcopy(record)
        edit_record(rng, "Scope", changed)
        changed["needs"] = None
        changed["exception"] = False
        try:
            again = decode("Scope", encode("Scope", changed))
            scope_of(again)
        except Malformed:
            pass
        else:
            return again
    return decode("Scope", encode("Scope", record))


def _layers(rng: Random, wanted: Call) -> list[list[Record]]:
    count = rng.choice((0, 0, 0, 1, 1, 2))
    layers = [[_ceiling_scope(rng, s) for s in scopes_for(rng, wanted, needs=0.0)] for _ in range(count)]
    return [
        [*(layer if rng.random() < 0.9 else ()), *_exceptions(rng, wanted)] if rng.random() < 0.08 else layer
        for layer in layers
    ]


def _exceptions(rng: Random, wanted: Call) -> list[Record]:
    """One to three exceptions, most of them for other calls than the wanted one."""
    made = scopes_for(rng, wanted, needs=0.0)[: rng.randint(1, 3)]
    for record in made:
        record |= {"free": [], "free_all": False, "needs": None, "exception": True}
        if rng.random() < 0.6:
            record["actions"] = ["other"]
        elif rng.random() < 0.8:
            record["where"] = [random_condition(rng), *record.get("where", ())][:3]
    return [decode("Scope", encode("Scope", record)) for record in made if _is_scope(record)]


def _is_scope(record: Record) -> bool:
    try:
        scope_of(decode("Scope", encode("Scope", record)))
    except Malformed:
        return False
    return True


def _session(rng: Random, name: str, wanted: Call) -> tuple[OracleSession, list[list[Record]]]:
    layers = _layers(rng, wanted)
    roll = rng.random()
    status = int(SessionStatus.ACTIVE) if roll < 0.98 else rng.choice((0, 2, 2, 3, 3, 3, 9))
    session = OracleSession(
        id=id16(name),
        status=status,
        expires_at_ms=NOW + rng.choice((0, 1000, 3_600_000)) if rng.random() < 0.03 else NOW + 3_700_000,
        owner="team" if rng.random() < 0.3 else "",
        end_cause=rng.randint(0, 6) if status == SessionStatus.ENDED else 0,
        lease_deadline_ms=NOW + rng.choice((0, 1, 60_000, 60_000, 4_000_000)) if rng.random() < 0.1 else None,
        ceilings=tuple(tuple(scope_of(s) for s in layer) for layer in layers),
        facts=_facts(rng),
        observe=rng.random() < 0.1,
    )
    return session, layers


def _key(rng: Random, name: str) -> OracleKey:
    pair = key(name)
    status = int(KeyStatus.ACTIVE) if rng.random() < 0.96 else rng.randint(0, 5)
    retired = NOW - rng.choice((0, 60_000, 60_001)) if status == KeyStatus.RETIRED else 0
    return OracleKey(
        pair.id, pair.public, status, rng.choice(("team", "x")) if rng.random() < 0.02 else "", retired
    )


def _view(rng: Random, wanted: Call, drafts: list[Draft]) -> tuple[Ceilings, OracleView]:
    sessions: dict[bytes, OracleSession] = {}
    ceilings: dict[bytes, list[list[Record]]] = {}
    depth = rng.choice((0, 0, 0, 0, 1, 1, 2, 3)) if rng.random() < 0.98 else 4
    names = ["session", *(f"ancestor {n}" for n in range(1, depth + 1))]
    for name, parent in zip(names, [*names[1:], ""], strict=True):
        session, layers = _session(rng, name, wanted)
        if parent:
            session = replace(session, parent_id=id16(parent))
        if rng.random() < 0.02:
            listed = tuple(key(i).id for i in rng.sample(ISSUERS, rng.randint(1, 2)))
            session = replace(session, issuer_key_ids=listed)
        if name == "session" or rng.random() < 0.995:
            sessions[session.id] = session
            ceilings[session.id] = layers
    if rng.random() < 0.3:
        session, layers = _session(rng, "other session", wanted)
        sessions[session.id], ceilings[session.id] = session, layers
    keys = [_key(rng, name) for name in ISSUERS]
    view = OracleView(
        revision=100,
        sessions=sessions,
        keys={k.id: k for k in keys},
        revoked=_revoked(rng, drafts),
        braked=rng.random() < 0.005,
    )
    return ceilings, view


def _revoked(rng: Random, drafts: list[Draft]) -> frozenset[bytes]:
    if rng.random() < 0.92:
        return frozenset()
    try:
        return frozenset([rng.choice(parse_chain(rng.choice(drafts).token).block_ids), bytes(32)])
    except Malformed:
        return frozenset([bytes(32)])
