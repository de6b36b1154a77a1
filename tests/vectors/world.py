"""The sessions, keys and times that all vectors share, and short ways to write their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.constants import Level, Reason, Stage
from tests.oracle.model import OracleDecision, OracleRequest
from tests.support.token_forger import Key, Record, ending, id16, key, make, scope, where
from tests.support.vector_files import write_fact, write_scope
from tests.vectors.exceptions import EXCEPTIONS

NOW = 1_800_000_000_000
ISSUED = NOW - 60_000
EXPIRES = NOW + 3_600_000
SESSION = id16("session")
AUDIENCE = "gateway"
ISSUER = key("issuer")

_STAGES = (
    (10, Stage.DECODE), (20, Stage.SESSION), (30, Stage.ISSUER), (40, Stage.SIGNATURE), (50, Stage.TIME),
    (60, Stage.AUDIENCE), (70, Stage.REVOCATION), (80, Stage.SCOPE), (90, Stage.PROOF), (100, Stage.NEEDS),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One vector: what is judged and what must come out."""

    name: str
    comment: str
    token: bytes
    expected: OracleDecision
    request: OracleRequest = field(default_factory=lambda: ask())
    view: str = "plain"
    now_ms: int = NOW
    blocks: Sequence[Mapping[str, Any]] = ()


def ask(
    action: str | bytes = "read",
    resource: str | bytes = "files/a.txt",
    arguments: str | bytes = "",
    **parts: Any,
) -> OracleRequest:
    """A request of the audience that all tokens name, unless ``parts`` say otherwise."""
    raw = [part.encode() if isinstance(part, str) else part for part in (action, resource, arguments)]
    return OracleRequest(raw[0], raw[1], raw[2], **{"audience": AUDIENCE, **parts})


def refused(
    reason: Reason,
    level: Level = Level.NONE,
    index: int = -1,
    scope: int = -1,
    clause: int = -1,
    argument: str = "",
) -> OracleDecision:
    """A denial, with the stage that the reason belongs to."""
    stage = next(stage for number, stage in reversed(_STAGES) if reason >= number)
    return OracleDecision(reason, stage, level, index, scope, clause, argument)


def at_block(
    reason: Reason, index: int = 0, scope: int = -1, clause: int = -1, argument: str = ""
) -> OracleDecision:
    """A denial at a block."""
    return refused(reason, Level.BLOCK, index, scope, clause, argument)


def allowed(index: int = 0, scope: int = 0) -> OracleDecision:
    """A yes, by a scope of a block."""
    return OracleDecision(Reason.ALLOWED, matched_index=index, matched_scope=scope)


def root(*scopes: str | Record, conditions: str | Sequence[Record] = "", **fields: Any) -> Record:
    """A root block; ``fields`` replace or add, and None removes."""
    block: Record = {
        "root": {"issuer_key_id": ISSUER.id, "session_id": SESSION, "token_id": id16("token")},
        "issued_at_ms": ISSUED,
        "expires_at_ms": EXPIRES,
        "audience": [AUDIENCE],
        "scopes": [scope(s) for s in scopes],
        "where": where(conditions),
    }
    block["root"].update(fields.pop("root_fields", {}))
    return {name: value for name, value in {**block, **fields}.items() if value is not None}


def child(*scopes: str | Record, conditions: str | Sequence[Record] = "", **fields: Any) -> Record:
    """An attenuation block."""
    return {"scopes": [scope(s) for s in scopes], "where": where(conditions), **fields}


def link(*blocks: Record, last: str = "sealed") -> list[Record]:
    """Give each block that states no ending one: open, but ``last`` for the last. Keys are named by index."""
    linked = []
    for index, block in enumerate(blocks):
        kind = last if index == len(blocks) - 1 else "open"
        if "ending" not in block:
            block = {**block, **ending(kind, None if kind == "sealed" else key(f"next {index}"))}
        linked.append(block)
    return linked


