"""Files that retention removed, by the signed records of their removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .findings import FindingKind, VerificationFinding


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
