"""Follows the chain through the lines of one audit file, and finds the places where they leave it.

The kernel follows the chain as far as it holds. After a break, a line that fits elsewhere was moved, one
whose followers continue its chain was changed, and a number without a line was removed. All other lines were
inserted.

A finding has a kind, a place and words. A file that retention removed is no finding: its signed removal is
looked up first (:class:`ExpiredFiles`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from ..._fast import _codec as codec
from .. import layout


class FindingKind(StrEnum):
    """Kinds of findings; stable words. docs/audit.md explains each."""

    CHANGED = "CHANGED"
    REMOVED = "REMOVED"
    REORDERED = "REORDERED"
    INTERLEAVED = "INTERLEAVED"
    FOREIGN = "FOREIGN"
    TRUNCATED = "TRUNCATED"
    MISSING_FILE = "MISSING_FILE"
    MISSING_STREAM = "MISSING_STREAM"
    BAD_CHECKPOINT = "BAD_CHECKPOINT"
    UNSIGNED = "UNSIGNED"
    NO_STREAM = "NO_STREAM"
    ROLLED_BACK = "ROLLED_BACK"
    # Notes: an untouched log may have them.
    TORN = "TORN"
    OPEN = "OPEN"
    NOT_ENDED = "NOT_ENDED"
    CLOCK_BACK = "CLOCK_BACK"
    LOST = "LOST"
    EXPIRED = "EXPIRED"


NOTES = frozenset(map(FindingKind, ("TORN", "OPEN", "NOT_ENDED", "CLOCK_BACK", "LOST", "EXPIRED")))


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """One finding.

    ``file`` is a file's name, "" for a whole folder; ``line`` counts from 1, 0 for a whole file; ``n`` is the
    number that the line has or should have, -1 if there is none.
    """

    kind: FindingKind
    file: str
    line: int
    n: int
    words: str

    @property
    def is_note(self) -> bool:
        """True if an untouched log may have it."""
        return self.kind in NOTES


@dataclass(slots=True)
class StreamState:
    """The state of a stream: ``count`` lines, of which a checkpoint covers the first ``signed``.

    ``head`` is the chain of the last line, 64 hex digits. Times in ms since 1970.
    """

    stream: bytes
    process: str = ""
    files: dict[int, Path] = field(default_factory=dict)
    count: int = 0
    signed: int = 0
    head: str = ""
    began_ms: int = 0
    latest_ms: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The report of a verification."""

    streams: tuple[StreamState, ...]
    findings: tuple[VerificationFinding, ...]

    @property
    def faults(self) -> tuple[VerificationFinding, ...]:
        """The findings that an untouched log can't have."""
        return tuple(finding for finding in self.findings if not finding.is_note)

    @property
    def notes(self) -> tuple[VerificationFinding, ...]:
        """The findings that an untouched log may have."""
        return tuple(finding for finding in self.findings if finding.is_note)

    @property
    def intact(self) -> bool:
        """True if there is no finding that an untouched log can't have."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class ExpiredFile:
    """A file that was removed: the lines of its stream up to its end, and the chain of the last of them.

    ``last``: it was the last file of a closed stream. ``n`` is the number of its record.
    """

    stream: bytes
    number: int
    count: int
    head: str
    last: bool
    n: int

    @classmethod
    def read(cls, record: Mapping[str, Any], n: int) -> Self:
        """Return the file that a record names. Raises KeyError, TypeError or ValueError for none."""
        number, count = record["file"], record["count"]
        if type(number) is not int or type(count) is not int:
            raise TypeError("a number")
        return cls(
            bytes.fromhex(record["stream"]), number, count, str(record["head"]), record["last"] is True, n
        )


@dataclass(frozen=True, slots=True)
class MissingBegin:
    """A stream whose first files are missing: the finding, the first file there, the chain before it."""

    finding: VerificationFinding
    stream: bytes
    number: int
    previous: str


class ExpiredFiles:
    """All removals that a folder's streams record under a valid signature."""

    def __init__(self) -> None:
        """Begin without one."""
        self._files: dict[tuple[bytes, int], ExpiredFile] = {}

    def add(self, file: ExpiredFile) -> None:
        """Add a removal."""
        self._files[file.stream, file.number] = file

    def explain(self, missing: MissingBegin) -> VerificationFinding:
        """Return a note if the missing files were removed by retention, else the finding.

        Retention removes a stream from its beginning, so the record of its last removed file covers all. The
        remaining file must follow from it.
        """
        number = missing.number
        before = self._files.get((missing.stream, number - 1))
        if before is None or before.head != missing.previous:
            return missing.finding
        words = f"files before file {number} were removed by retention, as the audit records"
        return VerificationFinding(FindingKind.EXPIRED, missing.finding.file, 0, missing.finding.n, words)

    def covers(self, stream: bytes, count: int) -> bool:
        """Return True if a whole stream of at least ``count`` lines was removed by retention."""
        return any(
            file.last and file.count >= count for file in self._files.values() if file.stream == stream
        )


