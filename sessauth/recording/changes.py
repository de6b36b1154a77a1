"""Changes in the audit stream: one record for each change of the log, in the log's order.

The log is followed by its seq. How far it was recorded stands in a file beside the stream, so that the next
run goes on from there: what was committed just before a process was killed is recorded by the next one, and
a change may be recorded twice, but none is left out unless the log had dropped it.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from ..audit import layout
from ..change import Change, Kind, Rejection
from ..errors import Rejected
from ..record import Head
from ..state.feed import Logged
from ..state.folder import replace_file

POSITION_FILE: Final = "changes.position"
POSITION_MODE: Final = 0o600
APPLIED: Final = "APPLIED"
# Changes of one record batch: small, so that what can't be written now is soon tried again.
_STEP: Final = 256
# A change that is recorded later than this bears the time at which it is, and its own beside it: lines of a
# stream stand in the order of their times.
LATE_MS: Final = 5_000


class ChangeLog(Protocol):
    """What is followed: the changes, and what became of each (``state.feed.LocalFeed``)."""

    def head(self) -> Head:
        """Return where the log stands."""
        ...

    def logged(self, since_seq: int, limit: int) -> list[Logged]:
        """Return the changes behind a seq; raises Rejected COMPACTED if some are gone."""
        ...


class ChangeFollower:
    """Turns what is new in a log into records. Used by one thread at a time."""

    def __init__(self, log: ChangeLog, folder: Path) -> None:
        """Follow ``log`` from where the last run in this audit folder stopped, else from its beginning."""
        self._log = log
        self._path = folder / POSITION_FILE
        head = log.head()
        self._log_id = _log_id(head)
        self.seq = _read_position(self._path, head)
        """Up to which change the log is recorded."""

    def bodies(self, now_ms: int) -> Iterator[bytes]:
        """Yield bodies of records for what is new; they count as written when the next are asked for."""
        while True:
            try:
                found = self._log.logged(self.seq, _STEP)
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

    def keep(self, seq: int) -> None:
        """Note that the log is recorded up to ``seq``, on the disk.

        If that can't be written, the next run records some of it again.
        """
        text = json.dumps({"log": self._log_id, "seq": seq}) + "\n"
        with contextlib.suppress(OSError):
            replace_file(self._path, text.encode("ascii"), POSITION_MODE)

    def _skip(self, now_ms: int) -> tuple[bytes, int]:
        """Return a record of what the log has dropped, and the seq to go on behind."""
        since = self.seq
        low, high = since, self._log.head().seq
        # Bisect for the first seq that can be followed: the log does not say where it begins.
        while low < high:
            middle = (low + high) // 2
            try:
                self._log.logged(middle, 1)
            except Rejected:
                low = middle + 1
            else:
                high = middle
        what = f"changes {since + 1} to {high} were compacted away before they were recorded"
        body = layout.body("lost", {"at_ms": now_ms, "count": high - since, "since_ms": 0, "why": what})
        return body, high


def _body(logged: Logged, now_ms: int) -> bytes:
    """Return the record of a change. Its revision is 0 if it was logged before the folder kept results."""
    change, result = Change.decode(logged.encoded), logged.result
    late = now_ms - change.at_ms > LATE_MS
    return layout.body(
        "change",
        {
            "at_ms": now_ms if late else change.at_ms,
            "seq": logged.seq,
            "revision": 0 if result is None else result.revision,
            "id": change.id,
            "change": change.kind.value,
            "session": change.session_id.hex(),
            "actor": change.actor,
            "outcome": APPLIED if result is None else result.rejection or APPLIED,
            "body": base64.b64encode(_told(change, logged.encoded)).decode("ascii"),
            **({"changed_ms": change.at_ms} if late else {}),
        },
    )


def _told(change: Change, encoded: bytes) -> bytes:
    """Return what is recorded of a change: all of it, but for the arguments that an approver is to be shown.

    No value of an argument is in the log; without them the change comes to the same, for whoever replays it.
    """
    approval = change.body.get("approval") if change.kind is Kind.REQUEST_APPROVAL else None
    if not isinstance(approval, dict):
        return encoded
    return replace(change, body={**change.body, "approval": {**approval, "arguments": b""}}).encode()


def _read_position(path: Path, head: Head) -> int:
    """Return the seq up to which this very log was recorded, 0 if that is not known."""
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        log, seq = str(found["log"]), int(found["seq"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    # A restored folder is another incarnation, whose seqs say nothing of the one before.
    return seq if log == _log_id(head) and 0 <= seq <= head.seq else 0


def _log_id(head: Head) -> str:
    return f"{head.cluster_id.hex()}/{head.incarnation.hex()}"
