"""The map of controls: public lists, row by row, with the tests that hold each."""

from __future__ import annotations

from typing import Any


def document() -> dict[str, Any]:
    """Return the map for a pack."""
    return {}
