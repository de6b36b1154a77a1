"""Heads of a cluster as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..output import json_fields, printable, table

if TYPE_CHECKING:
    from ...server.cluster.repair import HostHead

_DIGEST_CHARS = 12


def to_json(heads: Sequence[HostHead], *, agree: bool) -> dict[str, Any]:
    """Return heads as JSON values."""
    return {"agree": agree, "heads": [json_fields(head) for head in heads]}


def to_lines(heads: Sequence[HostHead]) -> list[str]:
    """Return a table, and a line for each alarm, brake and silence."""
    rows = [
        (
            head.host,
            head.number if head.source else "",
            head.digest.hex()[:_DIGEST_CHARS],
            head.term or "",
            head.incarnation.hex()[:_DIGEST_CHARS],
            "leads" if head.leading else "fresh" if head.fresh else "",
            head.verdict,
            head.source,
        )
        for head in heads
    ]
    headers = ("host", "record", "digest", "term", "incarnation", "is", "verdict", "by")
    lines = table(headers, rows)
    for head in heads:
        notes = (("", head.silent), ("", head.alarm_message), ("brake: ", head.brake))
        for word, text in (*notes, ("refused by ", head.refused_by)):
            if text:
                lines.append(printable(f"{head.host}: {word}{text}"))
    return lines
