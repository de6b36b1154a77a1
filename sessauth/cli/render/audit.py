"""The audit log for the commands: the folders that a command names, and their contents as JSON and as lines.

It verifies the log of each host, and renders reports, records, OCSF events and the story of a session over
several hosts.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...audit import layout, ocsf
from ...audit.ocsf import Event
from ...audit.read.query import Entry, FolderReader, LoggedDecision, Query, find
from ...audit.read.story import AuditHost, HostStory, SessionStory
from ...audit.verify.lines import AuditReport, StreamState, VerificationFinding
from ...errors import KeyFolderError, StateError, StateUnusable, UsageError
from ..context import Settings
from ..output import attributes, moment, printable, table

if TYPE_CHECKING:
    from ...audit.write.stream_register import StreamRegister


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
        **attributes(state, "stream", "process"),
        "files": len(state.files),
        "lines": state.count,
        **attributes(state, "signed", "head", "began_ms", "latest_ms", "closed"),
    }


def _finding_json(finding: VerificationFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "note": finding.is_note,
        **attributes(finding, "file", "line", "n", "words"),
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
    return {**host, "stream": entry.stream.hex(), "file": entry.path.name, "line": entry.line, **entry.record}


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
        decision = LoggedDecision.of(record)
        cells: list[object] = [
            "observed" if decision.observed else "allowed" if decision.allowed else "denied"
        ]
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


def problems(
    story: SessionStory, verified: Sequence[VerifiedHost], named: Sequence[str], bound_ms: int
) -> list[str]:
    """Return why it is not proved that nothing outlived the session; empty: it is.

    ``named`` are the hosts of its receipt.
    """
    found = [
        f"{_name(each)}: its log is not intact, {len(each.report.faults)} findings of 'audit verify'"
        for each in verified
        if not each.report.intact
    ]
    names = {part.host.name for part in story.hosts}
    found += [
        f"{name}: the receipt names it, and no log of it is here" for name in named if name not in names
    ]
    if story.end is None:
        return [*found, "no log holds the end of the session"]
    for part, each in zip(story.hosts, verified, strict=True):
        if part.lost or part.passed_over:
            found.append(f"{_name(each)}: {part.lost + part.passed_over} losses, which may hide an allow")
        latest_ms = max((state.latest_ms for state in each.report.streams), default=0)
        closed = bool(each.report.streams) and all(state.closed for state in each.report.streams)
        if not closed and latest_ms <= story.end.at_ms + bound_ms:
            found.append(f"{_name(each)}: its log does not go beyond the end, and was not closed")
    found += [
        printable(
            f"{entry.host or 'this host'}: allowed {entry.record.get('id')} at {moment(entry.at_ms)}, "
            f"{entry.at_ms - story.end.at_ms} ms after the end, by revision {entry.record.get('revision')}"
        )
        for entry in story.survived
    ]
    return found


def to_json(story: SessionStory, verified: Sequence[VerifiedHost], found: Sequence[str]) -> dict[str, Any]:
    """Return a story as JSON values."""
    ended = ("change", "session", "seq", "revision", "at_ms")
    return {
        "session": story.session_id.hex(),
        "proved": not found,
        "problems": list(found),
        "end": None if story.end is None else attributes(story.end, *ended),
        "allowed_within_bound": story.within,
        "hosts": [
            {
                "host": part.host.name,
                "dir": str(part.host.folder),
                "intact": each.report.intact,
                **attributes(part, "allowed", "denied", "last_allow_ms"),
                "clock_behind_ms": part.behind_ms,
                "clock_ahead_ms": part.ahead_ms,
                "lost": part.lost,
            }
            for part, each in zip(story.hosts, verified, strict=True)
        ],
        "records": [entry_json(entry) for entry in story.entries],
    }


def to_lines(story: SessionStory, found: Sequence[str]) -> list[str]:
    """Return a story as lines: its records, its hosts, and the result."""
    lines = table_lines(story.entries)
    lines += [
        "",
        *table(
            ("HOST", "ALLOWED", "DENIED", "LAST ALLOW", "CLOCK"),
            [
                (
                    part.host.name or "this host",
                    part.allowed,
                    part.denied,
                    moment(part.last_allow_ms) or "none",
                    _clock(part),
                )
                for part in story.hosts
            ],
        ),
        "",
    ]
    if story.end is not None:
        lines.append(
            f"ended {moment(story.end.at_ms)} by change {story.end.seq}, at revision {story.end.revision}; "
            f"{story.within} calls were allowed within the bound after it"
        )
    lines += [f"NOT PROVED: {each}" for each in found]
    count = f"{len(story.hosts)} host" + ("s" if len(story.hosts) > 1 else "")
    return lines if found else [*lines, f"nothing outlived the session: {count}"]


def _clock(part: HostStory) -> str:
    """Return the records' evidence of a host's clock."""
    words = []
    if part.behind_ms:
        words.append(f"behind by {part.behind_ms} ms at least")
    if part.ahead_ms:
        words.append(f"ahead, or late, by {part.ahead_ms} ms at least")
    return ", ".join(words)


def _name(verified: VerifiedHost) -> str:
    return printable(verified.host.name or "this host")


def hosts_of(settings: Settings, folders: Sequence[Path], state_dir: Path | None = None) -> list[AuditHost]:
    """Return the hosts of ``--dir``, or that of the home folder. Raises StateUnusable, UsageError.

    ``state_dir`` is that of a single host.
    """
    from ...audit.read.story import AuditHost, audit_hosts

    if not folders:
        config = settings.config()
        return [AuditHost("", config.audit_dir, state_dir or config.state_dir)]
    hosts = audit_hosts(folders)
    if state_dir is None:
        return hosts
    if len(hosts) > 1:
        raise UsageError("--state: is for one audit folder; of several each home's own is used")
    return [replace(hosts[0], state_dir=state_dir)]


def verify_hosts(
    hosts: Sequence[AuditHost],
    *,
    keys: Mapping[bytes, bytes] | None = None,
    heads: Sequence[bytes] = (),
    since_ms: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[VerifiedHost]:
    """Verify each host's log. One of several hosts is enough for each of ``heads``.

    Raises as ``verify`` does; of several hosts one without a public key is not intact.
    """
    from ...audit.verify.verify import missing_heads, verify

    verified = []
    for host in hosts:
        register, lines = _read_register(host.state_dir)
        try:
            report = verify(
                host.folder, keys=keys, since_ms=since_ms, register=register, on_progress=on_progress
            )
        except KeyFolderError as error:
            if len(hosts) == 1:
                raise
            # The others are verified all the same.
            report = _without_keys(host, str(error))
        report, why = _with_missing_changes(report, host.folder, host.state_dir)
        verified.append(VerifiedHost(host, report, (*lines, *why), register is not None, not why))
    missing = missing_heads(heads, *(host.folder for host in hosts))
    if missing:
        first = verified[0].report
        first = replace(first, findings=(*first.findings, *missing))
        verified[0] = replace(verified[0], report=first)
    return verified


def _without_keys(host: AuditHost, why: str) -> AuditReport:
    """Return the report of a log that can't be verified: there is none, or nothing to verify it by."""
    from ...audit import layout
    from ...audit.verify.lines import AuditReport, FindingKind, VerificationFinding

    kind = FindingKind.UNSIGNED if layout.files(host.folder) else FindingKind.NO_STREAM
    return AuditReport((), (VerificationFinding(kind, "", 0, -1, why),))


