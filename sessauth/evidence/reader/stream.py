"""Follows one audit stream through the members of a pack: its chain, its numbers, its signatures.

A member has a line for each line of an audit file: the line itself, or the 64 hex digits of its chain. Such a
closed line takes the place of a line that the pack does not show.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from . import archive
from .archive import PackMember
from .crypto import CHAIN_LABEL, CHECKPOINT_LABEL, verify
from .findings import EvidenceFault, EvidenceFinding, damaged
from .manifest import PackQuestion

# The most that records of one stream may be out of order, in time.
SLACK_MS: Final = 10_000
_TAIL: Final = 76
_CLOSED: Final = re.compile(rb"[0-9a-f]{64}", re.ASCII)
MAX_FINDINGS: Final = 100
# The line after a begin signs it: they are written at once.
_SECOND: Final = 2
_NO_SIGNATURE: Final = "no signature stands behind the begin of the file"
# Kinds of records that each pack shows in its files.
ALWAYS_SHOWN: Final = frozenset({"begin", "end", "checkpoint", "stream", "expired"})
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A line of a member, counted from 1, and the number of its record."""

    member: str
    line: int
    n: int


@dataclass(frozen=True, slots=True)
class MissingFiles:
    """The files of a stream before ``file`` are missing; ``previous`` is the chain before it, in hex."""

    place: RecordPlace
    file: int
    previous: str


@dataclass(slots=True)
class StreamReading:
    """The extent of a stream in a pack, and the proof of its lines.

    ``first`` is the number of its first line, ``n`` that of the line after the last one.
    ``proven`` lines are shown and linked to a signature of the log; ``vouched`` ones are shown, and only the
    pack's signature covers them. The log has no signature of the ``unsigned`` lines, its last ones.
    """

    stream: str
    process: str = ""
    host: str = ""
    first: int = 0
    n: int = 0
    shown: int = 0
    closed: int = 0
    proven: int = 0
    vouched: int = 0
    unsigned: int = 0
    latest_ms: int = 0
    # The time of the last signature.
    signed_ms: int = 0
    ended: bool = False
    # The signed end of the last file names a later one, which was left out: it is of another time.
    goes_on: bool = False
    members: list[PackMember] = field(default_factory=list)
    missing: MissingFiles | None = None
    # Signed records of files that retention removed.
    expired: list[Record] = field(default_factory=list)


