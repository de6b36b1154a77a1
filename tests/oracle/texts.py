"""Rules for texts, segments, clean paths and globs (sections 4, 5, 6.7, 6.8 of the format)."""

from __future__ import annotations

import re

MAX_STRING_BYTES = 1024

_CONTROL = re.compile("[\u0000-\u001f\u007f-\u009f]")
_PERCENT = re.compile("%[0-9A-Fa-f]{2}")
_NOT_PLAIN = re.compile(r"[\u0000-\u001f\u007f-\u009f/\\*{}]")
_ACTION = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_FACT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_DOTS = (".", "..")


def fits(text: str, least: int = 0) -> bool:
    """Return True if the UTF-8 form has at least ``least`` and at most 1024 bytes."""
    return least <= len(text.encode("utf-8")) <= MAX_STRING_BYTES


def is_text(text: str) -> bool:
    """Section 4: 1 to 1024 bytes without control characters."""
    return fits(text, 1) and not _CONTROL.search(text)


def is_action(text: str) -> bool:
    """One action of a scope or request, ``*`` not included."""
    return _ACTION.match(text) is not None


def is_fact_name(text: str) -> bool:
    """The name of a session fact."""
    return _FACT.match(text) is not None


def is_prefix_text(text: str) -> bool:
    """The alphabet of plain segments; ``.`` and ``..`` are allowed."""
    return fits(text, 1) and not _NOT_PLAIN.search(text) and not _PERCENT.search(text)


def is_plain_segment(text: str) -> bool:
    """Section 5: a segment that stands for itself."""
    return text not in _DOTS and is_prefix_text(text)


def is_clean_path(text: str) -> bool:
    """Section 6.8: a path with nothing to resolve in it."""
    if not fits(text, 1) or _CONTROL.search(text) or "\\" in text or _PERCENT.search(text):
        return False
    if text == "/":
        return True
    segments = text.removeprefix("/").split("/")
    return all(segment and segment not in _DOTS for segment in segments)


def is_under(path: str, base: str) -> bool:
    """Section 6.8: whether ``path`` is ``base`` or below it."""
    if not is_clean_path(path) or not is_clean_path(base):
        return False
    if base == "/":
        return path.startswith("/")
    return path == base or path.startswith(base + "/")


def is_glob(pattern: str) -> bool:
    """Section 6.7: ``**`` stands only as a whole last segment."""
    if not fits(pattern, 1):
        return False
    *front, last = pattern.split("/")
    return not any("**" in segment for segment in front) and (last == "**" or "**" not in last)


def _segment_matches(pattern: str, segment: str) -> bool:
    if segment in _DOTS or "*" not in pattern:
        return pattern == segment
    first, *middle, last = pattern.split("*")
    if len(segment) < len(first) + len(last) or not segment.startswith(first) or not segment.endswith(last):
        return False
    at, end = len(first), len(segment) - len(last)
    for piece in middle:
        # The leftmost place leaves the most room for what follows.
        found = segment.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def glob_matches(pattern: str, text: str) -> bool:
    """Section 6.7, for a well-formed pattern."""
    patterns, segments = pattern.split("/"), text.split("/")
    if patterns[-1] == "**":
        patterns.pop()
        rest = segments[len(patterns) :]
        if len(segments) < len(patterns) or any(segment in _DOTS for segment in rest):
            return False
        segments = segments[: len(patterns)]
    return len(patterns) == len(segments) and all(map(_segment_matches, patterns, segments))
