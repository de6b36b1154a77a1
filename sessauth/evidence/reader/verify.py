"""Verifies a pack: container, manifest, streams, receipts, reports, and each against the others.

Order of events:

1. The index of the container, then the manifest and its signature.
2. The keys in the pack. If the auditor gave trusted keys, only those count.
3. Each stream of the log, line by line: chains, checkpoints, counts, and removals by retention.
4. Receipts and reports, the manifest's counts, and allowed calls later than the end of their session.
5. The extent of the log, and the digest of each member.
6. With a copy of the log, the pack is compared with it: its closed lines, and lines that it leaves out.

A fault is a finding with its member, and the reading goes on, so that one report has all of them. A pack that
can't be read at all is a finding too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Final

from . import archive, crypto, manifest, receipts
from .archive import PackMember
from .crypto import CHAIN_LABEL, TrustedKeys
from .facts import BOUND_MS, CLOCK_MS, Facts, RecordCounts, RecordedEnd, StreamExtent, opens_unnamed
from .findings import EvidenceFault, EvidenceFinding, UnreadablePack, damaged
from .manifest import MANIFEST, MAX_SESSIONS, PackManifest, PackQuestion
from .receipts import ReceiptReading
from .stream import (
    ALWAYS_SHOWN,
    Record,
    RemovedFiles,
    StreamReader,
    StreamReading,
    host_of,
    is_match,
    record_of,
)

_NAME: Final = re.compile(r"[0-9a-f]{32}-[0-9]{6}\.jsonl", re.ASCII)
_TAIL: Final = 76


def compare_originals(
    file: BinaryIO, members: Sequence[PackMember], question: PackQuestion, folders: Sequence[Path]
) -> Iterator[EvidenceFinding]:
    """Yield a finding for each difference between the pack and the audit folders, and below them.

    The folders may have more than the pack: other times, and later lines. Raises OSError if one can't be
    read.
    """
    found = {
        path.name: path
        for folder in folders
        for path in folder.rglob("*.jsonl")
        if _NAME.fullmatch(path.name)
    }
    in_pack = {member.name.rpartition("/")[2]: member for member in members if member.name.startswith("log/")}
    chains = _TokenChains()
    for name, member in in_pack.items():
        path = found.pop(name, None)
        if path is None:
            words = "the audit folders that were given do not have this file"
            yield EvidenceFinding(EvidenceFault.MISSING_FILE, member.name, 0, -1, words)
        else:
            yield from _compare_file(file, member, question, path, chains)
    yield from chains.hidden()
    for path in found.values():
        with path.open("rb") as original:
            for number, line in enumerate(original, start=1):
                record = record_of(line[:-1])
                if record is not None and _is_due(question, record):
                    words = f"a record of the question is in a file that is not in the pack: {path}"
                    yield EvidenceFinding(EvidenceFault.HIDDEN, "", number, record["n"], words)
                    break


class _TokenChains:
    """Records of tokens' blocks that a pack does not show, and the tokens of the question's calls."""

    def __init__(self) -> None:
        self._closed: dict[tuple[str, str], EvidenceFinding] = {}
        self._used: set[tuple[str, str]] = set()

    def take(self, member: str, number: int, record: Record, *, shown: bool, due: bool) -> None:
        """Take a record of the log."""
        stream = member.rpartition("-")[0]
        blocks = record.get("blocks")
        if not isinstance(blocks, list) or not blocks:
            return
        if record["kind"] == "chain" and not shown:
            ids = [str(block.get("id")) for block in blocks if isinstance(block, dict)]
            words = "the pack does not show the blocks of a token that calls of the question were made with"
            place = EvidenceFinding(EvidenceFault.HIDDEN, member, number, record["n"], words)
            self._closed[stream, ",".join(ids)] = place
        elif record["kind"] == "decision" and due:
            self._used.add((stream, ",".join(map(str, blocks))))

    def hidden(self) -> Iterator[EvidenceFinding]:
        """Yield a finding for each such record of a token of the question."""
        yield from (finding for of, finding in self._closed.items() if of in self._used)


def _compare_file(
    file: BinaryIO, member: PackMember, question: PackQuestion, path: Path, chains: _TokenChains
) -> Iterator[EvidenceFinding]:
    with path.open("rb") as original:
        before = b""
        pairs = zip_longest(archive.lines(file, member, sha256()), original)
        for number, (packed, line) in enumerate(pairs, start=1):
            raw = b"" if line is None else line.removesuffix(b"\n")
            record = record_of(raw)
            due = record is not None and _is_due(question, record)
            if packed is None:
                # Lines that were written later are of a later time.
                if record is not None and due:
                    words = f"{path} goes on with a record of the question: this was cut, or made too early"
                    yield EvidenceFinding(EvidenceFault.HIDDEN, member.name, number, record["n"], words)
                    return
                continue
            shown = packed[:1] == b"{"
            n = -1 if record is None else record["n"]
            if record is None or packed != (raw if shown else _chain(raw, before)):
                words = (
                    f"the line is another one in {path}"
                    if line is not None
                    else f"{path} ends before this line"
                )
                yield EvidenceFinding(EvidenceFault.CHANGED, member.name, number, n, words)
                return
            if not shown and (due or record["kind"] in ALWAYS_SHOWN):
                words = "the pack does not show this record, which is of the question"
                yield EvidenceFinding(EvidenceFault.HIDDEN, member.name, number, n, words)
            chains.take(member.name, number, record, shown=shown, due=due)
            before = raw[-66:-2]


def _is_due(question: PackQuestion, record: Record) -> bool:
    kind = record["kind"]
    return is_match(question, kind, record) or opens_unnamed(question, kind, record)


def _chain(raw: bytes, before: bytes) -> bytes:
    """Return the chain of a line, computed from the chain of the line before it; both in hex."""
    head = CHAIN_LABEL + bytes.fromhex(before.decode("ascii"))
    return blake2b(head + raw[:-_TAIL], digest_size=32).hexdigest().encode()


# The findings of all streams; a pack with more is no pack of a log.
MAX_FINDINGS: Final = 10_000


class StreamsReader:
    """Reads the members of streams in the order of the pack: ``log/<host>/<stream>-<file>.jsonl``."""

    def __init__(
        self,
        file: BinaryIO,
        stated: PackManifest,
        keys: Sequence[Mapping[bytes, bytes]],
        heads: Sequence[bytes],
        findings: list[EvidenceFinding],
    ) -> None:
        """Take the keys of each host's log, by id, and chains that some line must have.

        Faults are appended to ``findings``.
        """
        self._heads = set(heads)
        self._file = file
        self._manifest = stated
        self._keys = keys
        self._facts = Facts(stated.question, MAX_SESSIONS)
        self._current: tuple[str, StreamReader] | None = None
        self._anchors: dict[str, list[StreamExtent]] = {}
        self._hosts: dict[str, int] = {}
        self.readings: list[StreamReading] = []
        self.left_out = 0
        self.expired = 0
        self.findings = findings

    def read(self, member: PackMember) -> str:
        """Read one member; return its SHA-256. Raises UnreadablePack."""
        _, host, name = member.name.split("/")
        stream, number = name.removesuffix(".jsonl").split("-")
        if self._current is None or self._current[0] != stream:
            self._end_stream()
            keys = self._keys[int(host)] if int(host) < len(self._keys) else {}
            if stream in self._hosts:
                words = "the files of the stream do not stand together"
                self.findings.append(EvidenceFinding(EvidenceFault.OTHER_MEMBER, member.name, 0, -1, words))
            self._hosts[stream] = int(host)
            self._current = (
                stream,
                StreamReader(stream, keys, self._manifest.question, self._facts.take, self._heads),
            )
        try:
            return self._current[1].read(self._file, member, int(number))
        except UnreadablePack:
            self.findings += self._current[1].findings
            raise

    def close(self) -> Facts:
        """Compare streams with each other and with the manifest; return the facts."""
        self._end_stream()
        for head in sorted(self._heads):
            words = f"no line has the chain {head.hex()}: what it ended was cut off"
            self.findings.append(EvidenceFinding(EvidenceFault.TRUNCATED, "", 0, -1, words))
        self.findings += self._facts.findings
        if not any(reading.shown for reading in self.readings):
            words = "no line of a log is in the pack: nothing of the question is proven"
            self._find(EvidenceFault.MISSING_STREAM, words)
        by_name = {reading.stream: reading for reading in self.readings}
        by_host: dict[int, set[str]] = {number: set() for number in range(len(self._manifest.hosts))}
        for stream, number in self._hosts.items():
            by_host.setdefault(number, set()).add(stream)
        left_out: set[str] = set()
        for number, here in sorted(by_host.items()):
            host = self._manifest.hosts[number] if number < len(self._manifest.hosts) else {}
            stated = {str(each.get("stream")): each for each in _dicts(host.get("streams"))}
            left_out |= {str(each.get("stream")) for each in _dicts(host.get("left_out"))}
            for stream in sorted(stated.keys() - here):
                words = f"stream {stream} is in the manifest, and not in the pack"
                self._find(EvidenceFault.MISSING_STREAM, words)
            for stream in sorted(here):
                reading = by_name[stream]
                counted = {
                    "first": reading.first,
                    "lines": reading.n - reading.first,
                    "closed": reading.closed,
                }
                entry = stated.get(stream, {})
                if {name: entry.get(name) for name in counted} != counted:
                    self._find(EvidenceFault.MISCOUNTED, f"stream {stream} has {counted} in the pack")
        self.left_out = len(left_out)
        removed = RemovedFiles(self.readings, self._manifest.question)
        self.findings += removed.missing()
        for anchor in self._facts.anchors:
            self._anchors.setdefault(anchor.stream, []).append(anchor)
        for stream, anchors in self._anchors.items():
            reading_of = by_name.get(stream)
            if reading_of is not None:
                self._compare(reading_of, anchors)
                continue
            most = max(anchors, key=lambda anchor: anchor.count)
            grown = self._grown(anchors) if stream in left_out else None
            if grown is not None:
                words = (
                    f"stream {stream} was left out as one of another time, and grew within it, as named here"
                )
                place = grown.place
                missing = EvidenceFinding(
                    EvidenceFault.MISSING_STREAM, place.member, place.line, place.n, words
                )
                self.findings.append(missing)
            if stream not in left_out and not removed.covers(stream, most.count, most.place.member):
                words = f"stream {stream}, named here with {most.count} lines, is not in the pack"
                self.findings.append(
                    EvidenceFinding(
                        EvidenceFault.MISSING_STREAM, most.place.member, most.place.line, most.place.n, words
                    )
                )
        self.expired = removed.used
        return self._facts

    def _grown(self, anchors: Sequence[StreamExtent]) -> StreamExtent | None:
        """Return a record by which a stream had more lines than before, both within the question's time."""
        question = self._manifest.question
        within = [each for each in anchors if question.since_ms <= each.at_ms < question.until_ms]
        within.sort(key=lambda each: each.at_ms)
        return next((each for each in within if each.count > within[0].count), None)

    def _end_stream(self) -> None:
        if self._current is None:
            return
        reader = self._current[1]
        self.readings.append(reader.close())
        self.findings += reader.findings
        self._current = None
        if len(self.findings) > MAX_FINDINGS:
            raise damaged(f"more than {MAX_FINDINGS} findings: it is not read further", EvidenceFault.FOREIGN)

    def _compare(self, reading: StreamReading, anchors: Sequence[StreamExtent]) -> None:
        """Compare the chains of a stream's lines with those that are recorded elsewhere."""
        wanted: dict[int, list[StreamExtent]] = {}
        for anchor in anchors:
            wanted.setdefault(anchor.count - 1, []).append(anchor)
        n = reading.first
        for member in reading.members:
            for raw in archive.lines(self._file, member, hashlib.sha256()):
                for anchor in wanted.pop(n, ()):
                    stated = (raw[-66:-2] if raw[:1] == b"{" else raw).decode("ascii", "replace")
                    if stated != anchor.head:
                        self._contradicts(EvidenceFault.CHANGED, anchor, "names another line")
                n += 1
        for number, others in wanted.items():
            # Files after the time of the question are left out; a file is never left out in part.
            if number >= n and not reading.goes_on:
                self._contradicts(
                    EvidenceFault.TRUNCATED, others[0], f"has more lines than {n}, by this record"
                )

    def _contradicts(self, kind: EvidenceFault, anchor: StreamExtent, words: str) -> None:
        place = anchor.place
        text = f"stream {anchor.stream} {words}: n {anchor.count - 1}"
        self.findings.append(EvidenceFinding(kind, place.member, place.line, place.n, text))

    def _find(self, kind: EvidenceFault, words: str) -> None:
        self.findings.append(EvidenceFinding(kind, MANIFEST, 0, -1, words))


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


