"""Small audit logs to read, to damage and to verify."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessauth.audit import layout
from sessauth.audit.verify.lines import AuditReport, FindingKind
from sessauth.audit.verify.verify import verify
from sessauth.audit.write.stream import AuditStream, StreamOptions
from sessauth.clock import FixedClock
from sessauth.model.change import Change

START_MS = 1_790_000_000_000
SESSION = bytes(range(16))


def decision(number: int, **changed: Any) -> dict[str, Any]:
    """Return the record of a decision that was made ``number`` ms after the start."""
    return {
        "at_ms": START_MS + number,
        "id": f"{number:032x}",
        "allowed": True,
        "reason": "ALLOWED",
        "stage": "NONE",
        "session": SESSION.hex(),
        "epoch": 1,
        "revision": 7,
        "blocks": ["aa" * 32],
        "action": "read",
        "resource": f"mcp/github/repos/{number}",
        "arguments": "",
        "audience": "mcp",
        "source": "10.0.0.1",
        "matched": [0, 0],
        "at": None,
        "token": "bb" * 16,
        "sampled": True,
        **changed,
    }


def decisions(first: int, count: int) -> bytes:
    """Return the bodies of decisions."""
    return b"".join(layout.body("decision", decision(first + i)) for i in range(count))


def open_stream(
    folder: Path,
    clock: FixedClock,
    *,
    process: str = "control",
    index: bool = False,
    host: str = "",
    incarnation: bytes = b"i" * 16,
    **options: int,
) -> AuditStream:
    """Begin a stream of a process that judges for ``mcp``."""
    return AuditStream.open_new(
        folder,
        process=process,
        audience="mcp",
        cluster_id=b"c" * 16,
        incarnation=incarnation,
        options=StreamOptions(**options),
        clock=clock,
        index=index,
        host=host,
    )


def write_small(folder: Path, batches: int = 4, each: int = 2, *, close: bool = True, **options: int) -> Path:
    """Write a stream of some batches of decisions, a checkpoint behind each; return its first file."""
    clock = FixedClock(START_MS)
    stream = open_stream(folder, clock, **{"checkpoint_ms": 5, **options})
    for batch in range(batches):
        stream.append(decisions(batch * each, each))
        clock.advance(5)
        stream.tick(clock.now_ms())
    if close:
        stream.close()
    return folder / layout.file_name(stream.stream_id, 0)


@dataclass(frozen=True)
class Copy:
    """The files of a log as they were written, to be put back after damage."""

    folder: Path
    files: dict[str, bytes]

    @classmethod
    def of(cls, folder: Path) -> Copy:
        """Remember a folder."""
        return cls(folder, {path.name: path.read_bytes() for path in folder.iterdir()})

    def restore(self) -> None:
        """Put everything back, and nothing else."""
        for path in self.folder.iterdir():
            if path.name not in self.files:
                path.unlink()
        for name, data in self.files.items():
            path = self.folder / name
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)

    def logs(self) -> list[str]:
        """Return the names of the streams' files."""
        return sorted(name for name in self.files if layout.parse_name(name))


def kinds(report: AuditReport) -> list[FindingKind]:
    """Return the kinds of the faults."""
    return [finding.kind for finding in report.faults]


def judged(folder: Path) -> list[tuple[FindingKind, int]]:
    """Return kind and line of the faults of a folder."""
    return [(finding.kind, finding.line) for finding in verify(folder).faults]


def change(number: int, made: Change, revision: int, outcome: str = "APPLIED") -> dict[str, Any]:
    """Return the record of a change that was made ``number`` ms after the start."""
    stamped = made.stamped(START_MS + number)
    return {
        "at_ms": START_MS + number,
        "seq": revision,
        "revision": revision,
        "id": made.id,
        "change": made.kind.value,
        "session": made.session_id.hex(),
        "actor": made.actor,
        "outcome": outcome,
        "body": base64.b64encode(stamped.encode()).decode(),
    }
