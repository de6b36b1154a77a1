"""The map of controls: public lists, row by row, with the tests that hold each (docs/compliance.md)."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def document() -> dict[str, Any]:
    """Return the map for a pack: ``lists`` with title, source and rows."""
    text = resources.files(__package__).joinpath("controls.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
