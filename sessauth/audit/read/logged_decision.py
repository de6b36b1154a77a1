"""A decision as the log has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from ..._fast.base.token_mask import is_masked
from ...decisions.decision import DecisionBase
from ...reasons import Level, Reason, Stage

_LEVELS: Final[Mapping[object, Level]] = {
    key: level for level in Level for key in (level.value, level.name, level.name.lower())
}
_STAGES: Final[Mapping[object, Stage]] = {
    key: stage for stage in Stage for key in (stage.name, stage.name.lower())
}
_REQUIRED: Final[dict[str, type]] = {
    **dict.fromkeys(("n", "at_ms", "revision"), int),
    **dict.fromkeys(("id", "reason", "stage", "action", "resource"), str),
    **dict.fromkeys(("arguments", "audience", "source", "token"), str),
    "allowed": bool,
}
_OPTIONAL: Final[Mapping[str, type]] = {"session": str, "claimed": str, "epoch": int, "blocks": list}
_SESSIONS: Final = ("session", "claimed")
_SESSION_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_POSITIONS: Final = ("index", "scope", "clause")
# A decision record holds so much of a text.
_MAX_TEXT_BYTES: Final = 1_024

T = TypeVar("T", str, int)


@dataclass(frozen=True, slots=True, repr=False)
class LoggedDecision(DecisionBase):
    """A decision record. A field that it lacks is empty, or -1 for a position.

    ``word`` is the reason as recorded; ``blocks`` are the ids of the chain in hex, joined by commas.
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
    view_age_ms: int = 0
    expires_at_ms: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read any record, field by field."""
        at: Any = record.get("at")
        at = at if isinstance(at, dict) else {}
        matched: Any = record.get("matched")
        matched_index, matched_scope = matched if _are_positions(matched, 2) else (-1, -1)
        word = _field(record, "reason", "")
        blocks = record.get("blocks")
        return cls(
            n=_field(record, "n", -1),
            at_ms=_field(record, "at_ms", 0),
            id=_field(record, "id", ""),
            allowed=record.get("allowed") is True,
            word=word,
            reason=Reason.__members__.get(word, Reason.UNSPECIFIED),
            stage=_STAGES.get(_field(record, "stage", ""), Stage.NONE),
            session=_field(record, "session", ""),
            claimed=_field(record, "claimed", ""),
            epoch=_field(record, "epoch", 0),
            revision=_field(record, "revision", 0),
            blocks=",".join(map(str, blocks)) if isinstance(blocks, list) else "",
            action=_field(record, "action", ""),
            resource=_field(record, "resource", ""),
            arguments=_field(record, "arguments", ""),
            audience=_field(record, "audience", ""),
            source=_field(record, "source", ""),
            level=_LEVELS.get(_field(at, "level", "") or _field(at, "level", 0), Level.NONE),
            index=_field(at, "index", -1),
            scope=_field(at, "scope", -1),
            clause=_field(at, "clause", -1),
            argument=_field(at, "argument", ""),
            matched_index=matched_index,
            matched_scope=matched_scope,
            token=_field(record, "token", ""),
        )

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Read a whole record. Raises ValueError if a field is missing, or is not of its type and range."""
        optional = {name: kind for name, kind in _OPTIONAL.items() if name in record}
        for name, kind in (_REQUIRED | optional).items():
            if type(record.get(name)) is not kind or (kind is int and not 0 <= record[name] < 1 << 63):
                raise ValueError(f"no decision record: {name}")
        at, matched = record.get("at", False), record.get("matched", False)
        if at is not None and not (
            isinstance(at, dict)
            and type(at.get("level")) in (str, int)
            and at["level"] in _LEVELS
            and _are_positions([at.get(name) for name in _POSITIONS], len(_POSITIONS))
            and isinstance(at.get("argument"), str)
        ):
            raise ValueError("no decision record: at")
        if matched is not None and not _are_positions(matched, 2):
            raise ValueError("no decision record: matched")
        if record["stage"] not in _STAGES:
            raise ValueError("no decision record: stage")
        if not all(type(block_id) is str for block_id in record.get("blocks", ())):
            raise ValueError("no decision record: blocks")
        if not all(record.get(name, "") == "" or _SESSION_ID.fullmatch(record[name]) for name in _SESSIONS):
            raise ValueError("no decision record: session or claimed")
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


def _field(record: Mapping[str, Any], name: str, default: T) -> T:
    value = record.get(name)
    return value if type(value) is type(default) else default


def _are_positions(values: object, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) is int and -(1 << 31) <= value < 1 << 31 for value in values)
    )
