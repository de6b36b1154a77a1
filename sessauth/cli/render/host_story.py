"""The story of a session over several hosts, as JSON and as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...audit.read.story import HostStory, SessionStory
from ..output import moment, printable, table
from .audit import VerifiedHost, entry_json, table_lines


def problems(
    story: SessionStory, verified: Sequence[VerifiedHost], named: Sequence[str], bound_ms: int
) -> list[str]:
    """Return why it is not proved that nothing outlived the session; empty: it is.

    ``named`` are the hosts of its receipt.
    """
    found = [
        f"{_name(each)}: its log is not intact, {len(each.report.faults)} findings of 'audit verify'"
        for each in verified
        if not each.report.intact
    ]
    names = {part.host.name for part in story.hosts}
    found += [
        f"{name}: the receipt names it, and no log of it is here" for name in named if name not in names
    ]
    if story.end is None:
        return [*found, "no log holds the end of the session"]
    for part, each in zip(story.hosts, verified, strict=True):
        if part.lost or part.passed_over:
            found.append(f"{_name(each)}: {part.lost + part.passed_over} losses, which may hide an allow")
        latest_ms = max((state.latest_ms for state in each.report.streams), default=0)
        closed = bool(each.report.streams) and all(state.closed for state in each.report.streams)
        if not closed and latest_ms <= story.end.at_ms + bound_ms:
            found.append(f"{_name(each)}: its log does not go beyond the end, and was not closed")
    found += [
        printable(
            f"{entry.host or 'this host'}: allowed {entry.record.get('id')} at {moment(entry.at_ms)}, "
            f"{entry.at_ms - story.end.at_ms} ms after the end, by revision {entry.record.get('revision')}"
        )
        for entry in story.survived
    ]
    return found


def to_json(story: SessionStory, verified: Sequence[VerifiedHost], found: Sequence[str]) -> dict[str, Any]:
    """Return a story as JSON values."""
    end = story.end
    return {
        "session": story.session_id.hex(),
        "proved": not found,
        "problems": list(found),
        "end": None
        if end is None
        else {
            "change": end.change,
            "session": end.session,
            "seq": end.seq,
            "revision": end.revision,
            "at_ms": end.at_ms,
        },
        "allowed_within_bound": story.within,
        "hosts": [
            {
                "host": part.host.name,
                "dir": str(part.host.folder),
                "intact": each.report.intact,
                "allowed": part.allowed,
                "denied": part.denied,
                "last_allow_ms": part.last_allow_ms,
                "clock_behind_ms": part.behind_ms,
                "clock_ahead_ms": part.ahead_ms,
                "lost": part.lost,
            }
            for part, each in zip(story.hosts, verified, strict=True)
        ],
        "records": [entry_json(entry) for entry in story.entries],
    }


def to_lines(story: SessionStory, found: Sequence[str]) -> list[str]:
    """Return a story as lines: its records, its hosts, and the result."""
    lines = table_lines(story.entries)
    lines += [
        "",
        *table(
            ("HOST", "ALLOWED", "DENIED", "LAST ALLOW", "CLOCK"),
            [
                (
                    part.host.name or "this host",
                    part.allowed,
                    part.denied,
                    moment(part.last_allow_ms) or "none",
                    _clock(part),
                )
                for part in story.hosts
            ],
        ),
        "",
    ]
    if story.end is not None:
        lines.append(
            f"ended {moment(story.end.at_ms)} by change {story.end.seq}, at revision {story.end.revision}; "
            f"{story.within} calls were allowed within the bound after it"
        )
    lines += [f"NOT PROVED: {each}" for each in found]
    count = f"{len(story.hosts)} host" + ("s" if len(story.hosts) > 1 else "")
    return lines if found else [*lines, f"nothing outlived the session: {count}"]


def _clock(part: HostStory) -> str:
    """Return the records' evidence of a host's clock."""
    words = []
    if part.behind_ms:
        words.append(f"behind by {part.behind_ms} ms at least")
    if part.ahead_ms:
        words.append(f"ahead, or late, by {part.ahead_ms} ms at least")
    return ", ".join(words)


def _name(verified: VerifiedHost) -> str:
    return printable(verified.host.name or "this host")
