"""Verifies the streams of an audit folder: chain, order, signatures, and that nothing is missing.

docs/audit.md lists the tampering it can't detect without an anchor from outside the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ...errors import StateUnusable
from .. import layout
from ..keys import public_keys
from ..stream_register import StreamRegister
from . import anchors
from .expired import ExpiredFiles, MissingBegin
from .findings import AuditReport, FindingKind, StreamState, VerificationFinding
from .stream import StreamCheck

# Retention removes files once a minute, so the second try hardly ever meets it again.
_TRIES: Final = 3


def verify(
    folder: Path,
    *,
    keys: Mapping[bytes, bytes] | None = None,
    expected_heads: Sequence[bytes] = (),
    since_ms: int = 0,
    register: StreamRegister | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Read a whole audit folder, one file at a time, and report.

    Args:
        folder: the audit folder; processes may be writing there.
        keys: the trusted public keys, by id; those of ``register`` if None, and without it those in
            ``audit.pub`` of the folder, which prove nothing against anyone who could replace that file.
        expected_heads: chains, 32 bytes each, that some line of the folder must have: anchors from elsewhere.
        since_ms: removed files and streams that ended before this moment are no findings, in ms since 1970.
        register: the state folder's register of the log, read before this folder.
        on_progress: called after each file with the number of files read, and of all files.

    Raises:
        StateUnusable: MISSING, if the folder can't be read.
        KeyFolderError: if there are no public keys.
    """
    for _ in range(_TRIES):
        try:
            return _verify(folder, keys, expected_heads, since_ms, register, on_progress)
        except FileNotFoundError:
            # Retention removed a file that was listed; its record is in one that was read before.
            continue
    raise StateUnusable(
        f"files of {folder} are removed while they are read; copy it, or try again", "MISSING"
    )


def _verify(
    folder: Path,
    keys: Mapping[bytes, bytes] | None,
    expected_heads: Sequence[bytes],
    since_ms: int,
    register: StreamRegister | None,
    on_progress: Callable[[int, int], None] | None,
) -> AuditReport:
    try:
        streams = layout.files(folder)
        strays = sorted(path.name for path in folder.glob("*.jsonl") if not layout.parse_name(path.name))
    except OSError as error:
        raise StateUnusable(layout.unreadable(error, folder), "MISSING") from None
    if keys is None:
        keys = register.keys if register is not None else public_keys(folder / layout.PUBLIC_FILE)
    findings = [
        VerificationFinding(FindingKind.FOREIGN, name, 0, -1, "no stream has a file of this name")
        for name in strays
    ]
    if not streams:
        words = "the folder holds no stream: nothing was recorded here, or all of it was removed"
        findings.append(VerificationFinding(FindingKind.NO_STREAM, "", 0, -1, words))
    states: list[StreamState] = []
    registered = () if register is None else register.anchors
    named = {anchor.stream: anchor for anchor in registered}
    expired, missing = ExpiredFiles(), list[MissingBegin]()
    read, total = 0, sum(map(len, streams.values()))
    for stream, files in streams.items():
        check = StreamCheck(stream, files, keys, since_ms)
        for _ in check.run():
            read += 1
            if on_progress is not None:
                on_progress(read, total)
        states.append(check.state)
        findings += check.findings
        missing += check.missing
        for file in check.expired:
            expired.add(file)
        for anchor in check.anchors:
            known = named.get(anchor.stream)
            if known is None or known.count < anchor.count:
                named[anchor.stream] = anchor
    states.sort(key=lambda state: state.began_ms)
    findings += map(expired.explain, missing)
    by_stream = {state.stream: state for state in states}
    named = {
        stream: anchor
        for stream, anchor in named.items()
        if stream in by_stream or not expired.covers(stream, anchor.count)
    }
    findings += anchors.compare_anchors(folder, by_stream, named, since_ms)
    findings += anchors.missing_heads(expected_heads, folder)
    return AuditReport(tuple(states), tuple(findings))
