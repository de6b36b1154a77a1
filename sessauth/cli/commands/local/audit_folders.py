"""The audit folders that a command names, and their verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import KeyFolderError, StateError, StateUnusable, UsageError
from ...context import Settings
from ...output import printable
from ...render.audit import VerifiedHost

if TYPE_CHECKING:
    from ....audit.read.hosts import AuditHost
    from ....audit.stream_register import StreamRegister
    from ....audit.verify.findings import AuditReport


def hosts_of(settings: Settings, folders: Sequence[Path], state_dir: Path | None = None) -> list[AuditHost]:
    """Return the hosts of ``--dir``, or that of the home folder. Raises StateUnusable, UsageError.

    ``state_dir`` is that of a single host.
    """
    from ....audit.read.hosts import AuditHost, audit_hosts

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
    from ....audit.verify.anchors import missing_heads
    from ....audit.verify.verify import verify

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
    from ....audit import layout
    from ....audit.verify.findings import AuditReport, FindingKind, VerificationFinding

    kind = FindingKind.UNSIGNED if layout.files(host.folder) else FindingKind.NO_STREAM
    return AuditReport((), (VerificationFinding(kind, "", 0, -1, why),))


def _read_register(state_dir: Path | None) -> tuple[StreamRegister | None, list[str]]:
    """Return the register of the log's streams in a state folder, or None and a line that says so.

    Raises StateUnusable if its file is damaged.
    """
    from ....audit import stream_register

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

    A state that can't be read is no finding, unless it is an older one.
    """
    from ....audit.recording.missing_changes import lacking
    from ....audit.verify.findings import FindingKind, VerificationFinding
    from ....state.layout import DATA_FILE
    from ....state.lmdb.feed import LocalFeed
    from ....state.lmdb.reader import StateReader

    if state_dir is None or not (state_dir / DATA_FILE).exists():
        return report, ["not compared with the changes of a state: there is none here"]
    try:
        reader = StateReader.open(state_dir)
        try:
            findings = lacking(folder, LocalFeed(reader))
        finally:
            reader.close()
    except StateError as error:
        if getattr(error, "problem", "") != "ROLLED_BACK":
            return report, [printable(f"not compared with the changes of the state: {error}")]
        findings = [VerificationFinding(FindingKind.ROLLED_BACK, "", 0, -1, str(error))]
    return replace(report, findings=(*report.findings, *findings)), []
