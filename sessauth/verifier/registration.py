"""Keeps a verifier enrolled with its server: acknowledges what it sees, and stops allowing when it can't.

A verifier of the server's host sees every change at once. That it does is what its acknowledgement proves:
it is sent by the verifier's own process, of a revision that its own view has just read. Where the server is
to say for certain that a session is over for all verifiers, one that can't be heard must allow nothing
either: behind its bound, counted from when it last asked, every check is denied ``STALE_STATE``.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from typing import Final, Protocol

from .._fast.check.view import View
from ..clock import Clock, SystemClock
from ..errors import PermissionDenied, Rejected, SessauthError, StateError, Unauthenticated, UsageError
from ..model.log_records import Head
from ..model.registration import Registration as Registration
from ..state.host.processes import started

# How often the page is looked at that calls for acknowledgements: an end waits for them.
LOOK_SECONDS: Final = 0.01
# Between attempts that failed: soon, but not in a tight loop.
RETRY_MS: Final = 100
# What is asked again within a bound, so that one lost answer costs nothing.
RENEWALS: Final = 3
# Of one that has no bound, since its server sees its end.
RENEW_MS: Final = 5_000
# Of the steady clock: long ago.
_OVER: Final = 1

_log = logging.getLogger(__name__)


class StateProbe(Protocol):
    """The verifier's own source of state."""

    def head(self) -> Head:
        """Return where the log stands, read now."""
        ...

    def called_for(self) -> tuple[int, int]:
        """Return to whom to acknowledge, a number of each server's life, and which revision."""
        ...


class RegistrationLoop:
    """The thread that keeps one verifier enrolled. Without a bound (``staleness_ms`` 0) it is never stale."""

    def __init__(
        self,
        view: View,
        source: StateProbe,
        tell: Callable[[Registration], int],
        name: str,
        staleness_ms: int,
        clock: Clock | None = None,
    ) -> None:
        """Prepare; from here on the verifier allows nothing until :meth:`start` enrolled it.

        ``tell`` asks the server and returns its latest revision; it must be answered well within the bound.
        ``view`` is what the verifier judges by.
        """
        self._view = view
        self._source = source
        self._tell = tell
        self._clock = clock or SystemClock()
        self._told = Registration(
            name,
            secrets.token_bytes(16),
            staleness_ms,
            process_id=os.getpid(),
            process_started=started(os.getpid()),
        )
        self._acknowledged = -1
        self._server = 0
        self._renew_at_ms = 0
        self._retry_at_ms = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sessauth-enrolled-{name}", daemon=True)
        self.problem = ""
        self._stale_at(_OVER)

    @property
    def enrolled(self) -> bool:
        """Whether the server answered the latest attempt."""
        return not self.problem and self._acknowledged >= 0

    def start(self) -> None:
        """Enrol, and go on in a thread.

        A server that can't be reached is asked again, and nothing is allowed until it answers. Raises what it
        refuses for good: Rejected NAME_TAKEN or OTHER_STATE, PermissionDenied, Unauthenticated, UsageError.
        """
        try:
            self._renew()
        except (Rejected, PermissionDenied, Unauthenticated, UsageError):
            raise
        except SessauthError as error:
            self._failed(error)
        self._thread.start()

    def close(self) -> None:
        """Allow nothing any more, and tell the server so if it can be told; without a bound just end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stale_at(_OVER)
        if self._told.staleness_ms and self._acknowledged >= 0:
            told = self._told
            try:
                self._tell(
                    Registration(
                        told.name, told.instance, told.staleness_ms, process_id=told.process_id, leave=True
                    )
                )
            except SessauthError as error:
                # Its bound tells the server as much, later.
                _log.info("verifier %s could not leave: %s", told.name, error)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if self._due():
                    self._renew()
            except SessauthError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - it goes on, and the bound runs meanwhile
                _log.exception("verifier %s could not renew its enrolment", self._told.name)
                self._failed(error)

    def _due(self) -> bool:
        now_ms = self._clock.steady_ms()
        if now_ms < self._retry_at_ms:
            return False
        server, revision = self._source.called_for()
        return now_ms >= self._renew_at_ms or server != self._server or revision > self._acknowledged

    def _renew(self) -> None:
        """Read the state, tell the server, and count for one more bound from when that began."""
        began_ms = self._clock.steady_ms()
        server, _ = self._source.called_for()
        head = self._source.head()
        if self._view.lost or self._view.revision < head.revision:
            raise StateError("the verifier's view is behind its own state folder; open it again")
        told = self._told
        latest = self._tell(
            Registration(
                told.name,
                told.instance,
                told.staleness_ms,
                head.cluster_id,
                head.incarnation,
                head.revision,
                told.process_id,
                told.process_started,
            )
        )
        # An end that the server knew of before it counted on us again is one that we have seen.
        if self._view.revision < latest:
            raise StateError("the verifier's view is behind its server; does it read the server's own state?")
        self._stale_at(began_ms + told.staleness_ms)
        self._acknowledged, self._server = head.revision, server
        self._renew_at_ms = began_ms + (told.staleness_ms // RENEWALS or RENEW_MS)
        self.problem = ""

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Rejected):
            # Another has the name, or the state is another: what is counted on is not this verifier.
            self._stale_at(_OVER)
        self._retry_at_ms = self._clock.steady_ms() + RETRY_MS
        if not self.problem:
            _log.warning("verifier %s is not enrolled: %s", self._told.name, error)
        self.problem = str(error) or type(error).__name__

    def _stale_at(self, steady_ms: int) -> None:
        if self._told.staleness_ms:
            self._view.stale_at(steady_ms)