def _read_register(state_dir: Path | None) -> tuple[StreamRegister | None, list[str]]:
    """Return the register of the log's streams in a state folder, or None and a line that says so.

    Raises StateUnusable if its file is damaged.
    """
    from ...audit.write import stream_register

    why = "none was named; --state names one"
    if state_dir is not None:
        try:
            registered = stream_register.read(state_dir)
        except StateUnusable as error:
            if error.problem != "WRONG_MODE":
                raise
            registered, why = None, str(error)
        else:
            why = f"{state_dir} keeps nothing of a log"
        if registered is not None:
            return registered, []
    return None, [printable(f"not compared with a state folder: {why}")]


def _with_missing_changes(
    report: AuditReport, folder: Path, state_dir: Path | None
) -> tuple[AuditReport, list[str]]:
    """Add the changes that log or state lack to a report; return a line too if the two were not compared.

    A state that can't be read is not a finding, unless it is an older one.
    """
    from ...audit.recording.change_follower import lacking
    from ...audit.verify.lines import FindingKind, VerificationFinding
    from ...state.layout import DATA_FILE
    from ...state.lmdb.feed import ChangeLog
    from ...state.lmdb.reader import StateReader

    if state_dir is None or not (state_dir / DATA_FILE).exists():
        return report, ["not compared with the changes of a state: there is none here"]
    try:
        with contextlib.closing(StateReader.open(state_dir)) as reader:
            findings = lacking(folder, ChangeLog(reader))
    except StateError as error:
        if getattr(error, "problem", "") != "ROLLED_BACK":
            return report, [printable(f"not compared with the changes of the state: {error}")]
        findings = [VerificationFinding(FindingKind.ROLLED_BACK, "", 0, -1, str(error))]
    return replace(report, findings=(*report.findings, *findings)), []
