"""Progress of a long command: one line on stderr that is written over, on a terminal only."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

import click

_EVERY_S: Final = 0.1
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """A context that shows what it is told, at most ten times a second, and leaves nothing behind."""

    def __init__(self, what: str) -> None:
        """Begin; ``what`` is being done, in a word or two."""
        self._what = what
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, done: int, total: int = 0) -> None:
        """Say how much is done, of how much if that is known."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY_S
        far = f"{100 * done // total} %" if total else str(done)
        click.echo(f"{_CLEAR}{self._what} {far}", nl=False, err=True)

    def __enter__(self) -> Self:
        """Say what is begun."""
        if self._shown:
            click.echo(f"{_CLEAR}{self._what} …", nl=False, err=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)
