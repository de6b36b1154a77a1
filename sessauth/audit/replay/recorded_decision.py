"""A decision as the log has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ..._fast.base.token_mask import is_masked
from ...reasons import Level, Reason, Stage

_NOWHERE: Final[Mapping[str, Any]] = {
    "level": 0, "index": -1, "scope": -1, "clause": -1, "argument": "",
}  # fmt: skip
_NO_MATCH: Final = (-1, -1)
_LEVELS: Final[Mapping[object, int]] = {
    **{level.value: level.value for level in Level},
    **{level.name: level.value for level in Level},
    **{level.name.lower(): level.value for level in Level},
}
_STAGES: Final[Mapping[str, int]] = {
    **{stage.name: stage.value for stage in Stage},
    **{stage.name.lower(): stage.value for stage in Stage},
}
# A note keeps so much of a text.
_KEPT_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One decision record, read strictly: what is not there or not of its type raises ValueError."""

    n: int
    at_ms: int
    id: str
    allowed: bool
    word: str
    reason: int
    stage: int
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
    level: int
    index: int
    scope: int
    clause: int
    argument: str
    matched_index: int
    matched_scope: int
    token: str

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Take what is in a record. Raises ValueError if it is no decision's."""
        try:
            at = record["at"] or _NOWHERE
            matched_index, matched_scope = record["matched"] or _NO_MATCH
            word = record["reason"]
            made = cls(
                record["n"],
                record["at_ms"],
                record["id"],
                record["allowed"],
                word,
                # A word that is none of ours is the number of no reason.
                Reason[word].value if word in Reason.__members__ else 0,
                _STAGES[record["stage"]],
                record.get("session", ""),
                record.get("claimed", ""),
                record.get("epoch", 0),
                record["revision"],
                ",".join(record.get("blocks", ())),
                record["action"],
                record["resource"],
                record["arguments"],
                record["audience"],
                record["source"],
                _LEVELS[at["level"]],
                at["index"],
                at["scope"],
                at["clause"],
                at["argument"],
                matched_index,
                matched_scope,
                record["token"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no decision record: {error}") from error
        if type(made.allowed) is not bool:
            raise ValueError("no decision record: allowed")
        return made

    @property
    def lossy(self) -> bool:
        """Whether action or resource may not be what was asked: cut, or not UTF-8 in the call."""
        return any(
            "\ufffd" in text or len(text.encode("utf-8", "replace")) >= _KEPT_BYTES
            for text in (self.action, self.resource)
        )

    @property
    def is_masked(self) -> bool:
        """Return whether a token stood in one of its texts, so that the call was not the recorded one."""
        texts = (self.action, self.resource, self.audience, self.source, self.argument)
        return any(map(is_masked, texts))

    def says(self) -> str:
        """Return the verdict in words."""
        return said(self.reason, self.stage, self.level, self.index, self.scope, self.clause, self.word)


def said(reason: int, stage: int, level: int, index: int, scope: int, clause: int, word: str = "") -> str:
    """Return a verdict in words: the reason, and for a denial where it came from."""
    text = word or Reason(reason).name
    if stage:
        text += f" at stage {Stage(stage).name.lower()}"
    if index >= 0:
        text += f", {Level(level).name.lower()} {index}"
    if scope >= 0:
        text += f", scope {scope}"
    return f"{text}, condition {clause}" if clause >= 0 else text
