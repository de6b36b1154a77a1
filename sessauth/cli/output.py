"""Output of the commands: lines and tables for people, one JSON document for programs, progress on stderr.

Texts from tokens, sessions or a server are made harmless first: nothing printed can move the cursor, change
colours or reorder the text beside it.

Errors have exit codes and name the option. The package names a parameter as its callers write it (``ttl_ms``,
``insecure_tcp=True``), so its messages are translated here.
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
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

import click

from ..clock import utc_text
from ..errors import (
    IdentityRefused,
    InvalidReceipt,
    Rejected,
    ServerError,
    SessauthError,
    StateError,
    Unavailable,
)

_MAX_CELL_CHARS = 60
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


def attributes(value: object, *names: str) -> dict[str, Any]:
    """Return attributes for JSON, by their names."""
    return {name: json_value(getattr(value, name)) for name in names}


def printable(text: str) -> str:
    """Return ``text`` unchanged if all its characters are visible, else as a JSON string with escapes."""
    from ..scopes.value import quoted, shows

    return text if shows(text) else quoted(text)


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, max_cell_chars: int = _MAX_CELL_CHARS
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
    return utc_text(at_ms) if at_ms else ""


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

    def __init__(self, action: str, *, shown: bool) -> None:
        """Name the action in a word or two, as ``verifying``; it is hidden unless ``shown``."""
        self._action = action
        self._shown = shown and sys.stderr.isatty()
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


OK = 0
DENIED = 1
USAGE = 2
REFUSED = 3
UNAVAILABLE = 4
STATE = 5
INTERNAL = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

# Attributes that hold the stable word of the package's errors.
_WORDS = ("word", "reason", "problem", "fault")

# By code, as docs/cli.md has it.
EXIT_CODES: Final[Mapping[int, str]] = {
    OK: "done; of a check: allowed; of a verification: proven, intact, closed or without a difference; of "
    "status: the server is ready; of doctor: nothing is wrong; of mcp guard: the client ended",
    DENIED: "of check, permit commit, allowed, mcp guard: denied, or the token is refused; of scope try: no "
    "scope matches; of token inspect, session receipt, session verify-closed, evidence, evidence verify, "
    "audit verify, audit replay, audit story, cluster heads, conformance, catalogue diff, scope compare, "
    "scope lint, demo: not proven, or something was found; of status: it denies every check; of doctor: "
    "there are warnings",
    USAGE: "usage: an argument, a file or a token that can't be read; of doctor: there are errors; of mcp "
    "guard: a line is too long",
    REFUSED: "the server refused: credential, role, not found, or against the rules",
    UNAVAILABLE: "the server can't be reached or did not answer in time; of mcp guard: it ended",
    STATE: "the state folder or the key folder can't be used; of state check: or the brake is set, or the "
    "state is stale",
    INTERNAL: "an internal error of sessauth; please report it",
    INTERRUPTED: "interrupted",
    BROKEN_PIPE: "the reader of the output closed it",
}

# Parameters that no option is declared for by name, and the option that states each.
PARAMETERS: Final[Mapping[str, str]] = {
    "approvals": "--approval",
    "candidates": "calls",
    "credential": "--credential-file",
    "ending": "--to",
    "expires_at_ms": "--ttl",
    "id_prefix": "session_id",
    "next_key": "--to",
    "selector.labels": "--label",
    "selector.owner": "--owner",
    "selector.subject": "--subject",
    "tls": "--tls-ca",
    "tls.authority": "--tls-ca",
    "tls.certificate": "--tls-certificate",
    "tls.key": "--tls-key",
}
# A word that may name a parameter, with its value and its index in a list. Parts of paths and of
# configuration keys don't match.
_MENTION: Final = re.compile(
    r"(?<![\w./'-])(?:items?(?:\[\d+\])?\.)?(?P<name>[a-z]+(?:_[a-z]+)*(?:\.[a-z]+)?)"
    r"(?P<value>=(?:True|'[^']*')?)?(?P<index>\[\d+\])?(?P<end>[:,]?)"
)
_WORD: Final = re.compile(r"[A-Z][A-Z_]+: ")
_QUOTED: Final = re.compile(r"'[^']*'")


def exit_code(error: SessauthError) -> int:
    """Return the exit code for an error, by the party at fault."""
    from ..decisions.decision import Denied
    from ..guard.call import ToolDenied
    from ..model.receipt import ReceiptFault

    if isinstance(error, Denied | ToolDenied):
        return DENIED
    if isinstance(error, InvalidReceipt):
        # Bytes that are not a receipt are a wrong file. Any other fault means not proven, which is an answer.
        return USAGE if getattr(error, "fault", "") == ReceiptFault.NOT_CANONICAL else DENIED
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, StateError):
        return STATE
    return REFUSED if isinstance(error, Rejected | ServerError | IdentityRefused) else USAGE


def report(error: SessauthError, message: str, *, as_json: bool) -> None:
    """Print ``message`` for an error to stderr, as text or as one JSON document with its stable word."""
    candidates = getattr(error, "candidates", [])
    if as_json:
        word = str(next(filter(None, (getattr(error, name, "") for name in _WORDS)), ""))
        document: dict[str, object] = {"kind": type(error).__name__, "word": word, "message": message}
        if candidates:
            document["candidates"] = candidates
        click.echo(json.dumps({"error": document}), err=True)
    else:
        first, *others = map(printable, message.split("\n"))
        click.echo(f"sessauth: {first}", err=True)
        for line in others:
            click.echo(f"  {line}", err=True)
        for line in candidates:
            click.echo(f"  {printable(line)}", err=True)


def options_of(context: click.Context | None) -> dict[str, str]:
    """Return the user's names of a command's parameters: an option, or an argument in capitals.

    An option is listed under its own name and under that of the parameter that it is declared for.
    """
    names: dict[str, str] = {}
    while context is not None:
        for parameter in context.command.params:
            name = parameter.name or ""
            if isinstance(parameter, click.Option):
                longest = max(parameter.opts, key=len)
                names.setdefault(_own_name(longest), longest)
                names.setdefault(name, longest)
            else:
                names.setdefault(name, name.upper())
        context = context.parent
    return names


def with_option_names(message: str, options: Mapping[str, str]) -> str:
    """Replace parameters in a message by their names in ``options``; unknown ones stay.

    A word is a parameter if it opens the message, after a rejection's ``WORD: `` too, and a colon, comma or
    index follows, if ``=`` follows it, or if it has an underscore or, like ``tls.key``, a dot.
    """
    word = _WORD.match(message)
    first = word.end() if word else 0
    quoted = [match.span() for match in _QUOTED.finditer(message)]

    def replace(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"] or ""
        opens = match.start() == first and (match["end"] or match["index"])
        inside = any(start < match.start() < end for start, end in quoted)
        option = options.get(name) or options.get(_own_name(PARAMETERS.get(name, "")))
        if inside or option is None or not (opens or value or "_" in name or "." in name):
            return match[0]
        return f"{option}{'' if value in ('=', '=True') else value}{match['index'] or ''}{match['end']}"

    return _MENTION.sub(replace, message)


def _own_name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