# Concurrent decisions are recorded in any order; a call that the writer decides is recorded after its
# commit.
CLOCK_SLACK_MS: Final = 10_000
# A file with more faults than this is not worth a longer report.
MAX_FAULTS: Final = 100
# No line of this log is as short. Indexing a file of line feeds alone would take too much memory.
_LEAST_LINE_BYTES: Final = 90
_SHORT_LINES: Final = 10_000


@dataclass(frozen=True, slots=True)
class LineFault:
    """A fault at an offset of the file."""

    kind: FindingKind
    at: int
    n: int
    words: str


@dataclass(frozen=True, slots=True)
class LineMark:
    """A line whose record is verified. ``before`` is the chain of the line before it; None: unknown."""

    n: int
    start: int
    end: int
    before: bytes | None


@dataclass(slots=True)
class _Line:
    """A line by its bytes, and the number that it states; -1 if it is no record."""

    start: int
    end: int
    claim: int


@dataclass(slots=True)
class FileLines:
    """The lines of a file, followed from a number and a chain. ``follow`` fills in the rest.

    ``heads`` are the chains that the line before may have had: two if it was changed itself.
    """

    data: bytes
    n: int
    heads: tuple[bytes, ...]
    latest_ms: int = 0
    marks: list[LineMark] = field(default_factory=list)
    faults: list[LineFault] = field(default_factory=list)
    back: list[tuple[int, int]] = field(default_factory=list)
    whole: int = 0
    _lines: list[_Line] = field(default_factory=list)
    _by_claim: dict[int, list[int]] = field(default_factory=dict)
    # Skipped lines; those of them that were found to be in order later; and the lines that they were skipped
    # for.
    _skipped: set[int] = field(default_factory=set)
    _moved: list[int] = field(default_factory=list)
    _early: set[int] = field(default_factory=set)
    # A search to the end found no line from which the chain goes on.
    _broken: bool = False

    def follow(self) -> None:
        """Follow the chain to the last whole line, which ends at ``whole``."""
        self.whole = self.data.rfind(b"\n") + 1
        if self.data.count(b"\n") > self.whole // _LEAST_LINE_BYTES + _SHORT_LINES:
            self.faults.append(
                LineFault(FindingKind.FOREIGN, 0, -1, "the file is no log: its lines are too short")
            )
            return
        at = 0
        while at < self.whole or self._skipped:
            at = self._walk(at)
            if at < self.whole or self._skipped:
                before = at, self.n, len(self._skipped)
                at = self._skip_damage(at)
                if (at, self.n, len(self._skipped)) == before:
                    break
            if len(self.faults) > MAX_FAULTS:
                self._give_up()
                break
        self._report_order()

    @property
    def head(self) -> bytes:
        """The chain of the last line."""
        return self.heads[0]

    def _walk(self, at: int) -> int:
        """Follow the chain in the kernel as far as it holds; return the offset of the break."""
        for head in self.heads:
            right, stop, last, marks, back, latest = codec.walk(
                self.data, at, self.n, head, self.latest_ms, CLOCK_SLACK_MS
            )
            if right:
                self.marks += [
                    LineMark(
                        n, start, end, head if start == at else _stated(self.data[start - 78 : start - 1])
                    )
                    for n, start, end in marks
                ]
                self.back += [(n, start) for n, start, _ in back]
                self.n, self.heads, self.latest_ms = self.n + right, (last,), latest
                return stop
        return at

    def _skip_damage(self, at: int) -> int:
        """Classify the damage at a break of the chain; return the offset to go on from."""
        self._index()
        here = bisect_left(self._lines, at, key=lambda line: line.start)
        for index in self._by_claim.get(self.n, ()):
            if (index >= here or index in self._skipped) and self._fits(index):
                return self._accept_moved(index, here)
        if here == len(self._lines):
            return at
        resumption = self._resume_at(here)
        if resumption is None:
            return self._end_of_chain(here)
        index, before = resumption
        line = self._lines[index]
        damaged, missing = index - here, line.claim - self.n
        if damaged:
            self._changed(here, damaged)
        if missing > damaged:
            first = self.n + damaged
            words = f"n {_range(first, line.claim - 1)} should come before this line"
            if before is None:
                words += "; so it can't be proved by its chain either"
            self._fault(FindingKind.REMOVED, index, first, words)
        self._accept(index, before)
        return line.end

    def _accept_moved(self, index: int, here: int) -> int:
        """Accept the next line at its wrong place: further on, or among the skipped ones."""
        if index >= here:
            self._skipped.update(range(here, index))
            self._early.add(index)
            self._accept(index, self._before(index))
            return self._lines[index].end
        self._skipped.discard(index)
        self._moved.append(index)
        self._accept(index, self._before(index))
        return self._lines[here].start if here < len(self._lines) else self.whole

    def _end_of_chain(self, here: int) -> int:
        """Handle a break after which no line of a later number follows."""
        line = self._lines[here]
        if line.claim == self.n:
            self._changed(here, 1)
            content = self.data[line.start : line.end - 1]
            stated = _stated(content)
            computed = codec.link(content[: -layout.TAIL_BYTES], self.heads[0])
            self.heads = (computed,) if stated is None else (stated, computed)
            self.n += 1
            return line.end
        self._skipped.add(here)
        return line.end

    def _resume_at(self, here: int) -> tuple[int, bytes | None] | None:
        """Return the line from which the chain goes on after damage, and the chain before it.

        The line before states that chain, or it is computed if that line was changed. It is None if only the
        following line confirms the choice; such a line is the last resort.
        """
        fallback: int | None = None
        for index in range(here, len(self._lines)):
            line = self._lines[index]
            if line.claim <= self.n:
                continue
            if self._broken and fallback is not None and index > here + 1:
                break
            for before in self._candidate_chains(index, here):
                if self._fits(index, before):
                    return index, before
            following = self._lines[index + 1] if index + 1 < len(self._lines) else None
            if following is not None and following.claim == line.claim + 1:
                stated = _stated(self.data[line.start : line.end - 1])
                if stated is not None and self._fits(index + 1, stated):
                    return index, None
            if fallback is None:
                fallback = index
        self._broken = True
        return None if fallback is None else (fallback, None)

    def _candidate_chains(self, index: int, here: int) -> list[bytes]:
        """Return possible chains before a line, by the damaged line before it."""
        if index == here:
            return list(self.heads)
        before = self._lines[index - 1]
        content = self.data[before.start : before.end - 1]
        chains = []
        stated = _stated(content)
        if stated is not None:
            chains.append(stated)
        if index == here + 1:
            chains += [codec.link(content[: -layout.TAIL_BYTES], head) for head in self.heads]
        return chains

    def _before(self, index: int) -> bytes:
        return next(head for head in self.heads if self._fits(index, head))

    def _fits(self, index: int, before: bytes | None = None) -> bool:
        """Return True if a line continues a chain; without one, any of the possible ones."""
        line = self._lines[index]
        content = self.data[line.start : line.end - 1]
        inner = content[: -layout.TAIL_BYTES]
        heads = self.heads if before is None else (before,)
        return any(content.endswith(_tail(codec.link(inner, head))) for head in heads)

    def _accept(self, index: int, before: bytes | None) -> None:
        line = self._lines[index]
        self.marks.append(LineMark(line.claim, line.start, line.end, before))
        self.heads = (_stated(self.data[line.start : line.end - 1]) or layout.ZEROS,)
        self.n = line.claim + 1

    def _index(self) -> None:
        if self._lines:
            return
        start = 0
        while start < self.whole:
            end = self.data.index(b"\n", start) + 1
            found = layout.NUMBERED.match(self.data, start, end)
            claim = int(found[1]) if found else -1
            if found:
                self._by_claim.setdefault(claim, []).append(len(self._lines))
            self._lines.append(_Line(start, end, claim))
            start = end

    def _fault(self, kind: FindingKind, index: int, n: int, words: str) -> None:
        self.faults.append(LineFault(kind, self._lines[index].start, n, words))

    def _changed(self, index: int, count: int) -> None:
        words = "the line is not what was written"
        if count > 1:
            words = f"{count} lines from here on are not what was written"
        self._fault(FindingKind.CHANGED, index, self.n, words)

    def _report_order(self) -> None:
        """Report moved lines, and lines that fit nowhere."""
        for first, last in _runs(self._moved):
            # A line that was moved far back is one fault, not one for each line in between.
            index = last + 1 if last > first and last + 1 in self._early else first
            where = "after lines that were written later" if index > last else "before its place"
            lines = "the line comes" if index > last or first == last else f"{last - first + 1} lines come"
            self._fault(FindingKind.REORDERED, index, self._lines[index].claim, f"{lines} {where}")
        foreign = [index for index in self._skipped if self._lines[index].claim < 0]
        for first, last in _runs(foreign):
            self._fault(FindingKind.FOREIGN, first, -1, f"{last - first + 1} lines are no records")
        for first, last in _runs(self._skipped.difference(foreign)):
            words = f"{last - first + 1} lines are not of this place of this stream"
            self._fault(FindingKind.INTERLEAVED, first, self._lines[first].claim, words)
        self._skipped.clear()
        self.faults.sort(key=lambda fault: fault.at)

    def _give_up(self) -> None:
        """Stop following a file that has too many faults."""
        last = self._lines[-1]
        self._skipped.clear()
        self._fault(
            FindingKind.CHANGED, len(self._lines) - 1, last.claim, "more faults; not followed further"
        )
        self.n = max(last.claim + 1, self.n)
        self.heads = (_stated(self.data[last.start : last.end - 1]) or layout.ZEROS,)


def _stated(content: bytes) -> bytes | None:
    """Return the chain in a line's last bytes, None if there is none; ``content`` has no line feed."""
    try:
        chain = bytes.fromhex(content[-66:-2].decode("ascii"))
    except ValueError:
        return None
    return chain if len(chain) == layout.CHAIN_BYTES and len(content) > layout.TAIL_BYTES else None


def _tail(chain: bytes) -> bytes:
    return b',"chain":"' + chain.hex().encode() + b'"}'


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of whole numbers."""
    runs: list[tuple[int, int]] = []
    for index in sorted(indices):
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
