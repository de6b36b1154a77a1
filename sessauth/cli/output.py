"""Output of the commands: lines and tables for people, one JSON document for programs, progress on stderr.

Texts from tokens, sessions or a server are made harmless first: nothing printed can move the cursor,
change colours or reorder the text beside it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

import click

from ..scopes.value import quoted, shows

MAX_CELL_CHARS = 60
_PROGRESS_S: Final = 0.1
_CLEAR: Final = "\r\x1b[K"
# A verdict opens its line or follows the time. Elsewhere the word may come from a token or a session.
_VERDICT = re.compile(
    r"^( {0,2}|\d{4}-\d\d-\d\dT\S+ +)"
    r"(?:(ALLOWED\b|allowed\b|yes(?=  ))|(DENIED\b|denied\b|REFUSED\b|ACCEPTED\b|no(?=  )))"
)


def show(lines: Iterable[str]) -> None:
    """Print lines; on a terminal verdicts are coloured, unless NO_COLOR is set or TERM is ``dumb``."""
    in_colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    click.echo("\n".join(map(_coloured, lines) if in_colour else lines))


def _coloured(line: str) -> str:
    found = _VERDICT.match(line)
    if found is None:
        return line
    word, colour = (found[2], "green") if found[2] else (found[3], "red")
    return f"{found[1]}{click.style(word, fg=colour, bold=True)}{line[found.end() :]}"


def print_json(document: Any) -> None:
    """Print one JSON document, non-ASCII escaped for terminals of any encoding."""
    click.echo(json.dumps(document, indent=2))


def json_value(value: object) -> Any:
    """Return a value for JSON: bytes in hex, an enum by its name, a dataclass by its fields."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return json_fields(value) if is_dataclass(value) else value


def json_fields(value: Any, **others: object) -> dict[str, Any]:
    """Return the fields of a dataclass for JSON, with ``others`` added or in their place."""
    names = [item.name for item in dataclass_fields(value)]
    return {
        **{name: others[name] if name in others else json_value(getattr(value, name)) for name in names},
        **others,
    }


def printable(text: str) -> str:
    """Return ``text`` unchanged if all its characters are visible, else as a JSON string with escapes."""
    return text if shows(text) else quoted(text)


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, max_cell_chars: int = MAX_CELL_CHARS
) -> list[str]:
    """Return lines of left-aligned columns; longer cells are cut with an ellipsis."""
    cells = [[_cell(value, max_cell_chars) for value in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [list(headers), *cells]
    ]


def _cell(value: object, max_chars: int) -> str:
    text = printable(str(value))
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def fields(pairs: Sequence[tuple[str, object]]) -> list[str]:
    """Return lines ``name  value``; pairs with an empty value or None are left out."""
    shown = [(name, printable(str(value))) for name, value in pairs if value not in ("", None)]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in shown]


def document_fields(document: Mapping[str, object]) -> list[str]:
    """Return a flat document as :func:`fields`, with spaces for underscores in the names."""
    return fields([(name.replace("_", " "), value) for name, value in document.items()])


def moment(at_ms: int) -> str:
    """Return a time in ms since 1970 as UTC, ``2026-01-31T12:00:00Z``; "" for 0."""
    if not at_ms:
        return ""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        # The format permits times beyond the year 9999.
        return f"{at_ms} ms"


def moment_and_distance(at_ms: int, now_ms: int) -> str:
    """Return a time and its distance from ``now_ms``; "" for 0."""
    if not at_ms:
        return ""
    away = at_ms - now_ms
    return f"{moment(at_ms)} (in {span(away)})" if away >= 0 else f"{moment(at_ms)} ({span(-away)} ago)"


def span(ms: int) -> str:
    """Return a duration in at most two units, such as ``1h 5m``."""
    if ms < 1000:
        return f"{ms}ms"
    parts: list[str] = []
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def warn(text: str) -> None:
    """Print a warning to stderr."""
    click.echo(f"warning: {printable(text)}", err=True)


class Progress:
    """Progress on a terminal's stderr, shown at most ten times a second and cleared at the end."""

    def __init__(self, action: str) -> None:
        """Name the action in a word or two, as ``verifying``."""
        self._action = action
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, done: int, total: int = 0) -> None:
        """Show the count, as a percentage if ``total`` is not 0."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_S
            self._show(f"{100 * done // total} %" if total else str(done))

    def _show(self, text: str) -> None:
        if self._shown:
            click.echo(f"{_CLEAR}{self._action} {text}", nl=False, err=True)

    def __enter__(self) -> Self:
        """Show the action without a count."""
        self._show("…")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the line."""
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)
