"""Readiness of a control process: its health status, and the cause in its log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ... import limits
from ...errors import SessauthError
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from ..cluster.part import ClusterPart
from ..keys.issuer_keyring import KeyRing
from ..log import event


class Readiness:
    """Judges if a process may answer checks."""

    def __init__(
        self,
        log: StateWriter,
        verifier: Verifier,
        keyring: KeyRing,
        part: ClusterPart,
        set_ready: Callable[[bool], object],
    ) -> None:
        """Report to ``set_ready``, the health service."""
        self._log = log
        self._verifier = verifier
        self._keyring = keyring
        self._part = part
        self._set_ready = set_ready
        self._before = ""

    def is_ready(self) -> bool:
        """Return True if state and clock are good for checks, and an issuer key can be used."""
        return not self.problem()

    def problem(self) -> str:
        """Return why this process is not ready; empty if it is."""
        try:
            floor_ms = self._log.head().clock_floor_ms
            if self._part.alarm is not None:
                return f"this host left its cluster's log: {self._part.alarm}"
            if self._log.braked:
                return f"the brake denies every check: {self._log.braked}"
            if not self._verifier.view.current:
                return "the state of this host is not known to be current, which denies every check"
            late_ms = floor_ms - self._log.now_ms()
            if late_ms > limits.CLOCK_STEP_MS:
                # A clock that was wrong when the state was opened does not deviate from its own beginning.
                # In whole minutes: it is logged whenever it changes.
                minutes = -(-late_ms // 60_000)
                return (
                    f"the wall clock is {minutes} min before the state's clock floor, which denies every "
                    "check: set the clock right, then restart the server"
                )
            return self._keyring.problem(self._log.keys())
        except SessauthError as error:
            return str(error)

    def words(self) -> str:
        """Return in one sentence how this process was at the last report, for people."""
        return f"not ready: {self._before}" if self._before else "serving"

    def report(self) -> None:
        """Set the health status; log the cause once when this process is not ready."""
        why, before = self.problem(), self._before
        self._before = why
        self._set_ready(not why)
        if why and why != before:
            event(logging.ERROR, "not_ready", error=why)
        elif before and not why:
            event(logging.INFO, "ready")
