"""The audit log held against the state that it is the log of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..audit.recording.missing_changes import lacking
from ..audit.verify.findings import AuditReport, FindingKind, VerificationFinding
from ..errors import StateError
from ..state.layout import DATA_FILE
from ..state.lmdb.feed import LocalFeed
from ..state.lmdb.reader import StateReader
from .output import printable


def compared(report: AuditReport, folder: Path, state_dir: Path | None) -> tuple[AuditReport, list[str]]:
    """Return a report with what the state lacks, and a line that says so if the two were not compared.

    A state that can't be read is no finding, unless it is an older one.
    """
    if state_dir is None or not (state_dir / DATA_FILE).exists():
        return report, ["not compared with the changes of a state: there is none here"]
    try:
        reader = StateReader.open(state_dir)
        try:
            found = lacking(folder, LocalFeed(reader))
        finally:
            reader.close()
    except StateError as error:
        if getattr(error, "problem", "") != "ROLLED_BACK":
            return report, [printable(f"not compared with the changes of the state: {error}")]
        found = [VerificationFinding(FindingKind.ROLLED_BACK, "", 0, -1, str(error))]
    return replace(report, findings=(*report.findings, *found)), []
