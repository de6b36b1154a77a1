"""Random hosts, bound chains that share keys, and proofs for them: right, for something else, or changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.oracle.crypto import digest
from tests.oracle.decode import parse_chain
from tests.oracle.model import Chain, OracleHost, OracleRequest, OracleVerifierKey, OracleView
from tests.oracle.wire import encode
from tests.property.mutations import mutate_bytes
from tests.support.proof_forger import ED25519, MAC, Agreement, Holder, agreement, fields, holder
from tests.support.token_forger import ending, id16, key
from tests.support.vector_files import read_view
from tests.vectors.world import NOW, VIEWS, ask, child, root, token

REQUESTS = (
    ask(),
    ask(resource="files/b.txt"),
    ask(resource="files"),
    ask(arguments='{"n":1}'),
    ask(arguments='{"n":1.0}'),
    ask("rea", "dfiles/a.txt"),
    ask("write"),
)
HOSTS = (id16("host"), id16("another host"))
_SMALL = (bytes(32), bytes([1]) + bytes(31), (2**255 - 20).to_bytes(32, "little"))
_SCOPES = ("read:files/**", "read:files/** where n? == 1 free *", "read:** needs uses(3)")


@dataclass(frozen=True, slots=True)
class Bound:
    """A chain that ends bound, and who holds it."""

    token: bytes
    chain: Chain
    who: Holder
    has_proof_key: bool


@dataclass(frozen=True, slots=True)
class Proved:
    """A call with a proof. ``right``: by its holder, for it and for a key of the host, and not changed."""

    token: bytes
    request: OracleRequest
    right: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls to judge by one view at one time, in any order: no two good proofs have one nonce."""

    view: OracleView
    cases: list[Proved]


def batch(rng: Random) -> Batch:
    """A host, some chains, and proofs for them."""
    names = rng.sample(("v 1", "v 2", "v 3"), 2)
    bounds = [_bound(rng) for _ in range(3)]
    taken = {(rng.choice(bounds).chain.blocks[-1].signature, rng.randbytes(16)) for _ in range(4)}
    host = OracleHost(
        rng.choice(HOSTS),
        tuple(_key(rng, name) for name in names[: rng.choice((0, 1, 2, 2, 2, 2))]),
        rng.choice((NOW - 60_000, NOW - 60_000, NOW - 60_000, NOW - 10_000)) if rng.random() < 0.97 else None,
    )
    # What was taken was made when the table was there.
    host = replace(host, taken=frozenset(taken) if host.counts_from_ms is not None else frozenset())
    view, _ = read_view(VIEWS["plain"])
    return Batch(replace(view, host=host), [_case(rng, bounds, host) for _ in range(24)])


def _key(rng: Random, name: str) -> OracleVerifierKey:
    pair = agreement(name)
    begins = NOW - 1000 if rng.random() < 0.9 else NOW + rng.choice((0, 1))
    ends = NOW + 1000 if rng.random() < 0.9 else NOW + rng.choice((0, 1))
    return OracleVerifierKey(pair.public, pair.secret, begins, ends)


def _bound(rng: Random) -> Bound:
    """A chain of one to three blocks whose keys other chains have as well."""
    count = rng.choice((1, 1, 2, 3))
    blocks = []
    for index in range(count):
        pair = agreement(f"proof {index}").public if rng.random() < 0.8 else b""
        if rng.random() < 0.05:
            pair = _SMALL[index]
        end = ending("bound", key(f"next {index}"), pair)
        label = f"{rng.randrange(3)}"
        scopes = [rng.choice(_SCOPES[: 2 if rng.random() < 0.9 else 3])]
        blocks.append(child(*scopes, label=label, **end) if index else root(*scopes, label=label, **end))
    data = token(*blocks)
    chain = parse_chain(data)
    who = Holder(key(f"next {count - 1}"), agreement(f"proof {count - 1}"))
    return Bound(data, chain, who, chain.blocks[-1].proof_key == agreement(f"proof {count - 1}").public)


def _case(rng: Random, bounds: Sequence[Bound], host: OracleHost) -> Proved:
    """One call. What may be wrong is chosen first; the rest is right."""
    bound, request = rng.choice(bounds), rng.choice(REQUESTS)
    if rng.random() < 0.05:
        return Proved(bound.token, request, False)
    kind = rng.choice((ED25519, MAC))
    wrong = rng.random() < 0.6
    made_for, asked, who = bound, request, bound.who
    said: dict[str, Any] = {}
    at, key_of, host_id = NOW + rng.choice((0, -30_000, 30_000, 1234)), _some_key(host), host.verifier_id
    if wrong:
        what = rng.randrange(10)
        if what == 0:
            made_for = rng.choice(bounds)
        elif what == 1:
            asked = rng.choice(REQUESTS)
        elif what == 2:
            who = rng.choice((holder("thief", "thief"), *(b.who for b in bounds)))
        elif what == 3:
            at = NOW + rng.choice((-30_001, 30_001, -10_001, -10_000, -NOW, 2**53 - NOW, 2**53 - 1 - NOW))
        elif what == 4:
            key_of = agreement(rng.choice(("v 1", "v 2", "v 3", "v 4")))
        elif what == 5:
            host_id = rng.choice(HOSTS)
        elif what == 6:
            said["kind"] = rng.choice((0, 1, 2, 3))
        elif what == 7:
            said["tag"] = rng.randbytes(rng.choice((0, 31, 32, 63, 64)))
        elif what == 8:
            said["key_id"] = digest(agreement(rng.choice(("v 1", "v 2", "v 3"))).public)
    once = rng.randbytes(16)
    spent = sorted(nonce for of, nonce in host.taken if of == bound.chain.blocks[-1].signature)
    if spent and rng.random() < 0.2:
        once = rng.choice(spent)
    record = fields(kind, made_for.chain, asked, who, host_id, key_of.public, at, once)
    data = encode("Proof", {**record, **said})
    if wrong and rng.random() < 0.2:
        data = mutate_bytes(rng, data)
    right = record == fields(kind, bound.chain, request, bound.who, host.verifier_id, key_of.public, at, once)
    return Proved(bound.token, replace(request, proof=data), right and data == encode("Proof", record))


def _some_key(host: OracleHost) -> Agreement:
    if not host.keys:
        return agreement("v 1")
    return Agreement(host.keys[0].secret, host.keys[0].public_key)
