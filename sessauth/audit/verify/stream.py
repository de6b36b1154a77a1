"""Verifies one stream: its files in order, their begins and ends, its checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ...errors import StateUnusable
from .. import layout
from ..layout import checkpoint_fault
from .lines import (
    MAX_FAULTS,
    ExpiredFile,
    FileLines,
    FindingKind,
    LineMark,
    MissingBegin,
    StreamState,
    VerificationFinding,
)

# The time, beside checkpoint_ms, that lines may be without a signature: a disk that hangs delays the writer.
UNSIGNED_SLACK_MS: Final = 60_000
_MAX_CHECKPOINT_MS: Final = 86_400_000
_AT = re.compile(rb'^\{"n":[0-9]+,"kind":"[^"]*","at_ms":([0-9]{1,16})', re.M)


@dataclass(frozen=True, slots=True)
class StreamAnchor:
    """The end of a stream as recorded elsewhere: ``count`` lines, the last with the chain ``head``.

    ``named_in``, ``line`` and ``n`` are the place of the record.
    """

    stream: bytes
    process: str
    file: int
    count: int
    head: str
    at_ms: int
    named_in: str = ""
    line: int = 0
    n: int = -1

    @classmethod
    def read(cls, record: Mapping[str, Any], named_in: str, line: int = 0, n: int = -1) -> Self:
        """Return the anchor in a record. Raises KeyError, TypeError or ValueError for no anchor."""
        return cls(
            bytes.fromhex(record["stream"]),
            str(record["process"]),
            int(record["file"]),
            int(record["count"]),
            str(record["head"]),
            int(record["at_ms"]),
            named_in,
            line,
            n,
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, without the place of the record."""
        names = ("process", "file", "count", "head", "at_ms")
        return {"stream": self.stream.hex(), **{name: getattr(self, name) for name in names}}


