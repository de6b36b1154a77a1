"""Files that retention removed, by the signed records of their removal (docs/audit.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .findings import EvidenceFault, EvidenceFinding
from .manifest import PackQuestion
from .stream import SLACK_MS, Record, StreamReading


class RemovedFiles:
    """The removals that the streams of a pack record; ``used`` counts those of the time of the question."""

    def __init__(self, readings: Sequence[StreamReading], question: PackQuestion) -> None:
        """Take streams that were read."""
        self._since_ms = question.since_ms
        self._records: dict[tuple[str, int], Record] = {}
        for record in (record for reading in readings for record in reading.expired):
            stream, file = record.get("stream"), record.get("file")
            if isinstance(stream, str) and type(file) is int:
                self._records[stream, file] = record
        self.used = 0

    def missing(self, readings: Sequence[StreamReading]) -> Iterator[EvidenceFinding]:
        """Yield a finding for each stream whose first files are missing without such a record.

        Retention removes a stream from its beginning, and the file that is there must follow from the last
        one that was removed.
        """
        for reading in readings:
            gap = reading.missing
            if gap is None:
                continue
            record = self._records.get((reading.stream, gap.file - 1))
            if record is not None and record.get("head") == gap.previous:
                self._use(record)
                continue
            words = f"files before file {gap.file}, which may have records of the question, are missing"
            place = gap.place
            yield EvidenceFinding(EvidenceFault.MISSING_FILE, place.member, place.line, place.n, words)

    def covers(self, stream: str, count: int) -> bool:
        """Return True if a whole stream of at least ``count`` lines was removed by retention."""
        for (name, _), record in self._records.items():
            lines = record.get("count")
            if name == stream and record.get("last") is True and type(lines) is int and lines >= count:
                self._use(record)
                return True
        return False

    def _use(self, record: Record) -> None:
        ended_ms = record.get("ended_ms")
        if type(ended_ms) is not int or ended_ms > self._since_ms - SLACK_MS:
            self.used += 1
