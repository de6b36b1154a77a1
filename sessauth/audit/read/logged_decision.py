"""A decision as the log has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ..._fast._check import is_masked
from ...decisions.decision import DecisionBase
from ...reasons import Level, Reason, Stage

_LEVELS: Final[Mapping[object, Level]] = {
    key: level for level in Level for key in (level.value, level.name, level.name.lower())
}
_STAGES: Final[Mapping[object, Stage]] = {
    key: stage for stage in Stage for key in (stage.name, stage.name.lower())
}
# Fields that are taken as they are, with their values if the record lacks them.
_REQUIRED: Final[dict[str, Any]] = {
    **{"n": -1, "at_ms": 0, "id": "", "revision": 0, "reason": "", "stage": "", "action": "", "resource": ""},
    **{"arguments": "", "audience": "", "source": "", "token": ""},
}
_OPTIONAL: Final[dict[str, Any]] = {"session": "", "claimed": "", "epoch": 0, "token_only": False}
_AT: Final[dict[str, Any]] = {"index": -1, "scope": -1, "clause": -1, "argument": ""}
_SESSION_ID: Final = re.compile(r"(?:[0-9a-f]{32})?", re.ASCII)
# A decision record holds so much of a text.
_MAX_TEXT_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True, repr=False)
class LoggedDecision(DecisionBase):
    """A decision record. A field that it lacks is 0 or empty, or -1 for a position.

    ``word`` is the reason as recorded; ``blocks`` are the ids of the chain in hex, joined by commas.
    ``token_only`` is true for a check of the token alone, without a call.
    """

    n: int
    at_ms: int
    id: str
    allowed: bool
    word: str
    reason: Reason
    stage: Stage
    session: str
    claimed: str
    epoch: int
    revision: int
    blocks: str
    action: str
    resource: str
    arguments: str
    audience: str
    source: str
    level: Level
    index: int
    scope: int
    clause: int
    argument: str
    matched_index: int
    matched_scope: int
    token: str
    token_only: bool = False
    view_age_ms: int = 0
    expires_at_ms: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read any record."""
        at: Any = record.get("at")
        at = at if isinstance(at, dict) else {}
        matched: Any = record.get("matched")
        matched_index, matched_scope = matched if _are_positions(matched, 2) else (-1, -1)
        values = _fields(record, _REQUIRED | _OPTIONAL)
        word, blocks, level = values.pop("reason"), record.get("blocks"), at.get("level")
        return cls(
            allowed=record.get("allowed") is True,
            word=word,
            reason=Reason.__members__.get(word, Reason.UNSPECIFIED),
            stage=_STAGES.get(values.pop("stage"), Stage.NONE),
            blocks=",".join(map(str, blocks)) if isinstance(blocks, list) else "",
            level=_LEVELS.get(level, Level.NONE) if isinstance(level, str | int) else Level.NONE,
            matched_index=matched_index,
            matched_scope=matched_scope,
            **_fields(at, _AT),
            **values,
        )

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Read a whole record. Raises ValueError if a field is missing, or is not of its type and range."""
        stated = _REQUIRED | {name: value for name, value in _OPTIONAL.items() if name in record}
        matched, blocks = record.get("matched", ""), record.get("blocks", [])
        whole = (
            _are_like(record, stated)
            and type(record.get("allowed")) is bool
            and record["stage"] in _STAGES
            and _SESSION_ID.fullmatch(record.get("session", ""))
            and _SESSION_ID.fullmatch(record.get("claimed", ""))
            and isinstance(blocks, list)
            and all(type(block_id) is str for block_id in blocks)
            and (matched is None or _are_positions(matched, 2))
            and _is_place(record.get("at", ""))
        )
        if not whole:
            raise ValueError("no decision record: a field is missing, or is of another type")
        return cls.of(record)

    @property
    def session_id(self) -> bytes:
        """The id of the session."""
        return bytes_of(self.session)

    @property
    def block_ids(self) -> tuple[bytes, ...]:
        """The ids of the chain's blocks, root block first."""
        return tuple(map(bytes_of, self.blocks.split(","))) if self.blocks else ()

    @property
    def decision_id(self) -> bytes:
        """The id of the decision."""
        return bytes_of(self.id)

    @property
    def lossy(self) -> bool:
        """True if action or resource may differ from the call's: cut, or not UTF-8 in the call."""
        return any(
            "\ufffd" in text or len(text.encode("utf-8", "replace")) >= _MAX_TEXT_BYTES
            for text in (self.action, self.resource)
        )

    @property
    def is_masked(self) -> bool:
        """True if a token was masked in one of its texts, so that the call was not the recorded one."""
        texts = (self.action, self.resource, self.audience, self.source, self.argument)
        return any(map(is_masked, texts))

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return verdict_text(
            self.reason, self.stage, self.level, self.index, self.scope, self.clause, self.word
        )


def verdict_text(
    reason: int, stage: int, level: int, index: int, scope: int, clause: int, word: str = ""
) -> str:
    """Return a verdict in words: the reason, and the place of a denial."""
    text = word or Reason(reason).name
    if stage:
        text += f" at stage {Stage(stage).name.lower()}"
    if index >= 0:
        text += f", {Level(level).name.lower()} {index}"
    if scope >= 0:
        text += f", scope {scope}"
    return f"{text}, condition {clause}" if clause >= 0 else text


def bytes_of(text: object) -> bytes:
    """Return the bytes of a hex text; "" for anything else."""
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _fields(record: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that ``defaults`` names; the default of each that is missing or of another type."""
    return {
        name: record[name] if type(record.get(name)) is type(default) else default
        for name, default in defaults.items()
    }


def _are_like(record: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Return True if the record has all of these fields, of their types; integers are 0 to 2⁶³ - 1."""
    return all(
        type(record.get(name)) is type(default) and (type(default) is not int or 0 <= record[name] < 1 << 63)
        for name, default in defaults.items()
    )


def _is_place(at: Any) -> bool:
    if at is None:
        return True
    return (
        isinstance(at, dict)
        and isinstance(at.get("level"), str | int)
        and at["level"] in _LEVELS
        and _are_positions([at.get(name) for name in ("index", "scope", "clause")], 3)
        and isinstance(at.get("argument"), str)
    )


def _are_positions(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) is int and -(1 << 31) <= value < 1 << 31 for value in values)
    )