class StreamReader:
    """Reads the members of one stream in order."""

    def __init__(
        self,
        stream: str,
        keys: Mapping[bytes, bytes],
        question: PackQuestion,
        take: Callable[[RecordPlace, str, Record], None],
        heads: set[bytes] | None = None,
    ) -> None:
        """Take the keys of its host by id; ``take`` gets each shown record.

        A chain of ``heads`` that a line has is removed from there.
        """
        self._heads = heads if heads is not None else set()
        self.reading = StreamReading(stream)
        self.findings: list[EvidenceFinding] = []
        self._stream = bytes.fromhex(stream)
        self._keys = keys
        self._question = question
        self._take = take
        self._head = bytes(32)
        self._file = -1
        self._next: int | None = None
        self._end: int | None = None
        # Shown lines since the last signature or closed line, and the first of them that is of the question.
        self._pending = 0
        self._match: RecordPlace | None = None
        self._expired: list[Record] = []

    def read(self, file: BinaryIO, member: PackMember, number: int) -> str:
        """Read one file of the stream; return the member's SHA-256. Raises UnreadablePack."""
        self._begin_file(member, number)
        hashed = hashlib.sha256()
        # A process that dies while it begins a file leaves an empty one.
        for count, raw in enumerate(archive.lines(file, member, hashed), start=1):
            place = RecordPlace(member.name, count, self.reading.n)
            if self._next is not None:
                self._find(EvidenceFault.FOREIGN, place, "the line stands behind the signed end of its file")
            if raw[:1] == b"{":
                self._shown(place, raw, number)
            elif _CLOSED.fullmatch(raw):
                self._closed(place, raw)
            else:
                self._find(EvidenceFault.FOREIGN, place, "the line is neither a record nor a chain")
        return hashed.hexdigest()

    def close(self) -> StreamReading:
        """Check the end of the stream. Raises UnreadablePack if it has too many findings."""
        reading = self.reading
        reading.ended = self._next == -1
        reading.unsigned = self._pending
        reading.vouched += self._pending
        followed = self._next is not None and self._next >= 0
        reading.goes_on = followed and reading.latest_ms >= self._question.until_ms + SLACK_MS
        if followed and not reading.goes_on:
            words = f"the stream goes on in file {self._next}, which is not in the pack"
            self._find(EvidenceFault.MISSING_FILE, self._last(), words)
        return reading

    def _begin_file(self, member: PackMember, number: int) -> None:
        if self._file >= 0 and number != self._file + 1:
            words = f"file {self._file + 1} of the stream is not in the pack"
            self._find(EvidenceFault.MISSING_FILE, RecordPlace(member.name, 0, self.reading.n), words)
        if self._next is not None and self._next != number:
            words = f"the signed end of the file before names {self._next} as the next"
            self._find(EvidenceFault.FOREIGN, RecordPlace(member.name, 0, self.reading.n), words)
        self._file = number
        self._next = self._end = None
        self.reading.members.append(member)

    def _shown(self, place: RecordPlace, raw: bytes, file: int) -> None:
        record = record_of(raw)
        if record is None:
            self._find(EvidenceFault.FOREIGN, place, "the line is no record of an audit log")
            self._closed(place, raw[-66:-2])
            return
        n, kind = record["n"], record["kind"]
        first = not self.reading.shown and not self.reading.closed
        if place.line == 1:
            self._begin(place, record, file, first)
        elif kind == "begin":
            self._find(EvidenceFault.FOREIGN, place, "a begin inside of a file")
        if place.line == _SECOND and kind != "checkpoint":
            self._find(EvidenceFault.FOREIGN, place, _NO_SIGNATURE)
        if n != self.reading.n:
            words = f"n {self.reading.n} should stand here, not {n}"
            self._find(EvidenceFault.REMOVED, place, words)
        before = self._head
        chain = hashlib.blake2b(CHAIN_LABEL + before + raw[:-_TAIL], digest_size=32).digest()
        stated = bytes.fromhex(raw[-66:-2].decode("ascii"))
        if chain != stated:
            words = "the line, or the one before it, is not what was written"
            self._find(EvidenceFault.CHANGED, RecordPlace(place.member, place.line, n), words)
        self._head = stated
        if self._heads:
            self._heads.discard(stated)
        self.reading.n = n + 1
        self.reading.shown += 1
        self._pending += 1
        at_ms = record.get("at_ms")
        if type(at_ms) is int:
            self.reading.latest_ms = max(self.reading.latest_ms, at_ms)
        if kind == "checkpoint":
            self._checkpoint(place, record, n, before)
        else:
            if kind == "expired":
                self._expired.append(record)
            if kind == "end":
                following = record.get("next")
                self._end = following if type(following) is int else -1
            else:
                self._end = None
            if self._match is None and is_match(self._question, kind, record):
                self._match = place
        self._take(RecordPlace(place.member, place.line, n), kind, record)

    def _closed(self, place: RecordPlace, raw: bytes) -> None:
        if place.line <= _SECOND:
            words = "the begin of the file is not shown" if place.line == 1 else _NO_SIGNATURE
            self._find(EvidenceFault.FOREIGN, place, words)
        if self._question.show == "all":
            self._find(EvidenceFault.HIDDEN, place, "a line is closed in a pack that shows all lines")
        self._break(place)
        self._head = bytes.fromhex(raw.decode("ascii")) if _CLOSED.fullmatch(raw) else bytes(32)
        if self._heads:
            self._heads.discard(self._head)
        self._end = None
        self.reading.n += 1
        self.reading.closed += 1

    def _break(self, place: RecordPlace) -> None:
        """Note that shown lines are not linked to the next signature."""
        if self._match is not None and self._question.show != "matching":
            words = f"no signature of the log covers this line: line {place.line} behind it is closed"
            self._find(EvidenceFault.UNLINKED, self._match, words)
        self.reading.vouched += self._pending
        self._pending, self._match = 0, None
        self._expired.clear()

    def _begin(self, place: RecordPlace, record: Record, file: int, first: bool) -> None:
        """Check the first record of a file, and go on from its number if it is the first of the pack."""
        words = ""
        if record["kind"] != "begin" or record.get("format") != 1:
            words = "the file has no begin of format 1"
        elif record.get("stream") != self.reading.stream or record.get("file") != file:
            words = "the file says that it is another one"
        elif not first and record.get("previous") != self._head.hex():
            words = "the file does not follow from the one before it"
        if words:
            self._find(EvidenceFault.FOREIGN, place, words)
        if not first:
            return
        self.reading.process, self.reading.host = str(record.get("process", "")), str(record.get("host", ""))
        try:
            self._head = bytes.fromhex(record["previous"])[:32].ljust(32, b"\0")
        except (KeyError, ValueError, TypeError):
            self._find(EvidenceFault.FOREIGN, place, "the begin names no chain before it")
        self.reading.first = self.reading.n = max(record["n"], 0)
        at_ms = record.get("at_ms")
        late = type(at_ms) is not int or at_ms > self._question.since_ms - SLACK_MS
        if file and late:
            self.reading.missing = MissingFiles(place, file, str(record.get("previous")))
        if not file and (self.reading.n or self._head != bytes(32)):
            self._find(EvidenceFault.REMOVED, place, "the stream does not begin with n 0")

    def _checkpoint(self, place: RecordPlace, record: Record, n: int, before: bytes) -> None:
        words = self._checkpoint_fault(record, n, before)
        if words:
            words = f"the checkpoint does not stand: {words}"
            self._find(EvidenceFault.BAD_CHECKPOINT, place, words)
            self.reading.vouched += self._pending
        else:
            self.reading.proven += self._pending
            self.reading.expired += self._expired
            self.reading.signed_ms = record["at_ms"]
            self._next, self._end = self._end, None
        self._pending, self._match = 0, None
        self._expired.clear()

    def _checkpoint_fault(self, record: Record, n: int, before: bytes) -> str:
        try:
            key_id, signature = bytes.fromhex(record["key"]), bytes.fromhex(record["signature"])
            numbers = n.to_bytes(8, "big") + before + record["at_ms"].to_bytes(8, "big")
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
            return "it has not the fields of a checkpoint"
        if record.get("count") != n or record.get("head") != before.hex():
            return "it was made for other lines than those before it"
        key = self._keys.get(key_id)
        if key is None:
            return f"it names the key {key_id.hex()}, which is none of its host's that are trusted"
        if not verify(key, CHECKPOINT_LABEL + self._stream + numbers, signature):
            return "its signature is wrong"
        return ""

    def _last(self) -> RecordPlace:
        member = self.reading.members[-1].name if self.reading.members else ""
        return RecordPlace(member, 0, self.reading.n - 1)

    def _find(self, kind: EvidenceFault, place: RecordPlace, words: str) -> None:
        self.findings.append(EvidenceFinding(kind, place.member, place.line, place.n, words))
        if len(self.findings) > MAX_FINDINGS:
            raise damaged(f"more than {MAX_FINDINGS} findings in one stream", member=place.member)


