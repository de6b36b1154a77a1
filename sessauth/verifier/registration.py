"""Registration of a verifier with its server: acknowledges revisions, and denies once it can't.

A verifier of the server's host sees every change at once. Its acknowledgement proves that: the verifier's own
process sends it, of a revision that its own view has just read. A verifier without contact to its server must
allow nothing, or the server could not certify that a session is over for all verifiers. So every check past
its bound, counted from its last request, is denied ``STALE_STATE``.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from .._fast._check import View
from ..clock import Clock, SystemClock
from ..errors import PermissionDenied, Rejected, SessauthError, StateError, Unauthenticated, UsageError
from ..model.change import Head
from ..model.receipt import Registration as Registration
from ..state.host.processes import started

# Poll interval of the shared page that requests acknowledgements: an end waits for them.
POLL_SECONDS: Final = 0.01
# Between attempts that failed: soon, but not in a tight loop.
RETRY_MS: Final = 100
# Renewals within one bound, so that one lost answer costs nothing.
RENEWALS: Final = 3
# Renewal interval without a bound: the server sees the end of such a verifier's process.
RENEW_MS: Final = 5_000
# A time of the steady clock that is long past.
_PAST: Final = 1

_log = logging.getLogger(__name__)


class StateProbe(Protocol):
    """The verifier's own source of state."""

    def head(self) -> Head:
        """Return the log's position, read now."""
        ...

    def called_for(self) -> tuple[int, int]:
        """Return the number of the server process that requests an acknowledgement, and the revision."""
        ...


class RegistrationLoop:
    """The thread that keeps a verifier registered. Without a bound (``staleness_ms`` 0) it is never stale."""

    def __init__(
        self,
        view: View,
        source: StateProbe,
        register: Callable[[Registration], int],
        name: str,
        staleness_ms: int,
        clock: Clock | None = None,
    ) -> None:
        """Prepare; from here on the verifier allows nothing until :meth:`start` registered it.

        ``register`` sends a registration and returns the server's latest revision; it must be answered well
        within the bound. ``view`` is the verifier's view of the state.
        """
        self._view = view
        self._source = source
        self._register = register
        self._clock = clock or SystemClock()
        self._registration = Registration(
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
        self._thread = threading.Thread(target=self._run, name=f"sessauth-registered-{name}", daemon=True)
        self.problem = ""
        self._stale_at(_PAST)

    @property
    def registered(self) -> bool:
        """True if the server accepted the latest attempt."""
        return not self.problem and self._acknowledged >= 0

    def start(self) -> None:
        """Register, and renew that in a thread.

        If the server can't be reached, the thread tries again, and nothing is allowed until it answers.
        Raises a final refusal: Rejected NAME_TAKEN or OTHER_STATE, PermissionDenied, Unauthenticated or
        UsageError.
        """
        try:
            self._renew()
        except (Rejected, PermissionDenied, Unauthenticated, UsageError):
            raise
        except SessauthError as error:
            self._failed(error)
        self._thread.start()

    def close(self) -> None:
        """Allow nothing any more, and leave the server's registry if it answers; without a bound just end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stale_at(_PAST)
        if self._registration.staleness_ms and self._acknowledged >= 0:
            try:
                self._register(replace(self._registration, process_started=0, leave=True))
            except SessauthError as error:
                # The server drops it later, by its bound.
                _log.info("verifier %s could not leave: %s", self._registration.name, error)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                if self._due():
                    self._renew()
            except SessauthError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - it goes on, and the bound runs meanwhile
                _log.exception("verifier %s could not renew its registration", self._registration.name)
                self._failed(error)

    def _due(self) -> bool:
        now_ms = self._clock.steady_ms()
        if now_ms < self._retry_at_ms:
            return False
        server, revision = self._source.called_for()
        return now_ms >= self._renew_at_ms or server != self._server or revision > self._acknowledged

    def _renew(self) -> None:
        """Acknowledge the present revision. The verifier counts for one more bound from the start of this."""
        began_ms = self._clock.steady_ms()
        server, _ = self._source.called_for()
        head = self._source.head()
        if self._view.lost or self._view.revision < head.revision:
            raise StateError("the verifier's view is behind its own state folder; open it again")
        latest = self._register(
            replace(
                self._registration,
                cluster_id=head.cluster_id,
                incarnation=head.incarnation,
                revision=head.revision,
            )
        )
        # The view must include every end that the server knew when it accepted the acknowledgement.
        if self._view.revision < latest:
            raise StateError("the verifier's view is behind its server; does it read the server's own state?")
        staleness_ms = self._registration.staleness_ms
        self._stale_at(began_ms + staleness_ms)
        self._acknowledged, self._server = head.revision, server
        self._renew_at_ms = began_ms + (staleness_ms // RENEWALS or RENEW_MS)
        self.problem = ""

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Rejected):
            # Another verifier has the name, or the state is another one: the server does not count this one.
            self._stale_at(_PAST)
        self._retry_at_ms = self._clock.steady_ms() + RETRY_MS
        if not self.problem:
            _log.warning("verifier %s is not registered: %s", self._registration.name, error)
        self.problem = str(error) or type(error).__name__

    def _stale_at(self, steady_ms: int) -> None:
        if self._registration.staleness_ms:
            self._view.stale_at(steady_ms)
