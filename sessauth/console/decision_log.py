"""The latest decisions of this machine's audit, read as they are written; nothing is verified here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ..audit import layout
from ..audit.read.logged_decision import LoggedDecision
from ..audit.read.query import Query
from ..audit.read.reader import Entry

# Decisions that are held; older ones are in the log.
HELD: Final = 20_000
# Of what is there at the beginning, the end of each file is read.
FIRST_BYTES: Final = 4 * 1024 * 1024
STEP_BYTES: Final = 1024 * 1024
PAUSE_S: Final = 0.3
_LOG: Final = logging.getLogger("sessauth.console")
_NEEDLE: Final = b'"kind":"decision"'


class DecisionLog:
    """Follows the files of an audit folder."""

    def __init__(self, folder: Path) -> None:
        """Follow ``folder``; nothing is read yet."""
        self.folder = folder
        self.entries: deque[Entry] = deque(maxlen=HELD)
        # The cause of a folder that can't be read; empty if it can.
        self.fault = ""
        self._read_to: dict[Path, int] = {}

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow until cancelled; ``changed`` is called after new decisions."""
        while True:
            if await asyncio.to_thread(self.read):
                changed()
            await asyncio.sleep(PAUSE_S)

    def read(self) -> int:
        """Read what was written since; return the number of new decisions."""
        try:
            files = [path for numbered in layout.files(self.folder).values() for path in numbered.values()]
            found = [entry for path in files for entry in self._of_file(path)]
        except OSError as error:
            self.fault = f"can't read {self.folder}: {error.strerror}"
            return 0
        self.fault = ""
        found.sort(key=lambda entry: entry.at_ms)
        self.entries.extend(found)
        return len(found)

    def find(self, query: Query, most: int) -> list[LoggedDecision]:
        """Return the latest decisions that match, the newest first, at most ``most``."""
        found: list[LoggedDecision] = []
        for entry in reversed(tuple(self.entries)):
            if query.matches(entry):
                found.append(LoggedDecision.of(entry.record))
                if len(found) == most:
                    break
        return found

    def _of_file(self, path: Path) -> Iterator[Entry]:
        size = path.stat().st_size
        at = self._read_to.get(path, -1)
        if at < 0:
            at = max(0, size - FIRST_BYTES)
        stream, _ = layout.parse_name(path.name) or (b"", 0)
        with path.open("rb") as file:
            file.seek(at)
            # A first part that begins within a line has no record in that line.
            while chunk := file.read(STEP_BYTES):
                whole, _, _ = chunk.rpartition(b"\n")
                if not whole:
                    break
                at += len(whole) + 1
                file.seek(at)
                for line in whole.split(b"\n"):
                    if _NEEDLE in line and (record := layout.parse(line)) is not None:
                        yield Entry(stream, path, 0, record)
        self._read_to[path] = at
