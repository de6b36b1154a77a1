"""Verifications and records of the audit log, as JSON and as lines for people."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...audit import layout
from ...audit.export import ocsf
from ...audit.export.ocsf_common import Event
from ...audit.read.query import Query, find
from ...audit.read.reader import Entry, FolderReader
from ...audit.verify.findings import AuditReport, StreamState, VerificationFinding
from ..output import moment, printable, table


def report_json(folder: Path, report: AuditReport) -> dict[str, Any]:
    """Return a verification as JSON values."""
    return {
        "dir": str(folder),
        "intact": report.intact,
        "streams": [_stream_json(state) for state in report.streams],
        "findings": [_finding_json(finding) for finding in report.findings],
    }


def _stream_json(state: StreamState) -> dict[str, Any]:
    return {
        "stream": state.stream.hex(),
        "process": state.process,
        "files": len(state.files),
        "lines": state.count,
        "signed": state.signed,
        "head": state.head,
        "began_ms": state.began_ms,
        "latest_ms": state.latest_ms,
        "closed": state.closed,
    }


def _finding_json(finding: VerificationFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "note": finding.is_note,
        "file": finding.file,
        "line": finding.line,
        "n": finding.n,
        "words": finding.words,
    }


def report_lines(report: AuditReport) -> list[str]:
    """Return a verification as lines: streams, faults, notes, and the result."""
    lines = table(
        ("STREAM", "PROCESS", "BEGAN", "FILES", "LINES", "SIGNED", "END"),
        [
            [
                state.stream.hex(),
                state.process,
                moment(state.began_ms),
                len(state.files),
                state.count,
                state.signed,
                "closed" if state.closed else "open",
            ]
            for state in report.streams
        ],
    )
    lines += [_finding_line(finding) for finding in report.faults]
    lines += [f"note: {_finding_line(finding)}" for finding in report.notes]
    return [*lines, "intact" if report.intact else f"NOT INTACT: {len(report.faults)} findings"]


def _finding_line(finding: VerificationFinding) -> str:
    place = f"{finding.file}:{finding.line}" if finding.line else finding.file
    number = f" (n {finding.n})" if finding.n >= 0 else ""
    return printable(f"{finding.kind.value} {place}{number}: {finding.words}")


def newest(reading: FolderReader, query: Query, limit: int) -> tuple[list[Entry], int]:
    """Return the newest ``limit`` records that match, by time, and the count of all. Raises StateUnusable."""
    heap: list[tuple[int, int, Entry]] = []
    count = 0
    for entry in find(reading, query):
        item = (entry.at_ms, count, entry)
        count += 1
        if len(heap) < limit:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    return [entry for _, _, entry in sorted(heap)], count


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return a record of the log with its stream, file and line."""
    return {"stream": entry.stream.hex(), "file": entry.path.name, "line": entry.line, **entry.record}


def entry_lines(entries: Sequence[Entry], count: int, passed_over: int) -> list[str]:
    """Return a table of records."""
    lines = table(
        ("TIME", "WHAT", "REASON", "STAGE", "SESSION", "BY", "ON", "ID"), [_row(entry) for entry in entries]
    )
    if count > len(entries):
        lines.append(f"the newest {len(entries)} of {count}; --limit shows more")
    if passed_over:
        lines.append(f"{passed_over} lines are no records; 'sessauth audit verify' says what of it")
    return lines


def _row(entry: Entry) -> list[object]:
    record = entry.record
    session = record.get("session") or (f"claims {record['claimed']}" if record.get("claimed") else "")
    if entry.kind == "decision":
        cells: list[object] = ["allowed" if record.get("allowed") is True else "denied"]
        cells += [record.get("reason"), str(record.get("stage", "")).lower(), session]
        on = "the token alone" if record.get("token_only") is True else record.get("resource")
        cells += [record.get("action"), on, record.get("id")]
    elif entry.kind == "change":
        cells = [record.get("change"), record.get("outcome"), "", session, record.get("actor")]
        cells += [f"seq {record.get('seq')}", record.get("id")]
    elif entry.kind == "local":
        cells = [record.get("what"), record.get("reason"), "", "", "", record.get("name"), ""]
    else:
        cells = [entry.kind, record.get("why"), "", "", "", f"{record.get('count')} records", ""]
    return [moment(entry.at_ms), *("" if cell is None else cell for cell in cells)]


class Events:
    """Maps records to OCSF events; caches the first record of each file."""

    def __init__(self) -> None:
        """Cache nothing yet."""
        self._begins: dict[Path, Mapping[str, Any]] = {}

    def of(self, entries: Iterable[Entry]) -> Iterator[Event]:
        """Yield the events of records; records about the log itself have none."""
        for entry in entries:
            event = ocsf.event(entry, self._begin(entry.path))
            if event is not None:
                yield event

    def _begin(self, path: Path) -> Mapping[str, Any]:
        if path not in self._begins:
            # Retention may have removed the file after its records were read; only these fields are lost.
            with contextlib.suppress(OSError), path.open("rb") as file:
                self._begins[path] = layout.parse(file.readline(65_536)) or {}
            self._begins.setdefault(path, {})
        return self._begins[path]
