"""Renewal of a live session's lease, in a thread."""

from __future__ import annotations

import threading
import time

from ...errors import SessauthError
from .._live_state import LiveState
from .._sync.sessions import SessionCalls


class LeaseRenewal:
    """The thread that renews a lease until it is stopped or the session is lost."""

    def __init__(self, client: SessionCalls, live: LiveState) -> None:
        """Start the thread."""
        self._client = client.with_timeout(live._renewal_timeout_ms())
        self._live = live
        self._stopped = threading.Event()
        name = f"sessauth-lease-{live.id.hex()[:8]}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()

    def _run(self) -> None:
        delay_s: float | None = self._live._renewal_interval_s()
        while delay_s is not None and not self._stopped.wait(delay_s):
            sent_at_s = time.monotonic()
            try:
                self._client.keep_alive(self._live.id)
                delay_s = self._live._renewed(sent_at_s)
            except SessauthError as error:
                delay_s = self._live._renewal_failed(error)
