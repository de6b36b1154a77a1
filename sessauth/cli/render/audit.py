"""Verifications and records of the audit log, as JSON and as lines for people."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ...audit import layout
from ...audit.export import ocsf
from ...audit.export.ocsf_common import Event
from ...audit.read.hosts import AuditHost
from ...audit.read.logged_decision import LoggedDecision
from ...audit.read.query import Query, find
from ...audit.read.reader import Entry, FolderReader
from ...audit.verify.findings import AuditReport, StreamState, VerificationFinding
from ..output import moment, printable, table


@dataclass(frozen=True, slots=True)
class VerifiedHost:
    """The verification of one host's log: its report, and lines about the comparisons that were not made."""

    host: AuditHost
    report: AuditReport
    lines: tuple[str, ...] = ()
    compared_with_state: bool = False
    compared_with_changes: bool = False


def verified_json(verified: Sequence[VerifiedHost]) -> dict[str, Any]:
    """Return verifications as JSON values: that of a single host, or those of several."""
    if len(verified) == 1:
        return _verified_json(verified[0])
    return {
        "intact": all(each.report.intact for each in verified),
        "hosts": [{"host": each.host.name, **_verified_json(each)} for each in verified],
    }


def _verified_json(verified: VerifiedHost) -> dict[str, Any]:
    return {
        **report_json(verified.host.folder, verified.report),
        "compared_with_state": verified.compared_with_state,
        "compared_with_changes": verified.compared_with_changes,
    }


def verified_lines(verified: Sequence[VerifiedHost]) -> list[str]:
    """Return verifications as lines; of several hosts one after the other, and the sum at the end."""
    if len(verified) == 1:
        return [*verified[0].lines, *report_lines(verified[0].report)]
    lines = []
    for each in verified:
        lines.append(printable(f"{each.host.name}  {each.host.folder}"))
        lines += [f"  {line}" for line in (*each.lines, *report_lines(each.report))]
    broken = sum(not each.report.intact for each in verified)
    count = f"{len(verified)} hosts"
    return [*lines, f"NOT INTACT: {broken} of {count}" if broken else f"intact: {count}"]


def folders_json(hosts: Sequence[AuditHost]) -> dict[str, Any]:
    """Return the folder that was read, or those of several hosts, as JSON values."""
    if len(hosts) == 1:
        return {"dir": str(hosts[0].folder)}
    return {"hosts": [{"host": host.name, "dir": str(host.folder)} for host in hosts]}


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


def newest(readers: Iterable[FolderReader], query: Query, limit: int) -> tuple[list[Entry], int]:
    """Return the newest ``limit`` records that match, by time, and the count of all. Raises StateUnusable."""
    heap: list[tuple[int, int, Entry]] = []
    count = 0
    for entry in chain.from_iterable(find(reading, query) for reading in readers):
        item = (entry.at_ms, count, entry)
        count += 1
        if len(heap) < limit:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    return [entry for _, _, entry in sorted(heap)], count


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return a record of the log with its stream, file and line."""
    host = {"host": entry.host} if entry.host else {}
    return {
        **host,
        "stream": entry.stream.hex(),
        "file": entry.path.name,
        "line": entry.line,
        **entry.record,
    }


def entry_lines(entries: Sequence[Entry], count: int, passed_over: int) -> list[str]:
    """Return a table of records."""
    lines = table_lines(entries)
    if count > len(entries):
        lines.append(f"the newest {len(entries)} of {count}; --limit shows more")
    if passed_over:
        lines.append(f"{passed_over} lines are no records; see 'sessauth audit verify'")
    return lines


def table_lines(entries: Sequence[Entry]) -> list[str]:
    """Return a table of records, with their hosts if there are several."""
    headers = ("TIME", "WHAT", "REASON", "STAGE", "SESSION", "BY", "ON", "ID")
    if not any(entry.host for entry in entries):
        return table(headers, [_row(entry) for entry in entries])
    return table(("HOST", *headers), [[entry.host, *_row(entry)] for entry in entries])


def _row(entry: Entry) -> list[object]:
    record = entry.record
    session = record.get("session") or (f"claims {record['claimed']}" if record.get("claimed") else "")
    if entry.kind == "decision":
        judged = LoggedDecision.of(record)
        cells: list[object] = ["observed" if judged.observed else "allowed" if judged.allowed else "denied"]
        cells += [record.get("reason"), str(record.get("stage", "")).lower(), session]
        on = "the token alone" if record.get("token_only") is True else record.get("resource")
        cells += [record.get("action"), on, record.get("id")]
    elif entry.kind == "change":
        cells = [record.get("change"), record.get("outcome"), "", session, record.get("actor")]
        cells += [f"seq {record.get('seq')}", record.get("id")]
    elif entry.kind == "local":
        cells = [
            record.get("what"),
            record.get("reason"),
            "",
            "",
            record.get("actor"),
            record.get("name"),
            "",
        ]
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
