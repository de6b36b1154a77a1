"""Verdicts turned around in records, as somebody would who wants them believed."""

from __future__ import annotations

from random import Random
from typing import Any

_BLOCK: dict[str, Any] = {"level": "BLOCK", "index": 0, "scope": -1, "clause": -1, "argument": ""}
# A denial for another reason than those that only somebody else's word is there for.
_DENIALS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("SESSION_ENDED", "SESSION", None),
    ("SESSION_SUSPENDED", "SESSION", None),
    ("UNKNOWN_SESSION", "SESSION", None),
    ("EXPIRED", "TIME", _BLOCK),
    ("NOT_YET_VALID", "TIME", _BLOCK),
    ("WRONG_AUDIENCE", "AUDIENCE", _BLOCK),
    ("REVOKED", "REVOCATION", _BLOCK),
    ("OUT_OF_SCOPE", "SCOPE", _BLOCK),
    ("CONDITION_FAILED", "SCOPE", {**_BLOCK, "scope": 0, "clause": 0, "argument": "a"}),
    ("UNKNOWN_KIND", "SCOPE", _BLOCK),
)
_UNNAMED = ("SESSION",)


def flipped(rng: Random, record: dict[str, Any]) -> dict[str, Any]:
    """Return a decision record with the other verdict, and a reason for it."""
    if rng.random() < 0.1:
        return {**record, "allowed": not record["allowed"]}
    if not record["allowed"]:
        who = {"session": record.get("claimed", ""), "epoch": 1, "blocks": ["00" * 32]}
        allowed = {"allowed": True, "reason": "ALLOWED", "stage": "NONE", "at": None, "matched": [0, 0]}
        return {**who, **{name: value for name, value in record.items() if name != "claimed"}, **allowed}
    reason, stage, at = rng.choice(_DENIALS)
    changed = {**record, "allowed": False, "reason": reason, "stage": stage, "at": at, "matched": None}
    if stage in _UNNAMED:
        changed["claimed"] = changed["session"]
        for name in ("session", "epoch", "blocks"):
            del changed[name]
    return changed