def signers(count: int) -> list[Key]:
    """Return the keys that sign a linked chain of so many blocks."""
    return [ISSUER, *(key(f"next {index}") for index in range(count - 1))]


def token(*blocks: Record, last: str = "sealed") -> bytes:
    """A signed chain of linked blocks."""
    return make(link(*blocks, last=last), signers(len(blocks)))


def case(
    name: str, comment: str, expected: OracleDecision, *blocks: Record, last: str = "sealed", **parts: Any
) -> Case:
    """A vector for a chain of these blocks."""
    return Case(name, comment, token(*blocks, last=last), expected, blocks=blocks, **parts)


def _key(of: Key, status: str | int = "ACTIVE", **fields: Any) -> Record:
    return {"id_hex": of.id.hex(), "public_key_hex": of.public.hex(), "status": status, **fields}


def _session(name: str = "session", status: str | int = "ACTIVE", **fields: Any) -> Record:
    return {"id_hex": id16(name).hex(), "status": status, "expires_at_ms": EXPIRES, **fields}


def _view(*sessions: Record, keys: Sequence[Record] = (), **fields: Any) -> Record:
    return {"revision": 100, "sessions": list(sessions), "keys": list(keys or [_key(ISSUER)]), **fields}


def _layers(*layers: Sequence[str]) -> list[list[Record]]:
    return [[write_scope(scope(text)) for text in layer] for layer in layers]


_FACTS = [
    write_fact("case_id", {"text": "C-7"}, True),
    write_fact("amount", {"number": {"units": 50, "nanos": 0}}, True),
    write_fact("user_present", {"truth": True}, True),
    write_fact("region", {"text": "eu"}, False),
    write_fact("home", {"text": "/srv/data"}, True),
    write_fact("untidy", {"text": "/srv//data"}, True),
]


def revoking(*block_ids: bytes) -> Record:
    """A plain view that has these blocks revoked."""
    return _view(_session(), revoked_hex=[b.hex() for b in block_ids])


def _line(depth: int, **top: Any) -> list[Record]:
    """A session with so many ancestors; ``top`` is said of the highest."""
    names = ["session", *(f"ancestor {i}" for i in range(1, depth + 1))]
    parents = [{"parent_id_hex": id16(name).hex()} for name in names[1:]]
    return [
        _session(n, **{**p, **(top if n == names[-1] else {})})
        for n, p in zip(names, [*parents, {}], strict=True)
    ]


