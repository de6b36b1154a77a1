"""An older data file of a state folder: kept, and brought back in each of the ways that it may be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sessauth.state import layout

_MARGIN_BYTES = 1 << 16


@dataclass(frozen=True)
class OldFile:
    """Contents of a folder's data file at one moment, followed by a hole."""

    data: bytes
    size: int

    @classmethod
    def of(cls, state_dir: Path) -> OldFile:
        """Keep what the data file holds now."""
        path = state_dir / layout.DATA_FILE
        status = path.stat()
        with path.open("rb") as file:
            return cls(file.read(status.st_blocks * 512 + _MARGIN_BYTES), status.st_size)

    def put_back(self, state_dir: Path) -> None:
        """Put it under the data file's name, by a rename."""
        path = state_dir / layout.DATA_FILE
        copy = path.with_suffix(".old")
        copy.write_bytes(self.data)
        os.truncate(copy, self.size)
        copy.chmod(layout.DATA_MODE)
        copy.rename(path)

    def overwrite(self, state_dir: Path) -> None:
        """Write it into the data file that is there."""
        with (state_dir / layout.DATA_FILE).open("r+b") as file:
            file.write(self.data)
