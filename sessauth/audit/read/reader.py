"""Reads the records of an audit folder, stream by stream, as they were written.

Verifies nothing (:func:`sessauth.audit.verify.verify.verify` does). A line that is no record, such as half a
line of a killed process, is skipped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import StateUnusable
from .. import layout

_BEGAN = re.compile(rb'"kind":"begin","at_ms":([0-9]{1,16})')


@dataclass(frozen=True, slots=True)
class Entry:
    """One record and its place: the file's path and the line, counted from 1.

    ``host`` is the name of its host, empty where one folder is read.
    """

    stream: bytes
    path: Path
    line: int
    record: dict[str, Any]
    host: str = ""

    @property
    def kind(self) -> str:
        """The kind of record, such as "decision"; "" if it has none."""
        kind = self.record.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def at_ms(self) -> int:
        """The time of the record, in ms since 1970; 0 if it has none."""
        at_ms = self.record.get("at_ms")
        return at_ms if isinstance(at_ms, int) else 0


class FolderReader:
    """Reads a folder; ``passed_over`` counts skipped lines so far."""

    def __init__(self, folder: Path, host: str = "") -> None:
        """Take an audit folder, of ``host`` if there are several; processes may be writing there."""
        self._folder = folder
        self._host = host
        self.passed_over = 0

    def streams(self) -> dict[bytes, list[Path]]:
        """Return the files of each stream in order; streams in the order of their begin.

        Raises StateUnusable MISSING if the folder can't be read.
        """
        try:
            found = layout.files(self._folder)
            began = {stream: _began(min(files.items())[1]) for stream, files in found.items()}
        except OSError as error:
            raise StateUnusable(layout.unreadable(error, self._folder), "MISSING") from None
        order = sorted(found, key=lambda stream: (began[stream], stream))
        return {stream: [found[stream][number] for number in sorted(found[stream])] for stream in order}

    def entries(self, *needles: bytes, stream: bytes | None = None) -> Iterator[Entry]:
        """Yield the records of all streams, or of one, in the order of writing.

        Only lines that hold all ``needles`` are parsed. Raises StateUnusable if the folder or a file can't be
        read.
        """
        for stream_id, paths in self.streams().items():
            if stream is None or stream_id == stream:
                for path in paths:
                    yield from self._of_file(stream_id, path, needles)

    def _of_file(self, stream: bytes, path: Path, needles: Sequence[bytes]) -> Iterator[Entry]:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not all(needle in line for needle in needles):
                        continue
                    record = layout.parse(line)
                    # Without its line feed a line may be half of a longer one.
                    if record is None or not line.endswith(b"\n"):
                        self.passed_over += 1
                        continue
                    yield Entry(stream, path, number, record, self._host)
        except OSError as error:
            raise StateUnusable(f"can't read {path}: {error.strerror}", "WRONG_MODE") from None


def _began(path: Path) -> int:
    with path.open("rb") as file:
        found = _BEGAN.search(file.readline(4096))
    return int(found[1]) if found else 0
