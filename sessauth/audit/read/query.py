"""Finds records of an audit log by session, decision, block, arguments, change or time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...scopes.call_arguments import canonical
from .. import layout
from ..keys import ArgumentsKey
from .logged_decision import LoggedDecision
from .reader import Entry, FolderReader

KINDS = ("decision", "change", "local", "lost")


@dataclass(frozen=True, slots=True)
class Query:
    """Criteria for records; empty ones are ignored. Ids are hex, times ms since 1970.

    ``observed``: calls that observe mode alone allowed. ``action`` and ``resource`` are exact, or a prefix
    if they end in ``*``. ``session`` also finds denied calls whose token only claimed it. ``until_ms`` is
    exclusive.
    """

    session: str = ""
    decision: str = ""
    block: str = ""
    reason: str = ""
    stage: str = ""
    allowed: bool | None = None
    observed: bool = False
    action: str = ""
    resource: str = ""
    arguments: frozenset[str] = frozenset()
    change: str = ""
    actor: str = ""
    since_ms: int = 0
    until_ms: int = 0

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of records that can match."""
        of_decisions = (
            *(self.decision, self.block, self.reason, self.stage, self.action, self.resource, self.arguments),
            self.allowed is not None or self.observed,
        )
        of_changes = bool(self.change or self.actor)
        if any(of_decisions):
            # No record is both.
            return frozenset() if of_changes else frozenset({"decision"})
        if of_changes:
            return frozenset({"change"})
        return frozenset({"decision", "change"} if self.session else KINDS)

    def needles(self) -> list[bytes]:
        """Return texts that the line of a matching record must hold."""
        exact = [self.session, self.decision, self.block, self.reason]
        return [f'"{text}"'.encode() for text in exact if text]

    def matches(self, entry: Entry) -> bool:
        """Return True if a record meets all criteria."""
        record = entry.record
        if entry.kind not in self.kinds or entry.at_ms < self.since_ms:
            return False
        if self.until_ms and entry.at_ms >= self.until_ms:
            return False
        if self.session and self.session not in (record.get("session"), record.get("claimed")):
            return False
        if entry.kind == "change":
            change = str(record.get("change")).upper()
            return self.change.upper() in ("", change) and self.actor in ("", record.get("actor"))
        return self._matches_decision(record)

    def _matches_decision(self, record: Mapping[str, Any]) -> bool:
        exact = {"id": self.decision, "reason": self.reason}
        if any(wanted and record.get(name) != wanted for name, wanted in exact.items()):
            return False
        if self.stage and str(record.get("stage")).upper() != self.stage.upper():
            return False
        if self.allowed is not None and record.get("allowed") is not self.allowed:
            return False
        if self.observed and not LoggedDecision.of(record).observed:
            return False
        if self.block and self.block not in (record.get("blocks") or ()):
            return False
        if self.arguments and record.get("arguments") not in self.arguments:
            return False
        return _like(record.get("action"), self.action) and _like(record.get("resource"), self.resource)


def find(reading: FolderReader, query: Query) -> Iterator[Entry]:
    """Yield matching records, stream by stream. Raises StateUnusable if the folder can't be read."""
    needles = query.needles()
    for entry in reading.entries(*needles):
        if query.matches(entry):
            yield entry


def argument_digests(folder: Path, arguments: bytes) -> frozenset[str]:
    """Return the digests of a call's arguments in the log, for :attr:`Query.arguments`.

    The log digests JSON as it came, values in their canonical form. So the digests are of that form, of a few
    usual ones, and of each without a line feed at the end.

    Raises KeyFolderError if the folder's arguments key can't be read; it is its owner's alone.
    """
    key = ArgumentsKey.load(folder / layout.ARGUMENTS_KEY_FILE)
    forms = {arguments, arguments.strip()}
    try:
        forms.add(canonical(arguments))
        value = json.loads(arguments)
    except (ValueError, UsageError):
        value = None
    if value is not None:
        for ascii_only in (True, False):
            for separators in ((",", ":"), (", ", ": ")):
                text = json.dumps(value, ensure_ascii=ascii_only, separators=separators)
                forms.add(text.encode("utf-8", "surrogatepass"))
    return frozenset(key.digest(form) for form in forms if form)


def _like(text: object, pattern: str) -> bool:
    if not pattern:
        return True
    if not isinstance(text, str):
        return False
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
