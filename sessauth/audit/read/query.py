"""Reads an audit folder, and finds records by session, decision, block, arguments, change or time.

Records are read stream by stream, as they were written, and nothing is verified
(:func:`sessauth.audit.verify.verify.verify` does that). A line that is no record, such as half a line of a
killed process, is skipped and counted. :class:`LoggedDecision` is a decision as the log has it,
:class:`DecisionContext` one with its token and the changes of its session.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from ..._fast._check import WireError, is_masked
from ...decisions.decision import REASON_TEXTS, DecisionBase, explain_blocks
from ...errors import NotFound, StateUnusable, UsageError
from ...limits import MAX_ANCESTORS
from ...model.change import Change, ChangeKind
from ...reasons import Level, Reason, Stage
from ...scopes.call_arguments import canonical
from ...scopes.scope import Scope
from ...tokens.block_draft import BlockInfo
from .. import layout
from ..layout import ArgumentsKey

_BEGAN = re.compile(rb'"kind":"begin","at_ms":([0-9]{1,16})')


@dataclass(frozen=True, slots=True)
class Entry:
    """One record and its place: the file's path and the line, counted from 1.

    ``host`` is the name of its host, empty where one folder is read.
    """

    stream: bytes
    path: Path
    line: int
    record: dict[str, Any]
    host: str = ""

    @property
    def kind(self) -> str:
        """The kind of record, such as "decision"; "" if it has none."""
        kind = self.record.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def at_ms(self) -> int:
        """The time of the record, in ms since 1970; 0 if it has none."""
        at_ms = self.record.get("at_ms")
        return at_ms if isinstance(at_ms, int) else 0


class FolderReader:
    """Reads a folder; ``passed_over`` counts skipped lines so far."""

    def __init__(self, folder: Path, host: str = "") -> None:
        """Take an audit folder, of ``host`` if there are several; processes may be writing there."""
        self._folder = folder
        self._host = host
        self.passed_over = 0

    def streams(self) -> dict[bytes, list[Path]]:
        """Return the files of each stream in order; streams in the order of their begin.

        Raises StateUnusable MISSING if the folder can't be read.
        """
        try:
            found = layout.files(self._folder)
            began = {stream: _began(min(files.items())[1]) for stream, files in found.items()}
        except OSError as error:
            raise StateUnusable(layout.unreadable(error, self._folder), "MISSING") from None
        order = sorted(found, key=lambda stream: (began[stream], stream))
        return {stream: [found[stream][number] for number in sorted(found[stream])] for stream in order}

    def entries(self, *needles: bytes, stream: bytes | None = None) -> Iterator[Entry]:
        """Yield the records of all streams, or of one, in the order of writing.

        Only lines that hold all ``needles`` are parsed. Raises StateUnusable if the folder or a file can't be
        read.
        """
        for stream_id, paths in self.streams().items():
            if stream is None or stream_id == stream:
                for path in paths:
                    yield from self._of_file(stream_id, path, needles)

    def _of_file(self, stream: bytes, path: Path, needles: Sequence[bytes]) -> Iterator[Entry]:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not all(needle in line for needle in needles):
                        continue
                    record = layout.parse(line)
                    # Without its line feed a line may be half of a longer one.
                    if record is None or not line.endswith(b"\n"):
                        self.passed_over += 1
                        continue
                    yield Entry(stream, path, number, record, self._host)
        except OSError as error:
            raise StateUnusable(f"can't read {path}: {error.strerror}", "WRONG_MODE") from None


def _began(path: Path) -> int:
    with path.open("rb") as file:
        found = _BEGAN.search(file.readline(4096))
    return int(found[1]) if found else 0


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
    return filter(query.matches, reading.entries(*query.needles()))


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


_BEFORE: Final = 8
_AFTER: Final = 4


@dataclass(frozen=True)
class DecisionContext:
    """A decision, the blocks of its token if the log has them, and the changes of its session around it.

    ``ceilings`` are the layers used to check the call, as far as the log has their changes.
    """

    entry: Entry
    decision: LoggedDecision
    blocks: tuple[BlockInfo, ...]
    ceilings: Sequence[Sequence[Scope]]
    changes: tuple[Entry, ...]

    @property
    def meaning(self) -> str:
        """The meaning of the reason, in a sentence."""
        return REASON_TEXTS[self.decision.reason]

    @cached_property
    def explanation(self) -> str:
        """The failure, its place, and an allowed alternative, in a line."""
        return explain_blocks(self.decision, self.blocks, self.ceilings)


def load_context(reading: FolderReader, decision_id: bytes) -> DecisionContext:
    """Return a decision with its context.

    Raises NotFound if the log has no decision of this id, StateUnusable if the folder can't be read.
    """
    entry = next(find(reading, Query(decision=decision_id.hex())), None)
    if entry is None:
        message = (
            f"the log has no decision {decision_id.hex()}; allows are only sampled with sample_allows below 1"
        )
        raise NotFound(message, "NOT_FOUND", "decision_id")
    decision = LoggedDecision.of(entry.record)
    session = str(entry.record.get("session") or entry.record.get("claimed") or "")
    found = find(reading, Query(session=session)) if session else ()
    changes = [each for each in found if each.kind == "change"]
    before = [each for each in changes if _revision(each) <= decision.revision]
    after = changes[len(before) :]
    return DecisionContext(
        entry,
        decision,
        _blocks(reading, entry),
        _ceilings(reading, decision),
        (*before[-_BEFORE:], *after[:_AFTER]),
    )


def _blocks(reading: FolderReader, entry: Entry) -> tuple[BlockInfo, ...]:
    """Return the blocks of the token, () if the stream has no record of the chain."""
    ids = entry.record.get("blocks") or ()
    if not ids:
        return ()
    for each in reading.entries(b'"kind":"chain"', f'"{ids[-1]}"'.encode(), stream=entry.stream):
        blocks = each.record.get("blocks") or ()
        try:
            if each.kind != "chain" or [block["id"] for block in blocks] != ids:
                continue
            payloads = [base64.b64decode(block["payload"], validate=True) for block in blocks]
            return tuple(
                BlockInfo.read(index, bytes.fromhex(ids[index]), payload)
                for index, payload in enumerate(payloads)
            )
        except (KeyError, TypeError, ValueError, WireError, UsageError):
            return ()
    return ()


def _ceilings(reading: FolderReader, decision: LoggedDecision) -> list[list[Scope]]:
    """Return the layers that limit a session's calls: its own, then its ancestors'."""
    layers: list[list[Scope]] = []
    session = decision.session_id
    for _ in range(MAX_ANCESTORS + 1):
        parent = b""
        for entry in find(reading, Query(session=session.hex())) if session else ():
            late = _revision(entry) > decision.revision
            if entry.kind != "change" or entry.record.get("outcome") != "APPLIED" or late:
                continue
            try:
                change = Change.decode(base64.b64decode(str(entry.record.get("body")), validate=True))
                if change.kind in (ChangeKind.OPEN_SESSION, ChangeKind.NARROW_SESSION):
                    body: Any = change.body
                    # A narrowing that only ends observe mode has no scopes.
                    if scopes := body["ceiling"]["scopes"]:
                        layers.append([Scope.from_record(scope) for scope in scopes])
                    parent = body.get("parent_id") or parent
            except (KeyError, TypeError, WireError, UsageError, binascii.Error):
                return layers
        session = parent
    return layers


def _revision(entry: Entry) -> int:
    revision = entry.record.get("revision")
    return revision if isinstance(revision, int) else 0
