"""Results that were written as JSON, read again for tables in documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import FORMAT


class WrongDocument(ValueError):
    """A file is no result that this version of the benchmarks wrote; the message names it."""


@dataclass(frozen=True)
class Written:
    """One result: its rows by name, what it was measured on, and the seconds of each module."""

    rows: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    notes: Mapping[str, str]
    seconds: Mapping[str, float]

    @property
    def caption(self) -> str:
        """One line of what was measured, on what, and when."""
        machine = self.machine
        changed = machine["changed_files"]
        commit = str(machine["commit"])[:10] or "no commit"
        return " · ".join(
            (
                f"commit {commit}" + (f" with {changed} changed files" if changed else ""),
                f"{machine['cpu']}, {machine['cores']} cores",
                f"Python {machine['python']}",
                str(machine["date"])[:10],
            )
        )


def read(file: Path) -> Written:
    """Read one result. Raises WrongDocument."""
    try:
        found = json.loads(file.read_text("utf-8"))
        if found["format"] != FORMAT:
            raise WrongDocument(f"{file}: format {found['format']}, not {FORMAT}: measure again")
        return Written(
            rows={row["name"]: row for row in found["rows"]},
            machine=found["machine"],
            options=found["options"],
            notes=found.get("notes", {}),
            seconds=found.get("seconds", {}),
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise WrongDocument(f"{file}: {type(error).__name__}: {error}") from error