VIEWS: dict[str, Record] = {
    "plain": _view(_session()),
    "facts": _view(_session(facts=_FACTS)),
    "braked": _view(_session(), braked=True),
    "clock_suspect": _view(_session(), clock_suspect=True),
    "no_session": _view(_session("another")),
    "ended": _view(_session(status="ENDED", end_cause="ASKED")),
    "ended_no_cause": _view(_session(status="ENDED")),
    "ended_parent": _view(_session(status="ENDED", end_cause="PARENT_ENDED")),
    "ended_restored": _view(_session(status="ENDED", end_cause="RESTORED")),
    "ended_lease": _view(_session(status="ENDED", end_cause="LEASE_LAPSED")),
    "ended_expired": _view(_session(status="ENDED", end_cause="EXPIRED")),
    "suspended": _view(_session(status="SUSPENDED")),
    "odd_status": _view(_session(status=9)),
    "session_expires_now": _view(_session(expires_at_ms=NOW)),
    "lease_now": _view(_session(lease_deadline_ms=NOW)),
    "lease_later": _view(_session(lease_deadline_ms=NOW + 1)),
    "suspended_and_lapsed": _view(_session(status="SUSPENDED", lease_deadline_ms=NOW)),
    "two_sessions": _view(_session(), _session("another")),
    "three_ancestors": _view(*_line(3)),
    "four_ancestors": _view(*_line(4)),
    "parent_ended": _view(*_line(1, status="ENDED", end_cause="ASKED")),
    "parent_lapsed": _view(*_line(2, lease_deadline_ms=NOW)),
    "parent_gone": _view(_session(parent_id_hex=id16("gone").hex())),
    "own_parent": _view(_session(parent_id_hex=SESSION.hex())),
    "no_key": _view(_session(), keys=[_key(key("another issuer"))]),
    "key_prepared": _view(_session(), keys=[_key(ISSUER, "PREPARED")]),
    "key_distrusted": _view(_session(), keys=[_key(ISSUER, "DISTRUSTED")]),
    "key_odd": _view(_session(), keys=[_key(ISSUER, 9)]),
    "key_retired_before": _view(_session(), keys=[_key(ISSUER, "RETIRED", retired_at_ms=ISSUED - 1)]),
    "key_retired_after": _view(_session(), keys=[_key(ISSUER, "RETIRED", retired_at_ms=ISSUED)]),
    "key_owned": _view(_session(owner="team-a"), keys=[_key(ISSUER, owner="team-a")]),
    "key_of_other": _view(_session(owner="team-b"), keys=[_key(ISSUER, owner="team-a")]),
    "key_listed": _view(_session(issuer_key_ids_hex=[ISSUER.id.hex()])),
    "key_not_listed": _view(_session(issuer_key_ids_hex=[key("another issuer").id.hex()])),
    "ceiling": _view(_session(ceilings=_layers(["read:files/**"], ["read:files/*", "*:logs/**"]))),
    "ceiling_condition": _view(_session(ceilings=_layers(['read:files/* where tag == "x" free *']))),
    "ceiling_facts": _view(
        _session(ceilings=_layers(['read:** where session.region == "eu" free *']), facts=_FACTS)
    ),
    "ceiling_empty": _view(_session(ceilings=[[]])),
    "parent_ceiling": _view(
        _session(parent_id_hex=id16("ancestor 1").hex(), ceilings=_layers(["*:**"])),
        _session("ancestor 1", ceilings=_layers(["read:files/**"])),
    ),
    "observed": _view(_session(ceilings=_layers(["read:files/**"], ["read:files/*"]), observe=True)),
    "observed_fact": _view(
        _session(ceilings=_layers(['read:** where session.region == "eu" free *']), observe=True)
    ),
    "observed_child": _view(
        _session(parent_id_hex=id16("ancestor 1").hex(), ceilings=_layers(["read:files/*"]), observe=True),
        _session("ancestor 1", ceilings=_layers(["*:files/**"])),
    ),
    "observed_parent": _view(
        _session(parent_id_hex=id16("ancestor 1").hex(), ceilings=_layers(["*:files/**"])),
        _session("ancestor 1", ceilings=_layers(["read:files/*"]), observe=True),
    ),
    "exceptions": _view(
        _session(ceilings=_layers(["*:**", *(text for text, _, _ in EXCEPTIONS)]), facts=_FACTS)
    ),
    "exceptions_alone": _view(_session(ceilings=_layers(["except write:**", "except send:**"]))),
    "exceptions_of_reads": _view(_session(ceilings=_layers(["read:**", "except *:files/*"]))),
    "exceptions_observed": _view(
        _session(ceilings=_layers(["*:**", "except read:files/* where a == 1"]), observe=True)
    ),
    "parent_has_facts": _view(
        _session(parent_id_hex=id16("ancestor 1").hex(), ceilings=_layers(["*:**"])),
        _session(
            "ancestor 1", ceilings=_layers(['read:** where session.region == "eu" free *']), facts=_FACTS
        ),
    ),
    "child_has_facts": _view(
        _session(parent_id_hex=id16("ancestor 1").hex(), ceilings=_layers(["*:**"]), facts=_FACTS),
        _session("ancestor 1", ceilings=_layers(['read:** where session.region == "eu" free *'])),
    ),
}
