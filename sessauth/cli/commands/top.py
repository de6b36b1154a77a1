"""``sessauth top``: a live table of the sessions that are denied most, or call most.

On a terminal it takes the whole screen, and keys: ``d`` and ``c`` sort by denied calls and by all calls,
``q`` ends it. Elsewhere it prints one table after another.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from ...errors import Unavailable
from ...model.session import EndCause, Session, SessionStatus
from ..context import Settings, with_settings
from ..output import show, span, table
from ..params import duration, examples
from ..render import session as session_view

if TYPE_CHECKING:
    from ...client import Activity, Client, SessionActivity

_HEADERS: Final = (
    "ID",
    "STATUS",
    "SUBJECT",
    "PURPOSE",
    "OWNER",
    "LEFT",
    "DENIED",
    "ALLOWED",
    "CALLS/S",
    "DENIED/MIN",
    "CALLS/MIN",
)
_MAX_CELL_CHARS: Final = 24
_BARS: Final = "▁▂▃▄▅▆▇█"
# The other lines of the screen.
_FRAME_LINES: Final = 4
_WINDOW_MS: Final = 600_000
_KEYS: Final = {"d": "denied", "c": "calls"}
# Alternate screen and no wrapped lines, and both undone.
_ENTER: Final = "\x1b[?1049h\x1b[?7l"
_LEAVE: Final = "\x1b[?7h\x1b[?1049l"
_CLEAR: Final = "\x1b[H\x1b[2J"


@click.command(
    epilog=examples("top --by calls team=payments", "--json top --once"),
)
@click.argument("words", nargs=-1)
@click.option(
    "--by",
    "order",
    type=click.Choice(list(_KEYS.values())),
    default="denied",
    show_default=True,
    help="Sort by denied calls, or by all calls.",
)
@click.option(
    "--limit", type=click.IntRange(1, 100), help="Sessions to show. Default: as many as fit, or 25."
)
@click.option(
    "--every", "every_ms", type=duration, default=2_000, help="Time between two tables.  [default: 2s]"
)
@click.option("--once", is_flag=True, help="Show one table and end.")
@with_settings
def top(
    settings: Settings, words: Sequence[str], order: str, limit: int | None, every_ms: int, once: bool
) -> None:
    """Show the sessions with the most denied calls of the last ten minutes, live.

    WORDS narrow it to sessions whose id begins so, or that have each word in subject, purpose, owner or a
    label (name=value). Verifiers report their calls every few seconds. With --json each table is a line.
    """
    wanted = " ".join(words)
    if once:
        with settings.client() as client:
            found = client.list_activity(order=order, limit=limit or 0, words=wanted)
        settings.show(_json(found), lines(found, order, settings.clock.now_ms()))
        return
    with _screen(live=sys.stdout.isatty() and not settings.json) as live, settings.client() as client:
        while True:
            rows = limit or (min(100, max(1, os.get_terminal_size().lines - _FRAME_LINES)) if live else 0)
            _print(settings, client, order, rows, wanted, live=live)
            key = _key(every_ms / 1000, live=live)
            if key == "q":
                return
            order = _KEYS.get(key, order)


def _print(settings: Settings, client: Client, order: str, rows: int, words: str, *, live: bool) -> None:
    """Print one table, or why there is none: the server may be back for the next one."""
    try:
        found = client.list_activity(order=order, limit=rows, words=words)
    except Unavailable as error:
        document, shown = {"error": str(error)}, [f"no answer: {error}"]
    else:
        document, shown = _json(found), lines(found, order, settings.clock.now_ms())
    if settings.json:
        click.echo(json.dumps(document))
        return
    keys = ["d: denied first, c: calls first, q: quit"] if live else []
    click.echo(_CLEAR if live else "", nl=False)
    show([*shown, *keys])


def _json(found: Activity) -> dict[str, Any]:
    return {
        "since_ms": found.since_ms,
        "allowed": found.allowed,
        "denied": found.denied,
        "sessions": [
            {
                "session": session_view.to_json(each.session),
                "allowed": each.allowed,
                "denied": each.denied,
                "calls_per_second": round(found.per_second(each.calls), 3),
            }
            for each in found.sessions
        ],
        "hosts_missing": list(found.missing_hosts),
    }


def lines(found: Activity, order: str, now_ms: int) -> list[str]:
    """Return the table of an answer, in the order that was asked for."""
    parts = [f"{'denied calls' if order == 'denied' else 'calls'} of the last ten minutes"]
    if found.allowed:
        calls = found.per_second(found.allowed) + found.per_second(found.denied)
        parts.append(f"{calls:.1f} calls/s, {found.per_second(found.denied):.1f} denied/s")
    if found.since_ms and now_ms - found.since_ms < _WINDOW_MS:
        parts.append(f"counted for {span(max(0, now_ms - found.since_ms))}")
    parts += found.gaps
    chars = session_view.distinct_chars([each.session.id.hex() for each in found.sessions])
    rows = [_row(found, each, now_ms, chars) for each in found.sessions]
    body = table(_HEADERS, rows, max_cell_chars=_MAX_CELL_CHARS) if rows else ["no calls"]
    return [" · ".join(parts), *body]


def _row(found: Activity, each: SessionActivity, now_ms: int, id_chars: int) -> list[object]:
    session = each.session
    over = session.status is SessionStatus.ENDED
    return [
        session.id.hex()[:id_chars],
        _status(session),
        session.subject,
        session.purpose,
        session.owner,
        "" if over else span(max(session.ends_at_ms() - now_ms, 0)),
        sum(each.denied),
        sum(each.allowed),
        f"{found.per_second(each.calls):.1f}",
        _spark(each.denied),
        _spark(each.calls),
    ]


def _status(session: Session) -> str:
    if session.status is SessionStatus.ENDED and session.end_cause is EndCause.LEASE_LAPSED:
        return "LAPSED"
    return session.status.name


def _spark(counts: Sequence[int]) -> str:
    """Return a bar for each minute, the highest for the most; a dot for none."""
    most = max(counts, default=0)
    return "".join(_BARS[(each * len(_BARS) - 1) // most] if each else "·" for each in counts)


@contextmanager
def _screen(*, live: bool) -> Iterator[bool]:
    """Take the screen if it is ``live``, with keys if they come from a terminal; yields ``live``."""
    if not live:
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        if before is not None:
            tty.setcbreak(sys.stdin)
        click.echo(_ENTER, nl=False)
        yield True
    finally:
        click.echo(_LEAVE, nl=False)
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(seconds: float, *, live: bool) -> str:
    """Wait, and return a key that was pressed meanwhile; empty if none was."""
    if not live or not sys.stdin.isatty():
        time.sleep(seconds)
        return ""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    # From the descriptor, since select doesn't see what Python buffers. The end of the input has no byte.
    return os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") or "q"