class StreamCheck:
    """The verification of one stream. Iterating :meth:`run` fills in the results."""

    def __init__(
        self, stream: bytes, files: Mapping[int, Path], keys: Mapping[bytes, bytes], since_ms: int
    ) -> None:
        """Take files by number, trusted keys by id, and the time after which no file may be missing."""
        self.state = StreamState(stream, files=dict(files))
        self.findings: list[VerificationFinding] = []
        self.anchors: list[StreamAnchor] = []
        self.missing: list[MissingBegin] = []
        self._expired: list[ExpiredFile] = []
        self._keys = keys
        self._since_ms = since_ms
        self._heads: tuple[bytes, ...] = (layout.ZEROS,)
        self._checkpoint_ms = 0
        # The next file by a signed end: -1 for none, None without a signed end.
        self._next: int | None = None
        self._end: int | None = None
        self._ended: int | None = None
        self._path = Path()
        self._data = b""
        self._unsigned_from = 0
        # An offset and the number of the line there: line numbers are needed in order.
        self._counted = 0, 1

    def run(self, *, follow: bool = False) -> Iterator[Path]:
        """Verify the files, and yield each when it is done. Raises StateUnusable.

        ``follow``: also those that were begun after the folder was listed.
        """
        expected, folder = 0, Path()
        for number, path in sorted(self.state.files.items()):
            self._file(number, path, known=number == expected)
            expected, folder = number + 1, path.parent
            yield path
        while follow and self._next == expected:
            path = folder / layout.file_name(self.state.stream, expected)
            if not path.exists():
                break
            self.state.files[expected] = path
            self._file(expected, path, known=True)
            expected += 1
            yield path
        if self._next is not None and self._next >= 0:
            words = f"the stream goes on in file {self._next}, which is missing"
            self._find(FindingKind.MISSING_FILE, 0, self.state.count, words)
        self.state.closed = self._next == -1
        self.state.head = self._heads[0].hex()
        if not self.state.closed:
            self._open_end()

    def _file(self, number: int, path: Path, known: bool) -> None:
        """Verify one file; ``known``: the file before it is there."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # Retention removed it: the whole folder is read again.
            raise
        except OSError as error:
            raise StateUnusable(f"can't read {path}: {error.strerror}", "WRONG_MODE") from None
        before, self._path = self._path, path
        begin = layout.parse(data[: data.find(b"\n") + 1]) or {}
        wrong = self._not_ours(begin, number)
        if wrong:
            self._find(FindingKind.FOREIGN, 1, -1, wrong)
            return
        if not known:
            self._gap(number, begin)
        elif number and self._next is None and before.name:
            self.findings.append(
                VerificationFinding(
                    FindingKind.NOT_ENDED, before.name, 0, self.state.count - 1, "the file has no end"
                )
            )
        self._next = self._end = self._ended = None
        self._data, self._unsigned_from = data, 0
        self._counted = 0, 1
        lines = FileLines(data, self.state.count, self._heads, self.state.latest_ms)
        lines.follow()
        self._report_lines(lines)
        for mark in sorted(lines.marks, key=lambda mark: mark.n):
            self._mark(mark)
        self.state.count, self._heads, self.state.latest_ms = lines.n, lines.heads, lines.latest_ms
        self._ends(lines)

    def _ends(self, lines: FileLines) -> None:
        """Find a missing signature, lines after a signed end, and a half-written last line."""
        if self._ended is not None and lines.n > self._ended:
            words = f"{lines.n - self._ended} lines come after the end of the file, which was signed"
            self._find(FindingKind.INTERLEAVED, self._data.count(b"\n"), self._ended, words)
        second = self._data.find(b"\n") + 1
        if second < lines.whole and not self._unsigned_from and not lines.faults:
            self._find(FindingKind.UNSIGNED, 1, self.state.signed, "the file has no checkpoint")
        if lines.whole < len(self._data):
            words = f"{len(self._data) - lines.whole} bytes of a line that was not finished"
            self._find(FindingKind.TORN, self._line(lines.whole), self.state.count, words)
        elif second == lines.whole:
            self._find(FindingKind.TORN, 1, self.state.count, "the file was not begun whole")

    def _not_ours(self, begin: Mapping[str, Any], number: int) -> str:
        """Return the reason that a file is not of this stream, "" if it is or has no begin."""
        if begin.get("kind") != "begin":
            return ""
        if begin.get("format") != layout.FORMAT:
            return f"the file has format {begin.get('format')!r}, this version reads {layout.FORMAT}"
        if begin.get("stream") != self.state.stream.hex() or begin.get("file") != number:
            return "the file says that it is another one of another name"
        if begin.get("audit_key") not in {key.hex() for key in self._keys}:
            return f"the file is signed by key {begin.get('audit_key')}, which is not trusted"
        return ""

    def _gap(self, number: int, begin: Mapping[str, Any]) -> None:
        """Go on after missing files, by the count and the chain in the file's begin."""
        at_ms = begin.get("at_ms")
        words = f"files before file {number} are missing"
        if self.state.count:
            self._find(FindingKind.MISSING_FILE, 0, self.state.count, words)
        elif not isinstance(at_ms, int) or at_ms > self._since_ms:
            finding = VerificationFinding(FindingKind.MISSING_FILE, self._path.name, 0, 0, words)
            chain = str(begin.get("previous"))
            self.missing.append(MissingBegin(finding, self.state.stream, number, chain))
        n, previous = begin.get("n"), begin.get("previous")
        if isinstance(n, int) and isinstance(previous, str):
            try:
                self.state.count, self._heads = max(n, 0), (bytes.fromhex(previous)[:32].ljust(32, b"\0"),)
            except ValueError:
                return

    def _report_lines(self, lines: FileLines) -> None:
        for fault in lines.faults:
            self._find(fault.kind, self._line(fault.at), fault.n, fault.words)
        for n, start in lines.back[:MAX_FAULTS]:
            words = "the clock was set back before this line, or its time was too far ahead until here"
            self._find(FindingKind.CLOCK_BACK, self._line(start), n, words)

    def _mark(self, mark: LineMark) -> None:
        """Verify the record of a marked line."""
        record = layout.parse(self._data[mark.start : mark.end]) or {}
        kind = record.get("kind")
        if kind == "checkpoint":
            self._checkpoint(mark, record)
        elif kind == "begin":
            self._begin(mark, record)
        elif kind == "end":
            following = record.get("next")
            self._end = following if isinstance(following, int) else -1
        elif kind == "stream":
            self._anchor(mark, record)
        elif kind == "expired":
            self._expire(mark, record)
        elif kind == "lost":
            words = f"{record.get('count')} records were never written: {record.get('why')}"
            self._find(FindingKind.LOST, self._line(mark.start), mark.n, words)
        if kind not in ("checkpoint", "end"):
            self._end = None

    def _begin(self, mark: LineMark, record: Mapping[str, Any]) -> None:
        if mark.start:
            self._find(FindingKind.FOREIGN, self._line(mark.start), mark.n, "a begin inside of a file")
            return
        if not self.state.process:
            self.state.process = str(record.get("process", ""))
        at_ms, every_ms = record.get("at_ms"), record.get("checkpoint_ms")
        if isinstance(at_ms, int) and not self.state.began_ms:
            self.state.began_ms = at_ms
        if isinstance(every_ms, int):
            self._checkpoint_ms = min(every_ms, _MAX_CHECKPOINT_MS)

    def _checkpoint(self, mark: LineMark, record: Mapping[str, Any]) -> None:
        before = mark.before
        if before is None:
            # After a gap the checkpoint itself gives the chain before it.
            try:
                before = bytes.fromhex(str(record.get("head")))
            except ValueError:
                before = layout.ZEROS
        words = checkpoint_fault(record, self.state.stream, mark.n, before, self._keys)
        if words:
            words = (
                f"the checkpoint is not valid: {words}; lines from n {self.state.signed} on are not proved"
            )
            self._find(FindingKind.BAD_CHECKPOINT, self._line(mark.start), mark.n, words)
            return
        self.state.signed = mark.n + 1
        self._unsigned_from = mark.end
        self._next, self._end = self._end, None
        self._ended = mark.n + 1 if self._next is not None else None

    def _anchor(self, mark: LineMark, record: Mapping[str, Any]) -> None:
        try:
            self.anchors.append(StreamAnchor.read(record, self._path.name, self._line(mark.start), mark.n))
        except (KeyError, TypeError, ValueError):
            words = "a stream record without its fields"
            self._find(FindingKind.FOREIGN, self._line(mark.start), mark.n, words)

    def _expire(self, mark: LineMark, record: Mapping[str, Any]) -> None:
        try:
            self._expired.append(ExpiredFile.read(record, mark.n))
        except (KeyError, TypeError, ValueError):
            words = "a record of an expired file without its fields"
            self._find(FindingKind.FOREIGN, self._line(mark.start), mark.n, words)

    @property
    def expired(self) -> list[ExpiredFile]:
        """The removals that a checkpoint covers: lines after the last one can be forged."""
        faulty = any(not finding.is_note for finding in self.findings)
        return [] if faulty else [file for file in self._expired if file.n < self.state.signed]

    def _open_end(self) -> None:
        """Report a stream that is not closed, and lines that are unsigned for too long."""
        unsigned = self.state.count - self.state.signed
        words = "the stream is not closed: it runs, its process died, or its end was cut"
        if unsigned > 0:
            words += f"; {unsigned} lines after the last checkpoint are not signed"
        self._find(FindingKind.OPEN, self._line(len(self._data)), self.state.count - 1, words)
        whole = self._data[self._unsigned_from : self._data.rfind(b"\n") + 1]
        times = [int(found[1]) for found in _AT.finditer(whole)]
        span = max(times, default=0) - min(times, default=0)
        if span > self._checkpoint_ms + UNSIGNED_SLACK_MS:
            words = (
                f"no checkpoint for {span} ms by these lines, where {self._checkpoint_ms} ms is the longest"
            )
            self._find(FindingKind.UNSIGNED, self._line(self._unsigned_from), self.state.signed, words)

    def _line(self, at: int) -> int:
        """Return the number of the line at an offset of the file."""
        before, line = self._counted if self._counted[0] <= at else (0, 1)
        self._counted = at, line + self._data.count(b"\n", before, at)
        return self._counted[1]

    def _find(self, kind: FindingKind, line: int, n: int, words: str) -> None:
        self.findings.append(VerificationFinding(kind, self._path.name, line, n, words))
