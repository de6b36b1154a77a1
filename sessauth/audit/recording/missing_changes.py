"""Finds changes that an audit log holds and its state lacks: then the state is an older one.

A data file that was put back with its anchor agrees with itself; only the audit log shows later changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...model.change import Change
from ...state.lmdb.feed import LocalFeed
from .. import layout
from ..verify.findings import FindingKind, VerificationFinding
from .change_follower import recorded_body

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


def lacking(folder: Path, feed: LocalFeed) -> list[VerificationFinding]:
    """Return a finding if an audit folder holds changes that a state lacks.

    The state is read after the log, so that changes which a server writes meanwhile are no findings.
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


def _has(feed: LocalFeed, seq: int, compacted: int, last: int, line: bytes) -> bool:
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
