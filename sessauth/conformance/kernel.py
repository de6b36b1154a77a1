"""The kernel's answers to questions: a view as rows of a state in memory, and the decision by it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._fast import _check as kernel
from .._fast._check import Checker, ProofKeys, ReplayTable, View, digest
from ..crypto.keys import KeyStatus
from ..model.session import EndCause, SessionStatus
from ..reasons import Level, Reason, Stage
from .questions import complete

Rows = dict[bytes, bytes]
_SLOTS = 1 << 14


class _Transaction:
    """A read transaction on rows that never change."""

    def id(self) -> int:
        """Return the number of the last write."""
        return 1

    def get(self, key: bytes, default: bytes | None = None, db: Rows | None = None) -> bytes | None:
        """Return the row of a key, or the default."""
        return default if db is None else db.get(bytes(key), default)

    def abort(self) -> None:
        """End it; nothing is to be released."""


class MemoryState:
    """The state of a view. The kernel reads it like a state folder.

    Raises ValueError, KeyError, TypeError for anything but a view.
    """

    def __init__(self, view: Mapping[str, Any]) -> None:
        """Make the rows of ``view``."""
        revoked = [bytes.fromhex(each) for each in view.get("revoked_hex", ())]
        revision = view["revision"]
        self.brake = bytearray(64)
        self.brake[0] = bool(view.get("braked", False))
        self.sessions: Rows = {}
        self.leases: Rows = {}
        self.revoked: Rows = {}
        self.keys: Rows = {}
        for session in view["sessions"]:
            session_id = bytes.fromhex(session["id_hex"])
            record = _session(session_id, session) | {"revoked_count": len(revoked), "revision": revision}
            self.sessions[session_id] = kernel.encode_message("SessionRecord", record)
            if "lease_deadline_ms" in session:
                self.leases[session_id] = session["lease_deadline_ms"].to_bytes(8, "big")
            for block_id in revoked:
                self.revoked[session_id + block_id] = revision.to_bytes(8, "big")
        for key in view["keys"]:
            record = _key(key) | {"revision": revision}
            self.keys[record["id"]] = kernel.encode_message("KeyRecord", record)
        self.meta: Rows = {b"head": kernel.encode_message("Head", _head(revision))}

    def begin(self) -> _Transaction:
        """Begin a read transaction."""
        return _Transaction()


def host_keys(host: Mapping[str, Any], folder: Path, now_ms: int) -> ProofKeys:
    """Return a host's verifier keys, with a new replay table in ``folder``."""
    table = None
    if "counts_from_ms" in host:
        path = folder / "replay"
        path.unlink(missing_ok=True)
        table = ReplayTable.create(path, _SLOTS, host["counts_from_ms"])
        for pair in host.get("taken", ()):
            nonce = bytes.fromhex(pair["nonce_hex"])
            table.insert(bytes.fromhex(pair["signature_hex"]), nonce, digest(nonce), now_ms, now_ms)
    keys = [
        (
            bytes.fromhex(key["public_key_hex"]),
            bytes.fromhex(key["secret_hex"]),
            key["not_before_ms"],
            key["expires_at_ms"],
        )
        for key in host["keys"]
    ]
    return ProofKeys(bytes.fromhex(host["verifier_id_hex"]), keys, table)


def _number(words: Any, word: str | int) -> int:
    """Return the number of a word; a number is returned as it is."""
    return word if isinstance(word, int) else int(words[word])