def is_match(question: PackQuestion, kind: str, record: Record) -> bool:
    """Return True if a record is of the question: a decision, a change, or one that concerns all sessions."""
    at_ms = record.get("at_ms")
    if type(at_ms) is not int or kind == "chain" or kind in ALWAYS_SHOWN:
        return False
    if kind in ("decision", "change"):
        named = [str(record[name]) for name in ("session", "claimed") if record.get(name)]
        if named or kind == "decision":
            return any(question.asks(session, at_ms) for session in named or [""])
    return question.since_ms <= at_ms < question.until_ms


def record_of(raw: bytes) -> Record | None:
    """Return the record in a line; None if it is not in the form of the log."""
    if raw[-_TAIL:-66] != b',"chain":"' or not _CLOSED.fullmatch(raw[-66:-2]) or raw[-2:] != b'"}':
        return None
    try:
        record = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    n, kind = record.get("n"), record.get("kind")
    if type(n) is not int or type(kind) is not str or not 0 <= n < 1 << 63:
        return None
    return record if raw.startswith(b'{"n":%d,"kind":"%b"' % (n, kind.encode("utf-8", "replace"))) else None


class RemovedFiles:
    """The removals that the streams of a pack record, each for its own host.

    ``used`` counts the streams of the time of the question that lack files by them.
    """

    def __init__(self, readings: Sequence[StreamReading], question: PackQuestion) -> None:
        """Take streams that were read."""
        self._readings = readings
        self._since_ms = question.since_ms
        # By host and stream, each by the number of the file.
        self._records: dict[tuple[str, str], dict[int, Record]] = {}
        self._used: set[tuple[str, str]] = set()
        for reading in readings:
            for record in reading.expired:
                stream, file = record.get("stream"), record.get("file")
                if isinstance(stream, str) and type(file) is int:
                    place = host_of(reading.members[0].name), stream
                    self._records.setdefault(place, {})[file] = record

    def missing(self) -> Iterator[EvidenceFinding]:
        """Yield a finding for each stream whose first files are missing without such a record.

        Retention removes a stream from its beginning, and the file that is there must follow from the last
        one that was removed.
        """
        for reading in self._readings:
            gap = reading.missing
            if gap is None:
                continue
            of = host_of(gap.place.member), reading.stream
            record = self._records.get(of, {}).get(gap.file - 1)
            if record is not None and record.get("head") == gap.previous:
                self._use(of, record)
                continue
            words = f"files before file {gap.file}, which may have records of the question, are missing"
            place = gap.place
            yield EvidenceFinding(EvidenceFault.MISSING_FILE, place.member, place.line, place.n, words)

    def covers(self, stream: str, count: int, named_in: str) -> bool:
        """Return True if a whole stream of at least ``count`` lines was removed by retention.

        ``named_in`` is a member of its host.
        """
        of = host_of(named_in), stream
        for record in self._records.get(of, {}).values():
            lines = record.get("count")
            if record.get("last") is True and type(lines) is int and lines >= count:
                self._use(of, record)
                return True
        return False

    @property
    def used(self) -> int:
        """The number of streams without files that may have records of the question.

        Of a stream that is gone as a whole, nothing but the record of its removal may be left.
        """
        for of, records in self._records.items():
            for record in records.values():
                if record.get("last") is True:
                    self._use(of, record)
        return len(self._used)

    def _use(self, of: tuple[str, str], record: Record) -> None:
        ended_ms = record.get("ended_ms")
        if type(ended_ms) is not int or ended_ms > self._since_ms - SLACK_MS:
            self._used.add(of)


def host_of(member: str) -> str:
    """Return the number of the host in the name of a log's member."""
    return member.split("/")[1]