KEYS: Final = "keys.json"
_FIRST: Final = ("README.txt", "controls.json", KEYS)
_MAX_SMALL_BYTES: Final = 16 << 20
_MAX_KEYS_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class SessionReading:
    """One session of the pack: its counts, and its receipt if it has a good one.

    ``opened_observing``: the log shows that it was opened in observe mode.
    """

    facts: RecordCounts
    receipt: ReceiptReading | None
    opened_observing: bool = False

    @property
    def observe(self) -> bool:
        """True if it was in observe mode, for its life or a part of it."""
        by_receipt = self.receipt is not None and self.receipt.observe
        return by_receipt or self.opened_observing or self.facts.observed > 0


@dataclass(slots=True)
class EvidenceReport:
    """The outcome.

    ``manifest`` is None if there is none; ``trusted`` is False if no key of a log was given; ``compared`` is
    True if the pack was compared with a copy of the log.
    """

    trusted: bool
    manifest: PackManifest | None = None
    findings: list[EvidenceFinding] = field(default_factory=list)
    streams: list[StreamReading] = field(default_factory=list)
    sessions: list[SessionReading] = field(default_factory=list)
    lost: int = 0
    sampled: int = 0
    reports: int = 0
    issuer_trusted: bool = False
    compared: bool = False
    # Streams of another time, and hosts that receipts name and that have no log in the pack.
    left_out: int = 0
    # Streams of the time of the question that retention removed, or their first files.
    expired: int = 0
    missing_hosts: tuple[str, ...] = ()
    # Hosts whose log ends before a session did, and sessions of the question whose opening is not shown.
    short_hosts: tuple[str, ...] = ()
    unopened: int = 0
    # Sessions that the question names, its own one excepted, and whose opening is not shown.
    untitled: int = 0
    # Sessions whose receipts name an allowed call in the time that is later than any record here.
    unrecorded: int = 0

    @property
    def proven(self) -> bool:
        """True if nothing was found."""
        return self.manifest is not None and not self.findings


