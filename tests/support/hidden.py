"""Characters that do not show, by Python's own tables."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"})


def hides(text: str) -> bool:
    """Return True if ``text`` has a control, format or private character, or a space other than U+0020."""
    return any(char != " " and unicodedata.category(char) in _HIDDEN for char in text)
