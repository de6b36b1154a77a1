"""Chooses the files of an audit folder, and the lines of each, that a pack shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..audit import layout
from ..audit.write.stream import StreamHead, last_line
from ..errors import StateUnusable
from .reader.manifest import PackQuestion
from .reader.stream import SLACK_MS

# Quotes inside a JSON text are escaped, so the later patterns match none.
_LINE: Final = re.compile(rb'\{"n":([0-9]{1,16}),"kind":"([a-z_]{1,32})"(?:,"at_ms":([0-9]{1,16}))?')
_SESSION: Final = re.compile(rb'"(?:session|claimed)":"([0-9a-f]{32})"')
_BLOCKS: Final = re.compile(rb'"blocks":\[("[0-9a-f",]*")\]')
_CHAIN_ID: Final = re.compile(rb'\{"id":("[0-9a-f]{64}")')
_TAIL_BYTES: Final = layout.TAIL_BYTES + 1
_ANCHOR: Final = re.compile(rb'"stream":"([0-9a-f]{32})".*?"count":([0-9]{1,16})')
_CHAINED: Final = re.compile(rb',"chain":"[0-9a-f]{64}"\}\n')
# Lines of no question, those that are always shown, those that end a segment too, and those of the question.
_OTHER, _ALWAYS, _SIGNED, _MATCH = range(4)
_SORTS: Final = {b"begin": _ALWAYS, b"end": _ALWAYS, b"stream": _ALWAYS, b"checkpoint": _SIGNED}
# Streams that grow while they are read are read again.
_ROUNDS: Final = 20


@dataclass(slots=True)
class ScannedFile:
    """One file, up to ``size`` bytes. ``shown`` has a 1 for each line that the pack shows, else a 0."""

    number: int
    path: Path
    size: int
    first: int = 0
    shown: bytearray = field(default_factory=bytearray)
    # Ids of a token's blocks by the line of their chain.
    chains: dict[int, bytes] = field(default_factory=dict)
    _sorts: bytearray = field(default_factory=bytearray)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines with their line feeds. Raises StateUnusable if the file can't be read."""
        try:
            with self.path.open("rb") as file:
                left = self.size
                for line in file:
                    left -= len(line)
                    if left < 0:
                        return
                    yield line
        except OSError as error:
            raise StateUnusable(f"can't read {self.path}: {error.strerror}", "WRONG_MODE") from None


@dataclass(slots=True)
class ScannedStream:
    """The files of one stream that a pack has, in order; none: it was left out."""

    stream: bytes
    process: str
    files: list[ScannedFile] = field(default_factory=list)
    count: int = 0
    # The last line that was read ends a file, and another file follows it.
    goes_on: bool = False
    # The extents of other streams that it names.
    anchors: dict[str, int] = field(default_factory=dict)


def scan(folder: Path, question: PackQuestion) -> list[ScannedStream]:
    """Return all streams of a folder, those of another time without files. Raises StateUnusable."""
    scanned: dict[str, ScannedStream] = {}
    try:
        for _ in range(_ROUNDS):
            found = {stream.hex(): (stream, files) for stream, files in layout.files(folder).items()}
            due = [name for name in found if _is_short(name, scanned)]
            if not due:
                break
            for name in due:
                scanned[name] = _scan_stream(folder, *found[name], question)
    except OSError as error:
        message = f"can't read the audit folder {folder}: {error.strerror}"
        raise StateUnusable(message, "WRONG_MODE") from None
    return [scanned[name] for name in sorted(scanned)]


def _is_short(name: str, scanned: Mapping[str, ScannedStream]) -> bool:
    """Return True if a stream was not read, or another one that was read later names more lines of it."""
    stream = scanned.get(name)
    if stream is None:
        return True
    named = max((each.anchors.get(name, 0) for each in scanned.values()), default=0)
    return bool(stream.files) and (stream.goes_on or stream.count < named)


