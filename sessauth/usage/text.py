"""Texts that came from agents, made harmless for terminals and pictures."""

from __future__ import annotations

from ..scopes.value import quoted, shows


def shown(text: str, most: int = 0) -> str:
    """Return a text with everything that does not show escaped, cut to ``most`` characters (0: whole)."""
    plain = text if shows(text) else quoted(text)
    return plain if not most or len(plain) <= most else plain[: most - 1] + "…"


def span(ms: int) -> str:
    """Return a length of time in one unit that fits, such as ``4.5 min``."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if ms >= size:
            return f"{ms / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{ms} ms"


def share(part: int, whole: int) -> str:
    """Return how much of the whole a part is, such as ``12 %``; "" of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else ""
