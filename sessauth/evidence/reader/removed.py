"""Files that retention removed, by the signed records of their removal (docs/audit.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .findings import EvidenceFault, EvidenceFinding
from .manifest import PackQuestion
from .stream import SLACK_MS, Record, StreamReading


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