def _session(session_id: bytes, view: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": session_id,
        "subject": "subject",
        "purpose": "purpose",
        "owner": view.get("owner", ""),
        "parent_id": bytes.fromhex(view.get("parent_id_hex", "")),
        "status": _number(SessionStatus, view["status"]),
        "epoch": 1,
        "ceilings": [
            {
                "scopes": [
                    kernel.decode_message("Scope", bytes.fromhex(scope["encoded_hex"])) for scope in layer
                ]
            }
            for layer in view.get("ceilings", ())
        ],
        "facts": [
            {
                "name": fact["name"],
                "value": kernel.decode_message("Value", bytes.fromhex(fact["value_hex"])),
                "visible": fact["visible"],
            }
            for fact in sorted(view.get("facts", ()), key=lambda fact: str(fact["name"]))
        ],
        "opened_at_ms": 1,
        "expires_at_ms": view["expires_at_ms"],
        "lease_ms": 60_000 if "lease_deadline_ms" in view else 0,
        "issuer_key_ids": [bytes.fromhex(each) for each in view.get("issuer_key_ids_hex", ())],
        "end_cause": _number(EndCause, view.get("end_cause", 0)),
        "observe": view.get("observe", False),
    }


def _key(view: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": bytes.fromhex(view["id_hex"]),
        "public_key": bytes.fromhex(view["public_key_hex"]),
        "status": _number(KeyStatus, view["status"]),
        "owner": view.get("owner", ""),
        "added_at_ms": 1,
        "retired_at_ms": view.get("retired_at_ms", 0),
    }


def _head(revision: int) -> dict[str, Any]:
    return {
        "format": 1,
        "min_reader_format": 1,
        "cluster_id": bytes(15) + b"\x01",
        "incarnation": bytes(15) + b"\x02",
        "revision": revision,
        "seq": 1,
        "keys_generation": 1,
        "digest": bytes(32),
    }


# Members of an answer that are compared as they are.
_COMPARED = ("allowed", "index", "scope", "clause", "argument", "matched_index", "matched_scope")
# Cached views; questions come view by view.
_MAX_VIEWS = 100


class KernelJudge:
    """Answers questions by the kernel. A proof counts once for each view, as on one host.

    Not safe to share between threads. Closing it removes its replay tables.
    """

    def __init__(self) -> None:
        """Start without views."""
        self._folder = tempfile.TemporaryDirectory(prefix="sessauth-conformance-")
        self._checkers: dict[str, Checker] = {}
        self._hosts = 0

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the decision about a question, with all members that are compared.

        Raises ValueError, KeyError, TypeError for anything but a question.
        """
        view, request, now_ms = question["view"], question["request"], question["now_ms"]
        decision = self._checker(view, now_ms)._check(
            bytes.fromhex(question["token_hex"]),
            _bytes(request, "action"),
            _bytes(request, "resource"),
            _bytes(request, "arguments"),
            tool=_bytes(request, "tool"),
            session=bytes.fromhex(request.get("session_hex", "")),
            source=request.get("source", ""),
            peer=tuple(request.get("peer", ())),
            audience=request.get("audience", ""),
            at_least_revision=request.get("at_least_revision", 0),
            proof=bytes.fromhex(request.get("proof_hex", "")),
            token_only=request.get("token_only", False),
            now_ms=now_ms,
            clock_suspect=view.get("clock_suspect", False),
        )
        return complete(
            {
                **{name: getattr(decision, name) for name in _COMPARED},
                "reason": Reason(decision.reason).name,
                "stage": Stage(decision.stage).name,
                "level": Level(decision.level).name,
            }
        )

    def close(self) -> None:
        """Remove its files."""
        self._checkers.clear()
        self._folder.cleanup()

    def _checker(self, view: Mapping[str, Any], now_ms: int) -> Checker:
        """Return the checker of a view, one for all equal views."""
        key = json.dumps(view, sort_keys=True)
        if key not in self._checkers:
            if len(self._checkers) == _MAX_VIEWS:
                del self._checkers[next(iter(self._checkers))]
            proofs = None
            if "host" in view:
                self._hosts += 1
                folder = Path(self._folder.name) / str(self._hosts)
                folder.mkdir()
                proofs = host_keys(view["host"], folder, now_ms)
            self._checkers[key] = Checker(View(MemoryState(view)), proofs=proofs)
        return self._checkers[key]


def _bytes(request: Mapping[str, Any], name: str) -> bytes:
    if f"{name}_hex" in request:
        return bytes.fromhex(request[f"{name}_hex"])
    return str(request.get(name, "")).encode()
