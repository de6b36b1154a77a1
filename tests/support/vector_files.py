"""Reading and writing the files of ``tests/vectors/``: views, requests and expected outcomes as JSON.

``tests/vectors/README.md`` says what each member means. Bytes that are not UTF-8 are given in hex
under the name with ``_hex``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.oracle.constants import EndCause, KeyStatus, Level, Reason, SessionStatus, Stage
from tests.oracle.forms import scope as scope_of
from tests.oracle.forms import value as value_of
from tests.oracle.model import (
    OracleDecision,
    OracleHost,
    OracleKey,
    OracleRequest,
    OracleSession,
    OracleVerifierKey,
    OracleView,
)
from tests.oracle.scope_text import print_conditions, print_scope, print_value
from tests.oracle.wire import decode, encode
from tests.support.token_forger import Ceilings

Record = dict[str, Any]

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Record:
    """One vector file."""
    content: Record = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return content


def dump(content: Mapping[str, Any]) -> str:
    """The text of a vector file: one canonical form."""
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def write_bytes(record: Record, name: str, data: bytes) -> None:
    """Put bytes into a record as text, or as hex where they are no UTF-8; empty bytes are left out."""
    if not data:
        return
    try:
        record[name] = data.decode("utf-8")
    except UnicodeDecodeError:
        record[name + "_hex"] = data.hex()


def read_bytes(record: Mapping[str, Any], name: str) -> bytes:
    """The reverse of ``write_bytes``; a long text may also be given as runs of equal parts."""
    if name + "_hex" in record:
        return bytes.fromhex(record[name + "_hex"])
    if name + "_runs" in record:
        return "".join(part * times for part, times in record[name + "_runs"]).encode("utf-8")
    return str(record.get(name, "")).encode("utf-8")


def write_request(request: OracleRequest) -> Record:
    """A request as JSON; what is not stated is left out."""
    record: Record = {}
    for name in ("action", "resource", "arguments", "tool"):
        write_bytes(record, name, getattr(request, name))
    if request.session:
        record["session_hex"] = request.session.hex()
    if request.source:
        record["source"] = request.source
    if request.peer:
        record["peer"] = list(request.peer)
    if request.audience:
        record["audience"] = request.audience
    if request.at_least_revision:
        record["at_least_revision"] = request.at_least_revision
    if request.proof:
        record["proof_hex"] = request.proof.hex()
    if request.token_only:
        record["token_only"] = True
    return record


def read_request(record: Mapping[str, Any]) -> OracleRequest:
    """The reverse of ``write_request``."""
    return OracleRequest(
        action=read_bytes(record, "action"),
        resource=read_bytes(record, "resource"),
        arguments=read_bytes(record, "arguments"),
        tool=read_bytes(record, "tool"),
        session=bytes.fromhex(record.get("session_hex", "")),
        source=record.get("source", ""),
        peer=tuple(record.get("peer", ())),
        audience=record.get("audience", ""),
        at_least_revision=record.get("at_least_revision", 0),
        proof=bytes.fromhex(record.get("proof_hex", "")),
        token_only=record.get("token_only", False),
    )


def write_scope(record: Record) -> Record:
    """A scope for people and for programs."""
    return {"text": print_scope(record), "encoded_hex": encode("Scope", record).hex()}


def write_fact(name: str, value: Record, visible: bool) -> Record:
    """A fact of a session."""
    return {
        "name": name,
        "text": print_value(value),
        "value_hex": encode("Value", value).hex(),
        "visible": visible,
    }


def read_view(record: Mapping[str, Any]) -> tuple[OracleView, Ceilings]:
    """A view, and the ceilings of its sessions as wire dicts."""
    sessions, ceilings = {}, {}
    for item in record["sessions"]:
        layers = [
            [decode("Scope", bytes.fromhex(scope["encoded_hex"])) for scope in layer]
            for layer in item.get("ceilings", ())
        ]
        session_id = bytes.fromhex(item["id_hex"])
        ceilings[session_id] = layers
        sessions[session_id] = OracleSession(
            id=session_id,
            status=_number(SessionStatus, item["status"]),
            expires_at_ms=item["expires_at_ms"],
            owner=item.get("owner", ""),
            parent_id=bytes.fromhex(item.get("parent_id_hex", "")),
            end_cause=_number(EndCause, item["end_cause"]) if "end_cause" in item else 0,
            lease_deadline_ms=item.get("lease_deadline_ms"),
            ceilings=tuple(tuple(scope_of(s) for s in layer) for layer in layers),
            facts={
                f["name"]: (value_of(decode("Value", bytes.fromhex(f["value_hex"]))), f["visible"])
                for f in item.get("facts", ())
            },
            issuer_key_ids=tuple(bytes.fromhex(k) for k in item.get("issuer_key_ids_hex", ())),
            observe=item.get("observe", False),
        )
    keys = [
        OracleKey(
            id=bytes.fromhex(item["id_hex"]),
            public_key=bytes.fromhex(item["public_key_hex"]),
            status=_number(KeyStatus, item["status"]),
            owner=item.get("owner", ""),
            retired_at_ms=item.get("retired_at_ms", 0),
        )
        for item in record["keys"]
    ]
    view = OracleView(
        revision=record["revision"],
        sessions=sessions,
        keys={k.id: k for k in keys},
        revoked=frozenset(bytes.fromhex(b) for b in record.get("revoked_hex", ())),
        braked=record.get("braked", False),
        clock_suspect=record.get("clock_suspect", False),
        host=read_host(record["host"]) if "host" in record else None,
    )
    return view, ceilings


def write_host(host: OracleHost) -> Record:
    """Write a host's proof keys and nonces; without a table there is no ``counts_from_ms``."""
    record: Record = {
        "verifier_id_hex": host.verifier_id.hex(),
        "keys": [
            {
                "public_key_hex": key.public_key.hex(),
                "secret_hex": key.secret.hex(),
                "not_before_ms": key.not_before_ms,
                "expires_at_ms": key.expires_at_ms,
            }
            for key in host.keys
        ],
    }
    if host.counts_from_ms is not None:
        record["counts_from_ms"] = host.counts_from_ms
    if host.taken:
        record["taken"] = [
            {"signature_hex": signature.hex(), "nonce_hex": nonce.hex()}
            for signature, nonce in sorted(host.taken)
        ]
    return record


