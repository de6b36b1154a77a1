"""Changes in the audit stream: one record for each change of the log, in the log's order.

A file beside the stream stores the seq up to which the log is recorded, and the next run goes on from there.
So the next run records a change that was committed just before a kill. A change may be recorded twice, but
none is left out unless the log had dropped it.

:func:`lacking` finds changes that an audit log has and the state lacks: then the state is an older one. A
data file that was put back with its anchor agrees with itself, so only the audit log shows the later changes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from ..._fast._check import masked
from ...errors import Rejected, StateUnusable
from ...model.change import Change, ChangeKind, Head, Rejection
from ...state.host.folder import replace_file
from ...state.lmdb.feed import ChangeLog, LogEntry
from .. import layout
from ..verify.lines import FindingKind, VerificationFinding

POSITION_FILE: Final = "changes.position"
POSITION_MODE: Final = 0o600
APPLIED: Final = "APPLIED"
# Every token begins with it.
_PREFIX: Final = b"sessauth_"
# Changes of one batch of records: small, so that a failed write is soon tried again.
_STEP: Final = 256
# A change that is recorded later than this has the time of its recording, and its own beside it: the lines of
# a stream are in the order of their times.
LATE_MS: Final = 5_000


class ChangeSource(Protocol):
    """A log of changes and their results (``state.lmdb.feed.ChangeLog``)."""

    def head(self) -> Head:
        """Return the head of the log."""

    def entries(self, since_seq: int, limit: int) -> list[LogEntry]:
        """Return the changes after a seq; raises Rejected COMPACTED if some are gone."""

    def compacted_seq(self) -> int:
        """Return the seq after which the changes are kept."""


class ChangeFollower:
    """Turns new changes of a log into records. Used by one thread at a time."""

    def __init__(self, log: ChangeSource, folder: Path) -> None:
        """Follow ``log`` from where the last run in this audit folder stopped, else from its beginning.

        Raises StateUnusable ROLLED_BACK if the folder has later changes than the log.
        """
        self._log = log
        self._path = folder / POSITION_FILE
        self._log_id = _log_id(log.head())
        self.seq = self._begin()
        """The last change that is recorded."""

    def bodies(self, now_ms: int) -> Iterator[bytes]:
        """Yield bodies of records for new changes; one counts as written when the next is requested."""
        while True:
            try:
                found = self._log.entries(self.seq, _STEP)
            except Rejected as error:
                if error.word != Rejection.COMPACTED.value:
                    raise
                body, seq = self._skip(now_ms)
                yield body
                self.seq = seq
                continue
            if not found:
                return
            yield b"".join(_body(logged, now_ms) for logged in found)
            self.seq = found[-1].seq

    def store_position(self, seq: int) -> None:
        """Store that the log is recorded up to ``seq``; if that fails, the next run repeats some records."""
        text = json.dumps({"log": self._log_id, "seq": seq}) + "\n"
        with contextlib.suppress(OSError):
            replace_file(self._path, text.encode("ascii"), POSITION_MODE)

    def _begin(self) -> int:
        """Return the seq to go on after; raises StateUnusable ROLLED_BACK."""
        log_id, seq = _read_position(self._path)
        head, kept = self._log.head(), self._log.compacted_seq()
        if log_id == self._log_id:
            if seq > head.seq:
                message = (
                    f"the state ends at change {head.seq}, and {self._path.parent} has it up to {seq}: it is "
                    "an older one; put the latest back, or run 'sessauth state restore' with a backup"
                )
                raise StateUnusable(message, "ROLLED_BACK")
            return seq
        # A restore drops the log before it. No record of it is lost: its changes are recorded here, or they
        # are another machine's and belong elsewhere.
        if log_id.startswith(f"{head.cluster_id.hex()}/"):
            return min(seq, kept)
        return kept if self._restored_at(kept) else 0

    def _restored_at(self, seq: int) -> bool:
        """Return True if the log after a seq begins with a restore."""
        first = self._log.entries(seq, 1)
        return bool(first and first[0].result is not None and first[0].result.incarnation)

    def _skip(self, now_ms: int) -> tuple[bytes, int]:
        """Return a record of the changes that the log has dropped, and the seq to go on after."""
        since, high = self.seq, self._log.compacted_seq()
        why = f"changes {since + 1} to {high} were compacted away before they were recorded"
        body = layout.body("lost", {"at_ms": now_ms, "count": high - since, "since_ms": 0, "why": why})
        return body, high


def _body(logged: LogEntry, now_ms: int) -> bytes:
    """Return the record of a change. Its revision is 0 if it was logged before the folder kept results."""
    change, result = Change.decode(logged.encoded), logged.result
    late = now_ms - change.at_ms > LATE_MS
    return layout.body(
        "change",
        {
            "at_ms": now_ms if late else change.at_ms,
            "seq": logged.seq,
            "revision": 0 if result is None else result.revision,
            "id": masked(change.id),
            "change": change.kind.value,
            "session": change.session_id.hex(),
            "actor": masked(change.actor),
            "outcome": APPLIED if result is None else result.rejection or APPLIED,
            "body": recorded_body(change, logged.encoded),
            **({"changed_ms": change.at_ms} if late else {}),
        },
    )


def recorded_body(change: Change, encoded: bytes) -> str:
    """Return the recorded body of a change, as base64, without the parts reserved for approvers.

    The log holds no value of an argument, and a replay has the same result without them. Tokens in texts are
    masked.
    """
    approval = change.body.get("approval") if change.kind is ChangeKind.REQUEST_APPROVAL else None
    if isinstance(approval, dict):
        without_values = {**approval, "arguments": b"", "charges": []}
        change = replace(change, body={**change.body, "approval": without_values})
    if isinstance(approval, dict) or _PREFIX in encoded:
        change_id, actor = masked(change.id), masked(change.actor)
        encoded = replace(change, id=change_id, actor=actor, body=_masked(change.body)).encode()
    return base64.b64encode(encoded).decode("ascii")


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    return [_masked(each) for each in value] if isinstance(value, list | tuple) else value


def _read_position(path: Path) -> tuple[str, int]:
    """Return the id of the log recorded last, and its last seq; "" and 0 if that is not known."""
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        return str(found["log"]), max(0, int(found["seq"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0


def _log_id(head: Head) -> str:
    return f"{head.cluster_id.hex()}/{head.incarnation.hex()}"


_CHANGE: Final = re.compile(rb'\{"n":([0-9]{1,16}),"kind":"change","at_ms":[0-9]+,"seq":([0-9]{1,16}),')


@dataclass(slots=True)
class _Recorded:
    """The changes of one incarnation that the state lacks, and when the last stream of it began."""

    began_ms: int = 0
    last_seq: int = 0
    missing: int = 0
    first: tuple[str, int, int, int] | None = None

    def miss(self, file: str, line: int, n: int, seq: int) -> None:
        self.missing += 1
        if self.first is None:
            self.first = file, line, n, seq


def lacking(folder: Path, feed: ChangeLog) -> list[VerificationFinding]:
    """Return a finding if an audit folder holds changes that a state lacks.

    The state is read after the log, so that changes that a server writes meanwhile are no findings.
    Raises OSError if the folder can't be read, StateError if the state can't.
    """
    sizes = {path: path.stat().st_size for files in layout.files(folder).values() for path in files.values()}
    head, compacted = feed.head(), feed.compacted_seq()
    found: dict[str, _Recorded] = {}
    for stream in layout.files(folder).values():
        for path in stream.values():
            try:
                with path.open("rb") as file:
                    data = file.read(sizes.get(path, 0))
            except FileNotFoundError:
                # Retention removed it: only changes that are in no file any more are not compared.
                continue
            begin = layout.parse(data[: data.find(b"\n") + 1]) or {}
            if begin.get("cluster") != head.cluster_id.hex():
                continue
            incarnation, began_ms = str(begin.get("incarnation")), int(begin.get("at_ms", 0))
            for number, line in enumerate(data.split(b"\n"), 1):
                change = _CHANGE.match(line)
                if change is None:
                    continue
                recorded = found.setdefault(incarnation, _Recorded())
                recorded.began_ms = max(recorded.began_ms, began_ms)
                seq = int(change[2])
                recorded.last_seq = max(recorded.last_seq, seq)
                if incarnation == head.incarnation.hex() and not _has(feed, seq, compacted, head.seq, line):
                    recorded.miss(path.name, number, int(change[1]), seq)
    return _findings(found, head.incarnation.hex(), head.seq)


def _has(feed: ChangeLog, seq: int, compacted: int, last: int, line: bytes) -> bool:
    """Return True if the state has a recorded change, or has compacted it."""
    if seq > last or seq <= compacted:
        return seq <= last
    encoded = feed.encoded(seq)
    # Compacted meanwhile.
    return encoded is None or recorded_body(Change.decode(encoded), encoded).encode() in line


def _findings(found: dict[str, _Recorded], incarnation: str, last: int) -> list[VerificationFinding]:
    own = found.get(incarnation)
    if own is None:
        # Begun since: no change of this incarnation was recorded.
        return []
    if own.first is not None:
        file, line, n, seq = own.first
        words = (
            f"change {seq} and {own.missing - 1} more are recorded; the state, which ends at change "
            f"{last}, lacks them: it is an older one, or was"
        )
        return [VerificationFinding(FindingKind.ROLLED_BACK, file, line, n, words)]
    later = [name for name, recorded in found.items() if recorded.began_ms > own.began_ms]
    if later:
        words = f"the state has incarnation {incarnation}, and incarnation {later[0]} was recorded after it"
        return [VerificationFinding(FindingKind.ROLLED_BACK, "", 0, -1, words)]
    return []
