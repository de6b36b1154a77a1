"""Reads all streams of a pack, and compares each with what others record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Final

from . import archive
from .archive import PackMember
from .facts import Facts, StreamExtent
from .findings import EvidenceFault, EvidenceFinding, UnreadablePack, damaged
from .manifest import MANIFEST, MAX_SESSIONS, PackManifest
from .removed import RemovedFiles
from .stream import StreamReader, StreamReading

# Of all streams; a pack with more is no pack of a log.
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

        What is found is appended to ``findings``.
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
            # Later files are left out behind the time of the question; a file is never left out in part.
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
