"""Checks of one token on one host, again and again, with the moment of each."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ....reasons import Reason
from ....tokens.token import Token
from ....verifier.verifier import Verifier

AUDIENCE: Final = "gateway"
ACTION: Final = "read"
RESOURCE: Final = "files/report"
PERIOD_SECONDS: Final = 0.001
# The bound of freshness, by default: no check allows that began later than this behind an end.
BOUND_MS: Final = 3_000


class TimedCheck(NamedTuple):
    """One check; moments are in seconds of ``time.monotonic()``."""

    began: float
    ended: float
    reason: Reason


class HostChecks:
    """A thread that judges a token by a verifier embedded on a host's folder."""

    def __init__(self, state_dir: Path) -> None:
        """Open the verifier and start the thread. Judges nothing before :meth:`watch`. Raises StateError."""
        self._verifier = Verifier.embedded(state_dir, audience=AUDIENCE)
        self._watched: tuple[Token, list[TimedCheck]] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-checks", daemon=True)
        self._thread.start()

    def watch(self, token: Token) -> None:
        """Judge this token from now on, and forget the checks of another one."""
        self._watched = token, []

    def first(self, reason: Reason, since: float, seconds: float) -> float | None:
        """Return the end of the first check since a moment that gave ``reason``; None if none does so."""
        until = time.monotonic() + seconds
        checks = self._checks
        position = bisect_left(checks, (since,))
        while True:
            while position < len(checks):
                if checks[position].reason is reason:
                    return checks[position].ended
                position += 1
            if time.monotonic() > until:
                return None
            time.sleep(PERIOD_SECONDS)

    def since(self, moment: float) -> list[TimedCheck]:
        """Return the checks that began at a moment or later."""
        checks = self._checks
        return checks[bisect_left(checks, (moment,)) :]

    def now(self, tokens: Sequence[Token]) -> list[Reason]:
        """Judge any tokens once."""
        return [self._judge(token) for token in tokens]

    def settled(self, tokens: Sequence[Token], expected: Sequence[Reason]) -> list[Reason]:
        """Judge tokens until they give the expected reasons, for the bound of freshness at most."""
        until = time.monotonic() + BOUND_MS / 1000
        while (reasons := self.now(tokens)) != expected and time.monotonic() < until:
            time.sleep(PERIOD_SECONDS)
        return reasons

    def close(self) -> None:
        """End the thread and close the verifier."""
        self._closing.set()
        self._thread.join()
        self._verifier.close()

    @property
    def _checks(self) -> list[TimedCheck]:
        return self._watched[1] if self._watched is not None else []

    def _judge(self, token: Token) -> Reason:
        return self._verifier.check(token.data, ACTION, RESOURCE).reason

    def _run(self) -> None:
        while not self._closing.wait(PERIOD_SECONDS):
            if self._watched is not None:
                token, checks = self._watched
                began = time.monotonic()
                reason = self._judge(token)
                checks.append(TimedCheck(began, time.monotonic(), reason))
