"""Compares streams with anchors: chains of their lines that are recorded elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import layout
from .findings import FindingKind, StreamState, VerificationFinding
from .stream import StreamAnchor


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