def verify_pack(
    path: Path,
    trusted: TrustedKeys,
    *,
    heads: Sequence[bytes] = (),
    folders: Sequence[Path] = (),
    bound_ms: int = BOUND_MS,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvidenceReport:
    """Verify a pack by keys from elsewhere.

    ``heads`` are chains, 32 bytes each, that some line must have: anchors from elsewhere. ``folders`` are
    audit folders, or folders of them, to compare the pack with: a copy of the log. A host may allow calls for
    ``bound_ms`` after the end of their session. ``on_progress`` is called after each file with the number of
    files read, and of all files. Raises OSError if a file can't be read.
    """
    report = EvidenceReport(bool(trusted.audit))
    with path.open("rb") as file:
        try:
            members = archive.index(file)
            report.manifest, found = manifest.read(file, members, trusted)
            report.findings += found
            reading = _PackReading(file, members, report.manifest, trusted, report)
            reading.run(heads, bound_ms, on_progress)
            if folders:
                report.findings += compare_originals(file, members, report.manifest.question, folders)
                report.compared = True
        except UnreadablePack as error:
            report.findings.append(error.finding)
    return report


class _PackReading:
    """The reading of one pack whose manifest is known; fills in its report."""

    def __init__(
        self,
        file: BinaryIO,
        members: Sequence[PackMember],
        stated: PackManifest,
        trusted: TrustedKeys,
        report: EvidenceReport,
    ) -> None:
        self._file = file
        self._members = members[:-2]
        self._by_name = {member.name: member for member in self._members}
        self._manifest = stated
        self._trusted = trusted
        self._report = report
        self._digests: dict[str, str] = {}

    def run(
        self, heads: Sequence[bytes], bound_ms: int, on_progress: Callable[[int, int], None] | None
    ) -> None:
        """Read all members, and compare them."""
        names = [member.name for member in self._members]
        if tuple(names[:3]) != _FIRST or len(set(names)) != len(names):
            self._find(
                EvidenceFault.OTHER_MEMBER, "", "members are missing, in another order, or there twice"
            )
        keys, issuer = self._keys()
        streams = StreamsReader(self._file, self._manifest, keys, heads, self._report.findings)
        for number, member in enumerate(self._members):
            if member.name.startswith("log/"):
                self._digests[member.name] = streams.read(member)
                if on_progress is not None:
                    on_progress(number, len(self._members))
        facts = streams.close()
        self._report.streams, self._report.left_out = streams.readings, streams.left_out
        self._report.expired = streams.expired
        self._sessions(facts, issuer, bound_ms)
        self._report.findings += facts.ends.survived(bound_ms)
        self._extent(facts)
        self._compare_members()

    def _find(self, kind: EvidenceFault, member: str, words: str) -> None:
        self._report.findings.append(EvidenceFinding(kind, member, 0, -1, words))

    def _content(self, name: str) -> bytes:
        """Return the content of a small member; empty if there is none."""
        found = self._by_name.get(name)
        if found is None:
            return b""
        limit = _MAX_KEYS_BYTES if name == KEYS else _MAX_SMALL_BYTES
        data = archive.content(self._file, found, limit)
        self._digests[name] = hashlib.sha256(data).hexdigest()
        return data

    def _compare_members(self) -> None:
        """Compare all members with the manifest."""
        stated = {each.name: each for each in self._manifest.members}
        if [each.name for each in self._manifest.members] != [member.name for member in self._members]:
            self._find(EvidenceFault.OTHER_MEMBER, "", "the manifest names other members than there are")
        for member in self._members:
            if member.name not in self._digests:
                self._digest(member)
            known = stated.get(member.name)
            if known is None or (known.size, known.sha256) != (member.size, self._digests[member.name]):
                words = "its bytes are not those that the manifest names"
                self._find(EvidenceFault.OTHER_MEMBER, member.name, words)

    def _digest(self, member: PackMember) -> None:
        data = archive.content(self._file, member, _MAX_SMALL_BYTES)
        self._digests[member.name] = hashlib.sha256(data).hexdigest()

    def _keys(self) -> tuple[list[dict[bytes, bytes]], dict[bytes, bytes]]:
        """Return the keys of each host's log, and those of the service; trusted ones only, if any are."""
        try:
            document = json.loads(self._content(KEYS))
            hosts = [crypto.by_id(map(bytes.fromhex, keys)) for keys in document["audit"]]
            issuer = crypto.of_jwks(document["issuer"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self._find(EvidenceFault.OTHER_MEMBER, KEYS, "it holds no keys")
            return [], {}
        self._report.issuer_trusted = bool(self._trusted.issuer)
        if self._trusted.audit:
            hosts = [_common(keys, self._trusted.audit) for keys in hosts]
        for number, keys in enumerate(hosts):
            if not keys:
                words = f"none of the keys of log {number:03} is among those that were given"
                self._find(EvidenceFault.UNTRUSTED_KEY, KEYS, words)
        if self._trusted.issuer:
            issuer = _common(issuer, self._trusted.issuer)
        return hosts, issuer

    def _sessions(self, facts: Facts, issuer: Mapping[bytes, bytes], bound_ms: int) -> None:
        """Verify receipts and reports, and compare the counts."""
        self._report.lost, self._report.sampled = facts.lost, facts.sampled
        stated: dict[str, Mapping[str, Any]] = {}
        used: set[str] = set()
        for entry in self._manifest.sessions:
            session = str(entry.get("session"))
            if session in stated:
                self._find(EvidenceFault.BAD_MANIFEST, manifest.MANIFEST, f"session {session} stands twice")
            stated[session] = entry
            receipt, report = self._papers(entry, used)
            reading = self._receipt(session, receipt, facts, issuer, bound_ms) if receipt else None
            if report:
                self._check_report(session, report)
            found = facts.sessions.get(session) or RecordCounts(session)
            counts = {name: entry.get(name) for name in found.counts()}
            if counts != found.counts() or any(type(count) is not int for count in counts.values()):
                words = f"the manifest counts {counts} of session {session}, the log has {found.counts()}"
                self._find(EvidenceFault.MISCOUNTED, manifest.MANIFEST, words)
            self._report.sessions.append(SessionReading(found, reading, session in facts.observing))
        due = facts.sessions.keys() | self._manifest.question.sessions
        for session in sorted(due ^ stated.keys()):
            words = f"session {session} is {'not' if session in due else 'of no record and'} in the manifest"
            self._find(EvidenceFault.MISCOUNTED, manifest.MANIFEST, words)
        for member in self._members:
            if member.name.startswith(("receipts/", "reports/")) and member.name not in used:
                self._find(EvidenceFault.OTHER_MEMBER, member.name, "it belongs to no session")

    def _papers(self, entry: Mapping[str, Any], used: set[str]) -> tuple[str, str]:
        """Return the members with a session's receipt and report, "" without one; each is one session's."""
        found = []
        for kind in ("receipt", "report"):
            name = str(entry.get(kind, ""))
            if name and (name in used or not name.startswith(f"{kind}s/")):
                self._find(EvidenceFault.OTHER_MEMBER, name, f"it is another's, or no {kind}")
                name = ""
            used.add(name)
            found.append(name)
        return found[0], found[1]

    def _extent(self, facts: Facts) -> None:
        """Compare the extent of the log with the sessions: their openings, their ends, their hosts."""
        report, question = self._report, self._manifest.question
        named = {name for each in report.sessions if each.receipt for name in each.receipt.hosts}
        report.missing_hosts = tuple(sorted(named - facts.hosts))
        # Anybody can claim a session that never existed.
        known = {
            each.facts.session
            for each in report.sessions
            if each.facts.allowed or each.facts.denied or each.facts.changes
        }
        unopened = {each for each in question.sessions | known if not facts.ends.is_opened(each)}
        report.unopened = len(unopened)
        report.untitled = len(unopened & (question.sessions - {question.root}))
        report.unrecorded = sum(
            each.facts.last_allow_ms < each.receipt.last_allow_ms < question.until_ms
            for each in report.sessions
            if each.receipt
        )
        ends = [facts.ends.first_end_of(each.facts.session) for each in report.sessions]
        last_ms = max((end.at_ms for end in ends if end and end.at_ms < question.until_ms), default=0)
        hosts: dict[str, list[StreamReading]] = {}
        for stream in report.streams:
            hosts.setdefault(host_of(stream.members[0].name), []).append(stream)
        report.short_hosts = tuple(
            max(stream.host for stream in streams) or f"log {number}"
            for number, streams in hosts.items()
            if max(stream.signed_ms for stream in streams) < last_ms
            and not all(stream.ended for stream in streams)
        )

    def _receipt(
        self, session: str, name: str, facts: Facts, issuer: Mapping[bytes, bytes], bound_ms: int
    ) -> ReceiptReading | None:
        """Verify a session's receipt, and compare it with the log."""
        try:
            reading = receipts.judge(self._content(name), issuer)
        except receipts.BadReceipt as error:
            self._find(EvidenceFault.BAD_RECEIPT, name, f"the receipt proves nothing: {error}")
            return None
        end = facts.ends.end_of(session, reading.incarnation)
        stated = RecordedEnd(reading.revision, reading.incarnation, reading.ended_at_ms)
        if reading.session != session:
            self._find(EvidenceFault.BAD_RECEIPT, name, f"it is of another session than {session}")
        elif reading.cluster not in facts.clusters:
            self._find(
                EvidenceFault.BAD_RECEIPT, name, f"it is of the cluster {reading.cluster}, and no log is"
            )
        elif end is None:
            words = self._missing_end(session, stated, facts)
            if words:
                self._find(EvidenceFault.BAD_RECEIPT, name, words)
            facts.ends.end(session, stated)
        elif end != stated:
            words = (
                f"it names the end at revision {stated.revision} and {stated.at_ms} ms, and the log has it"
            )
            words = f"{words} at {end.revision} and {end.at_ms} ms"
            self._find(EvidenceFault.BAD_RECEIPT, name, words)
        late_ms = reading.last_allow_ms - reading.ended_at_ms
        if late_ms > bound_ms + CLOCK_MS:
            words = (
                f"a call was allowed {late_ms} ms after the end, by the receipt itself, later than hosts may"
            )
            self._find(EvidenceFault.SURVIVED, name, f"{words} (--bound)")
        return reading

    def _missing_end(self, session: str, end: RecordedEnd, facts: Facts) -> str:
        """Return why the log should have the end of a receipt, "" if it need not have it."""
        question = self._manifest.question
        if question.asks(session, end.at_ms) and not facts.ends.is_known(end.incarnation):
            return f"its end is of incarnation {end.incarnation}, of which the log has nothing"
        shown = all(question.asks(each, end.at_ms) for each in facts.ends.lineage(session))
        if shown and facts.ends.is_recorded(session, end.incarnation):
            return "the log has the opening of its session and not its end: it was cut, or lost that"
        return ""

    def _check_report(self, session: str, name: str) -> None:
        self._report.reports += 1
        try:
            document = json.loads(self._content(name))
            if document["session"] != session:
                self._find(EvidenceFault.BAD_REPORT, name, f"it is of another session than {session}")
        except (ValueError, KeyError, TypeError, RecursionError):
            self._find(EvidenceFault.BAD_REPORT, name, "it is no report of usage")


def _common(keys: Mapping[bytes, bytes], trusted: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {key_id: key for key_id, key in keys.items() if key_id in trusted}