def read_host(record: Mapping[str, Any]) -> OracleHost:
    """The reverse of ``write_host``."""
    return OracleHost(
        verifier_id=bytes.fromhex(record["verifier_id_hex"]),
        keys=tuple(
            OracleVerifierKey(
                bytes.fromhex(key["public_key_hex"]),
                bytes.fromhex(key["secret_hex"]),
                key["not_before_ms"],
                key["expires_at_ms"],
            )
            for key in record["keys"]
        ),
        counts_from_ms=record.get("counts_from_ms"),
        taken=frozenset(
            (bytes.fromhex(pair["signature_hex"]), bytes.fromhex(pair["nonce_hex"]))
            for pair in record.get("taken", ())
        ),
    )


def _number(words: type[SessionStatus] | type[EndCause] | type[KeyStatus], word: str | int) -> int:
    """The number of a word; a number that has no word stands for itself."""
    return word if isinstance(word, int) else int(words[word])


def write_decision(decision: OracleDecision) -> Record:
    """An outcome; parts of the position that do not apply are left out."""
    record: Record = {"reason": decision.reason.name, "stage": decision.stage.name}
    if decision.level is not Level.NONE:
        record["level"] = decision.level.name
    for name in ("index", "scope", "clause", "matched_index", "matched_scope"):
        if getattr(decision, name) != -1:
            record[name] = getattr(decision, name)
    if decision.argument:
        record["argument"] = decision.argument
    return record


def read_decision(record: Mapping[str, Any]) -> OracleDecision:
    """The reverse of ``write_decision``."""
    positions = ("index", "scope", "clause", "argument", "matched_index", "matched_scope")
    return OracleDecision(
        Reason[record["reason"]],
        Stage[record["stage"]],
        Level[record.get("level", "NONE")],
        **{name: record[name] for name in positions if name in record},
    )


def describe_blocks(blocks: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Describe each block's scopes and conditions, for people."""
    described = []
    for block in blocks:
        record: Record = {"scopes": [print_scope(s) for s in block.get("scopes", ())]}
        if block.get("where"):
            record["where"] = print_conditions(block["where"])
        described.append(record)
    return described
