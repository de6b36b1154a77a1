"""Verifies the streams of an audit folder: chain, order, signatures, and that nothing is missing.

The folder alone can't show all tampering; docs/audit.md lists the rest. It is detected by anchors: chains of
lines that are recorded elsewhere.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ...errors import StateUnusable
from .. import layout
from ..layout import public_keys
from ..write.stream_register import StreamRegister
from .lines import AuditReport, ExpiredFiles, FindingKind, MissingBegin, StreamState, VerificationFinding
from .stream import StreamAnchor, StreamCheck


def compare_anchors(
    folder: Path, states: Mapping[bytes, StreamState], named: Mapping[bytes, StreamAnchor], since_ms: int
) -> list[VerificationFinding]:
    """Return a finding for each anchor in ``named`` whose stream, or a part of it, is missing."""
    findings = []
    for anchor in named.values():
        place = (anchor.named_in, anchor.line, anchor.n)
        who = f"stream {anchor.stream.hex()} ({anchor.process})"
        if anchor.stream not in states:
            if anchor.at_ms >= since_ms:
                words = f"{who}, named here with {anchor.count} lines, is missing"
                findings.append(VerificationFinding(FindingKind.MISSING_STREAM, *place, words))
            continue
        state = states[anchor.stream]
        # Read again: a process may have written since its stream was verified.
        chain = _chain_of(folder, anchor.stream, anchor.count - 1)
        last = max(state.files.values()).name
        if chain is None:
            if state.count < anchor.count:
                words = f"the stream was cut: {anchor.named_in} names {anchor.count} lines of it"
                findings.append(VerificationFinding(FindingKind.TRUNCATED, last, 0, state.count, words))
        elif chain != anchor.head:
            words = f"the stream was rewritten: {anchor.named_in} names another line n {anchor.count - 1}"
            findings.append(VerificationFinding(FindingKind.CHANGED, last, 0, anchor.count - 1, words))
    return findings


def missing_heads(heads: Sequence[bytes], *folders: Path) -> list[VerificationFinding]:
    """Return a finding for each chain that is in no line of the folders."""
    wanted = {b',"chain":"' + head.hex().encode() + b'"}\n': head for head in heads}
    for files in (files for folder in folders for files in layout.files(folder).values()):
        for path in files.values():
            if not wanted:
                return []
            data = path.read_bytes()
            wanted = {text: head for text, head in wanted.items() if text not in data}
    return [
        VerificationFinding(
            FindingKind.TRUNCATED, "", 0, -1, f"no line has the chain {head.hex()}: what it ended was cut off"
        )
        for head in wanted.values()
    ]


def _chain_of(folder: Path, stream: bytes, n: int) -> str | None:
    """Return the chain in a stream's line, 64 hex digits; None if it has no such line."""
    text = b'{"n":%d,"kind":"' % n
    for path in reversed(layout.files(folder).get(stream, {}).values()):
        data = path.read_bytes()
        at = 0 if data.startswith(text) else data.find(b"\n" + text) + 1
        stop = data.find(b"\n", at)
        if (at or data.startswith(text)) and stop > at + layout.TAIL_BYTES:
            return data[stop - 66 : stop - 2].decode("ascii", "replace")
    return None


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

    Raises StateUnusable MISSING if the folder can't be read; KeyFolderError if there are no public keys.

    Args:
        folder: the audit folder; processes may be writing there.
        keys: the trusted public keys, by id; those of ``register`` if None, and without it those in
            ``audit.pub`` of the folder, which prove nothing against anyone who could replace that file.
        expected_heads: chains, 32 bytes each, that some line of the folder must have: anchors from elsewhere.
        since_ms: removed files and streams that ended before this moment are no findings, in ms since 1970.
        register: the state folder's register of the log, read before this folder.
        on_progress: called after each file with the number of files read, and of all files.
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


def _is_stray(path: Path) -> bool:
    """Return True if a path has no name of an audit file, or is there and no plain file."""
    if not layout.parse_name(path.name):
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        # Retention removed it.
        return False


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
        strays = sorted(path.name for path in folder.glob("*.jsonl") if _is_stray(path))
    except OSError as error:
        raise StateUnusable(layout.unreadable(error, folder), "MISSING") from None
    if keys is None:
        keys = register.keys if register is not None else public_keys(folder / layout.PUBLIC_FILE)
    findings = [
        VerificationFinding(FindingKind.FOREIGN, name, 0, -1, "no plain file of a stream has this name")
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
        for _ in check.run(follow=True):
            read += 1
            if on_progress is not None:
                on_progress(read, max(read, total))
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
    findings += compare_anchors(folder, by_stream, named, since_ms)
    findings += missing_heads(expected_heads, folder)
    return AuditReport(tuple(states), tuple(findings))
