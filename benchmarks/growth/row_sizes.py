"""Sizes of rows and records, measured on a small folder in a temporary place.

``python -m benchmarks.growth.row_sizes`` prints the table of docs/how-to/capacity.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sessauth.audit.recording.change_follower import ChangeFollower
from sessauth.audit.recording.process import ProcessRecorder
from sessauth.audit.write.stream import AuditOptions
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import Change, add_key, end_session, open_session
from sessauth.scopes.scope import Scope
from sessauth.state import layout
from sessauth.state.lmdb.feed import ChangeLog
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Issuer
from sessauth.verifier.verifier import Verifier

CEILING: Final = ('read:mcp/github/* where owner == "acme" and repo == "web" free *',)
LONG_CEILING: Final = (
    *CEILING,
    *(f'write:mcp/github/tool_{n} where owner == "acme" free *' for n in range(20)),
)
SESSIONS: Final = 1_024
DECISIONS: Final = 256
_MAP_BYTES: Final = 64 << 20
_HOUR_MS: Final = 3_600_000
_LOG: Final = (layout.CHANGES, layout.RESULTS)
_OUTCOMES: Final = (layout.OUTCOMES, layout.OUTCOME_ORDER)
_ACTOR: Final = "orchestrator"
_AUDIENCE: Final = "gateway"
# Of the length of a usual call; what it allows does not matter for the size of its record.
_CALL: Final = '{"owner": "acme", "repo": "web", "path": "src/pages/index.py", "ref": "refs/heads/main"}'
_SECONDS: Final = 30.0
_LOADED: Final = "import sessauth.server.process.control; print(open('/proc/self/statm').read().split()[1])"


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Bytes: of a session's rows, of a change in the log, of its request id, of audit records, of a process.

    That of a process is its memory with empty caches.
    """

    session: float
    change: float
    outcome: float
    audit_decision: float
    audit_change: float
    process: int


def table() -> list[str]:
    """Return the rows of the page's table: bytes with a ceiling of one scope, and of 21."""
    short, long = measure(CEILING), measure(LONG_CEILING)
    names = {
        "a stored session": "session",
        "a change in the log": "change",
        "a request id": "outcome",
        "a decision in the audit": "audit_decision",
        "a change in the audit": "audit_change",
        "a process with empty caches": "process",
    }
    return [
        f"| {words} | {getattr(short, name):,.0f} | {getattr(long, name):,.0f} |"
        for words, name in names.items()
    ]


def measure(ceiling: Sequence[str]) -> RowSizes:
    """Open and end sessions with this ceiling, check calls, and return the sizes.

    Raises ScopeError for a ceiling that can't be read, StateError if the temporary place is full.
    """
    scopes = [dict(Scope.parse(text).to_record()) for text in ceiling]
    with TemporaryDirectory(prefix="sessauth-capacity-") as place:
        folder, key = Path(place), IssuerKey.generate()
        with StateWriter.open(folder / "state", create=True, map_size=_MAP_BYTES) as log:
            _submit(log, [add_key("key", key.public_key, status=KeyStatus.ACTIVE, actor=_ACTOR)])
            before = _table_bytes(log)
            ids = [os.urandom(16) for _ in range(SESSIONS)]
            _submit(log, [_opening(each, scopes) for each in ids])
            _submit(
                log, [end_session(_request_id(), each, "ticket closed", actor=_ACTOR) for each in ids[1:]]
            )
            grown = {name: size - before[name] for name, size in _table_bytes(log).items()}
            token = Issuer(key).mint(ids[0], list(ceiling), [_AUDIENCE], ttl_ms=_HOUR_MS)
            verifier = Verifier(log.source())
            decisions = _recorded(folder / "decisions", log, verifier, token.text, changes=False)
            changes = _recorded(folder / "changes", log, verifier, token.text, changes=True)
    number = 2 * SESSIONS - 1
    rows = sum(size for name, size in grown.items() if name not in (*_LOG, *_OUTCOMES))
    return RowSizes(
        session=rows / SESSIONS,
        change=sum(grown[name] for name in _LOG) / number,
        outcome=sum(grown[name] for name in _OUTCOMES) / number,
        audit_decision=decisions / DECISIONS,
        audit_change=changes / (number + 1),
        process=_process_bytes(),
    )


def _process_bytes() -> int:
    """Return the resident memory of a process that loaded the server; 0 if it can't be read."""
    command = [sys.executable, "-P", "-c", _LOADED]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
        return int(answer.stdout) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _opening(session_id: bytes, scopes: list[dict[str, object]]) -> Change:
    return open_session(
        _request_id(),
        session_id,
        scopes,
        actor=_ACTOR,
        labels={"team": "platform"},
        subject="agent:reviewer",
        purpose="ticket 4711",
        owner=_ACTOR,
        ttl_ms=_HOUR_MS,
        lease_ms=30_000,
    )


def _request_id() -> str:
    """Return a request id as a client makes one."""
    return os.urandom(16).hex()


def _submit(log: StateWriter, changes: Iterable[Change]) -> None:
    """Write changes, as many as share a commit at once."""
    for future in [log.submit(change) for change in changes]:
        future.result(_SECONDS).raise_if_rejected()


def _table_bytes(log: StateWriter) -> dict[str, int]:
    """Return the bytes of the pages of each table."""
    page = int(log.source().env.stat()["psize"])
    with log.source().rows() as rows:
        return {name: rows.pages(name) * page for name in rows.tables}


def _recorded(folder: Path, log: StateWriter, verifier: Verifier, token: str, *, changes: bool) -> int:
    """Return the bytes of an audit stream of :data:`DECISIONS`, or of all changes."""
    recorder = ProcessRecorder(verifier, queue_bytes=16 << 20)
    feed = ChangeLog(log.source())
    follower = ChangeFollower(feed, folder) if changes else None
    recorder.open_audit(AuditOptions(folder), feed.head(), "capacity", changes=follower)
    recorder.start()
    for _ in range(0 if changes else DECISIONS):
        verifier.check(token, "read", "mcp/github/get_file_contents", _CALL.encode(), audience=_AUDIENCE)
    recorder.close()
    return sum(file.stat().st_size for file in folder.glob("*.jsonl"))


if __name__ == "__main__":
    print("\n".join(table()))
