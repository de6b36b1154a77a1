"""The kernel as a judge: its decisions are the right ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._fast._check import Checker, View
from ..reasons import Level, Reason, Stage
from .memory_state import MemoryState, host_keys
from .questions import complete

# Members of an answer that are compared as they are.
_COMPARED = ("allowed", "index", "scope", "clause", "argument", "matched_index", "matched_scope")
# Cached views; questions come view by view.
_MAX_VIEWS = 100


class KernelJudge:
    """Judges questions by the kernel. A proof counts once for each view, as on one host.

    Not safe to share between threads. Closing it removes its replay tables.
    """

    def __init__(self) -> None:
        """Start without views."""
        self._folder = tempfile.TemporaryDirectory(prefix="sessauth-conformance-")
        self._checkers: dict[str, Checker] = {}
        self._hosts = 0

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the decision about a question, with all members that are compared.

        Raises:
            ValueError, KeyError, TypeError: for anything but a question.
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
