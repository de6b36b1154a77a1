"""Verifications and records of the audit log, as JSON and as lines for people."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count as numbers
from pathlib import Path
from typing import Any

from ...audit import layout, stream_register
from ...audit.export import ocsf
from ...audit.export.ocsf_common import Event
from ...audit.read.query import Query, find
from ...audit.read.reader import Entry, FolderReader
from ...audit.stream_register import StreamRegister
from ...audit.verify.findings import AuditReport, StreamState, VerificationFinding
from ...errors import StateUnusable
from ..output import moment, printable, table


def read_register(state_dir: Path | None) -> tuple[StreamRegister | None, list[str]]:
    """Return what a state folder keeps of the log, and a line that says so if that is nothing.

    Raises StateUnusable if it is not what the server wrote.
    """
    why = "none was named; --state names one"
    if state_dir is not None:
        try:
            found = stream_register.read(state_dir)
        except StateUnusable as error:
            if error.problem != "WRONG_MODE":
                raise
            found, why = None, str(error)
        else:
            why = f"{state_dir} keeps nothing of a log"
        if found is not None:
            return found, []
    return None, [printable(f"not compared with a state folder: {why}")]


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
    """Return a verification as lines: the streams, what is wrong, and what is only worth knowing."""
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
    lines += [_told(finding) for finding in report.faults]
    lines += [f"note: {_told(finding)}" for finding in report.notes]
    return [*lines, "intact" if report.intact else f"NOT INTACT: {len(report.faults)} findings"]


def _told(finding: VerificationFinding) -> str:
    place = f"{finding.file}:{finding.line}" if finding.line else finding.file
    number = f" (n {finding.n})" if finding.n >= 0 else ""
    return printable(f"{finding.kind.value} {place}{number}: {finding.words}")


def newest(reading: FolderReader, query: Query, limit: int) -> tuple[list[Entry], int]:
    """Return the newest records that fit, by time, and how many do. Raises StateUnusable."""
    order = numbers()
    kept: list[tuple[int, int, Entry]] = []
    found = 0
    for entry in find(reading, query):
        found += 1
        item = (entry.at_ms, next(order), entry)
        if len(kept) < limit:
            heapq.heappush(kept, item)
        else:
            heapq.heappushpop(kept, item)
    return [entry for _, _, entry in sorted(kept)], found


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return a record as it stands in the log, with where it stands."""
    return {"stream": entry.stream.hex(), "file": entry.path.name, "line": entry.line, **entry.record}


def entry_lines(entries: Sequence[Entry], found: int, passed_over: int) -> list[str]:
    """Return a table of records."""
    lines = table(
        ("TIME", "WHAT", "REASON", "STAGE", "SESSION", "BY", "ON", "ID"), [_row(entry) for entry in entries]
    )
    if found > len(entries):
        lines.append(f"the newest {len(entries)} of {found}; --limit shows more")
    if passed_over:
        lines.append(f"{passed_over} lines are no records; 'sessauth audit verify' says what of it")
    return lines


def _row(entry: Entry) -> list[object]:
    record = entry.record
    session = record.get("session") or (f"claims {record['claimed']}" if record.get("claimed") else "")
    if entry.kind == "decision":
        what: list[object] = ["allowed" if record.get("allowed") is True else "denied"]
        what += [record.get("reason"), str(record.get("stage", "")).lower(), session, record.get("action")]
        what += [record.get("resource"), record.get("id")]
    elif entry.kind == "change":
        what = [record.get("change"), record.get("outcome"), "", session, record.get("actor")]
        what += [f"seq {record.get('seq')}", record.get("id")]
    elif entry.kind == "local":
        what = [record.get("what"), record.get("reason"), "", "", "", record.get("name"), ""]
    else:
        what = [entry.kind, record.get("why"), "", "", "", f"{record.get('count')} records", ""]
    return [moment(entry.at_ms), *("" if each is None else each for each in what)]


class Events:
    """Records as OCSF events; knows the begin of each file."""

    def __init__(self, reading: FolderReader) -> None:
        """Take what the records are read from."""
        self._reading = reading
        self._begins: dict[Path, Mapping[str, Any]] = {}

    def of(self, entries: Iterable[Entry]) -> Iterator[Event]:
        """Give the events of records; those about the log itself are none."""
        for entry in entries:
            event = ocsf.event(entry, self._begin(entry.path))
            if event is not None:
                yield event

    def _begin(self, path: Path) -> Mapping[str, Any]:
        if path not in self._begins:
            # A file that a retention took away meanwhile has told its records; only these two words are lost.
            with contextlib.suppress(OSError), path.open("rb") as file:
                self._begins[path] = layout.parse(file.readline(65_536)) or {}
            self._begins.setdefault(path, {})
        return self._begins[path]