def _scan_stream(
    folder: Path, stream: bytes, files: Mapping[int, Path], question: PackQuestion
) -> ScannedStream:
    begins = {number: _begin(path) for number, path in files.items()}
    process = str(begins[min(begins)][1])
    result = ScannedStream(stream, process)
    first, last = min(files), max(files)
    head = last_line(last, files[last])
    if begins[first][0] >= question.until_ms + SLACK_MS or _latest(head) < question.since_ms - SLACK_MS:
        return result
    started = [number for number in files if begins[number][0] <= question.since_ms - SLACK_MS]
    chosen = [
        number
        for number in sorted(files)
        if number >= max(started, default=first) and begins[number][0] < question.until_ms + SLACK_MS
    ]
    tokens: set[bytes] = set()
    # Files after the time of the question are left out.
    left_out = chosen[-1] != last
    while chosen:
        for number in chosen:
            path = files[number]
            file = ScannedFile(number, path, os.stat(path).st_size)
            _read_lines(file, question, tokens, result)
            result.files.append(file)
        if left_out or not result.goes_on:
            break
        # Its process went on in the meantime: the new lines are fewer than another round would read.
        files = {
            number: path
            for number, path in layout.files(folder).get(stream, {}).items()
            if number > chosen[-1]
        }
        chosen = [
            number for number in sorted(files) if _begin(files[number])[0] < question.until_ms + SLACK_MS
        ]
        left_out = len(chosen) < len(files)
    result.goes_on = result.goes_on and not left_out
    for file in result.files:
        for line, blocks in file.chains.items():
            if blocks in tokens:
                file._sorts[line] = _MATCH
        _choose(file, question.show)
    return result


def _read_lines(file: ScannedFile, question: PackQuestion, tokens: set[bytes], stream: ScannedStream) -> None:
    """Note the kinds of a file's lines, and those that are asked for."""
    whole = 0
    for number, line in enumerate(file.lines()):
        if not line.endswith(b"\n"):
            # A killed process may leave half a line, and a running one writes it now.
            break
        whole += len(line)
        match = _LINE.match(line)
        kind = match[2] if match else b""
        # A line that is no record is shown, so that the reader finds it.
        is_record = match is not None and _CHAINED.match(line, len(line) - _TAIL_BYTES) is not None
        file._sorts.append(_SORTS.get(kind, _OTHER) if is_record else _ALWAYS)
        if match is None:
            continue
        if not number:
            file.first = int(match[1])
        if kind != b"checkpoint":
            stream.goes_on = kind == b"end" and b'"next":-1' not in line
        stream.count = int(match[1]) + 1
        if kind == b"stream":
            anchor = _ANCHOR.search(line)
            if anchor:
                named = stream.anchors.get(anchor[1].decode(), 0)
                stream.anchors[anchor[1].decode()] = max(named, int(anchor[2]))
        elif kind == b"chain":
            file.chains[number] = b",".join(_CHAIN_ID.findall(line))
        elif kind == b"expired":
            # It explains the missing files, so it must be proven.
            file._sorts[number] = _MATCH
        elif kind not in _SORTS and _is_match(kind, line, int(match[3] or 0), question):
            file._sorts[number] = _MATCH
            blocks = _BLOCKS.search(line) if kind == b"decision" else None
            if blocks:
                tokens.add(blocks[1])
    file.size = whole


def _is_match(kind: bytes, line: bytes, at_ms: int, question: PackQuestion) -> bool:
    if kind in (b"decision", b"change"):
        found = _SESSION.search(line)
        if found:
            return question.asks(found[1].decode(), at_ms)
        if kind == b"decision" and question.kind != "time":
            return False
    # A record of no session concerns all of them: keys, credentials, the brake, lost records.
    return question.since_ms <= at_ms < question.until_ms


def _choose(file: ScannedFile, show: str) -> None:
    """Fill in ``shown``. A segment ends with a checkpoint, which signs all lines before it."""
    start, sorts = 0, file._sorts
    for number, sort in enumerate(sorts):
        if sort == _SIGNED or number == len(sorts) - 1:
            segment = sorts[start : number + 1]
            if show == "all" or (show == "signed" and _MATCH in segment):
                file.shown += b"\1" * len(segment)
            else:
                file.shown += bytes(sort != _OTHER for sort in segment)
            start = number + 1


def _begin(path: Path) -> tuple[int, object]:
    """Return time and process in the begin of a file; 0 and "" if it has none."""
    with path.open("rb") as file:
        record = layout.parse(file.readline(65_536)) or {}
    at_ms = record.get("at_ms")
    return (at_ms if isinstance(at_ms, int) else 0), record.get("process", "")


def _latest(head: StreamHead | None) -> int:
    """Return the time of the last line of a stream; a time far ahead if it has none."""
    match = _LINE.match(head.line) if head is not None else None
    return int(match[3]) if match and match[3] else 1 << 62
