"""Tokens and proofs made from stated secrets: each block's bytes, what is signed, and the signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.oracle.constants import Ending
from tests.oracle.crypto import digest, signed_bytes
from tests.oracle.decode import parse_chain
from tests.oracle.model import OracleRequest
from tests.oracle.proofs import agreed, mac_key, proven, request_digest
from tests.oracle.scope_reader import read_conditions, read_scope
from tests.oracle.text import PRESENTED, PROOF, store, to_text
from tests.oracle.wire import encode
from tests.support.proof_forger import ED25519, MAC, Holder, agreement, fields, nonce
from tests.support.token_forger import Key, Record, assemble, id16, key, sign
from tests.support.vector_files import write_request
from tests.vectors.world import EXPIRES, ISSUED, ISSUER, NOW, SESSION, ask

Says = Mapping[str, Any]

_LEAST: Says = {"scopes": ["read:files/*"], "audience": ["gateway"], "expires_at_ms": EXPIRES}
_OPEN: Says = {**_LEAST, "scopes": ["read,list:files/**", "write:files/drafts/*"], "ending": "OPEN"}
_CHILD: Says = {"scopes": ["read:files/a/*"], "where": ["n <= 5", 'tag in ["x", "y"]'], "label": "planner"}
_SEAL: Says = {}
_BOUND: Says = {"scopes": ["read:files/**"], "audience": [], "expires_at_ms": EXPIRES, "ending": "BOUND"}
_ALL: Says = {
    "scopes": [
        'read:files/** where n <= 1.5 and tool.safe? == true free tag needs uses(3), budget("n", 9, n)'
    ],
    "where": ['session.region == "eu"'],
    "audience": ["gateway", "gateway-2"],
    "source": ["10.0.0.0/8", "2001:db8::/32"],
    "peer": ["spiffe://example/a"],
    "min_revision": 7,
    "expires_at_ms": EXPIRES,
    "not_before_ms": NOW - 1000,
    "max_blocks": 3,
    "label": "all that a block can say",
}
_CASES: tuple[tuple[str, str, tuple[Says, ...]], ...] = (
    ("least", "A root that is sealed.", (_LEAST,)),
    ("all", "A root with every field.", (_ALL,)),
    ("open", "Handed on in its stored form.", (_OPEN,)),
    ("presented", "The open token with a block that only seals it.", (_OPEN, _SEAL)),
    ("attenuated", "The open token, narrowed and sealed.", (_OPEN, _CHILD)),
    (
        "attenuated twice",
        "Narrowed and open, narrowed in time, and sealed.",
        (_OPEN, {**_CHILD, "ending": "OPEN"}, {"expires_at_ms": EXPIRES - 1000}),
    ),
    ("bound", "To a holder with both keys.", ({**_BOUND, "proof_key": True},)),
    ("bound, signatures only", "To a holder that names no proof_key.", (_BOUND,)),
    ("bound, handed on", "Bound by its holder to another.", (_BOUND, {"ending": "BOUND", "proof_key": True})),
    (
        "bound, sealed",
        "A holder that may seal does.",
        ({**_BOUND, "may_seal": True}, {"audience": ["gateway"], "scopes": ["read:files/a"]}),
    ),
)


def _record(says: Says, index: int) -> Record:
    """The wire dict of a block."""
    word = says.get("ending", "SEALED")
    record: Record = {
        **{name: says[name] for name in ("audience", "source", "peer", "label") if name in says},
        **{name: says[name] for name in ("expires_at_ms", "not_before_ms", "max_blocks") if name in says},
        "scopes": [read_scope(text) for text in says.get("scopes", ())],
        "where": [read_conditions(text)[0] for text in says.get("where", ())],
        "ending": int(Ending[word]),
        "may_seal": says.get("may_seal", False),
    }
    if word != "SEALED":
        record["next_key"] = _next(index).public
    if says.get("proof_key"):
        record["proof_key"] = agreement(f"making {index}").public
    if index == 0:
        ids = {"issuer_key_id": ISSUER.id, "session_id": SESSION, "token_id": id16("token")}
        record.update(root={**ids, "min_revision": says.get("min_revision", 0)}, issued_at_ms=ISSUED)
    return record


def _next(index: int) -> Key:
    return key(f"making {index}")


def _stated(says: Says, index: int) -> Record:
    """Return the statement of a block, with the secrets behind the keys that it names."""
    stated: Record = {
        "ending": "SEALED",
        **{name: each for name, each in says.items() if name != "proof_key"},
    }
    if index == 0:
        stated.update(session_id_hex=SESSION.hex(), token_id_hex=id16("token").hex(), issued_at_ms=ISSUED)
    if stated["ending"] != "SEALED":
        stated["next_seed_hex"] = _next(index).seed.hex()
    if says.get("proof_key"):
        stated["proof_secret_hex"] = agreement(f"making {index}").secret.hex()
    return stated


def _vector(name: str, comment: str, blocks: tuple[Says, ...]) -> Record:
    payloads = [encode("Block", _record(says, index)) for index, says in enumerate(blocks)]
    signers = [ISSUER, *map(_next, range(len(blocks) - 1))]
    signatures = sign(payloads, signers)
    token = assemble(payloads, signatures)
    parse_chain(token)
    made, before = [], bytes(64)
    for index, (says, payload, signature) in enumerate(zip(blocks, payloads, signatures, strict=True)):
        covered = signed_bytes(index, before, payload)
        before = signature
        made.append(
            {
                "says": _stated(says, index),
                "signer_seed_hex": signers[index].seed.hex(),
                "payload_hex": payload.hex(),
                "signed_hex": covered.hex(),
                "signature_hex": signature.hex(),
                "block_id_hex": digest(covered).hex(),
            }
        )
    last = len(blocks) - 1
    word = blocks[-1].get("ending", "SEALED")
    text = store(token, _next(last).seed) if word == "OPEN" else to_text(PRESENTED, token)
    vector: Record = {
        "name": name,
        "comment": comment,
        "blocks": made,
        "token_hex": token.hex(),
        "text": text,
    }
    if word == "BOUND":
        kinds = (ED25519, MAC) if blocks[-1].get("proof_key") else (ED25519,)
        vector["proofs"] = [_proof(kind, token, last, bool(blocks[-1].get("proof_key"))) for kind in kinds]
    return vector


def _proof(kind: int, token: bytes, last: int, has_proof_key: bool) -> Record:
    """A proof of one call, with all that went into it."""
    request: OracleRequest = ask(arguments='{"n":1}')
    host, proof_key = agreement("making host"), agreement(f"making {last}")
    who = Holder(_next(last), proof_key if has_proof_key else None)
    host_id, once = id16("making host"), nonce(f"making {kind}")
    made = fields(kind, token, request, who, host_id, host.public, NOW, once)
    asked = request_digest(request.action, request.resource, request.arguments)
    encoded = encode("Proof", made)
    record: Record = {
        "kind": "MAC" if kind == MAC else "ED25519",
        "verifier_id_hex": host_id.hex(),
        "verifier_key_hex": host.public.hex(),
        "request": write_request(request),
        "time_ms": NOW,
        "nonce_hex": once.hex(),
        "request_digest_hex": asked.hex(),
        "proven_hex": proven(made, parse_chain(token).blocks[-1].signature, asked).hex(),
        "proof_hex": encoded.hex(),
        "text": to_text(PROOF, encoded),
    }
    if kind == MAC:
        shared = agreed(proof_key.secret, host.public)
        assert shared is not None
        secret = mac_key(shared, proof_key.public, host.public, _next(last).public, host_id)
        record["mac_key_hex"] = secret.hex()
    return record


def content() -> Record:
    """The content of ``making.json``."""
    return {
        "title": "Tokens and proofs made from stated secrets",
        "format": "docs/token-format.md, version 1",
        "issuer_seed_hex": ISSUER.seed.hex(),
        "vectors": [_vector(*case) for case in _CASES],
    }
