"""Renewal of a live session's lease, in a task."""

from __future__ import annotations

import asyncio
import time

from ...errors import SessauthError
from .._async.sessions import AsyncSessionCalls
from .._live_state import LiveState


class AsyncLeaseRenewal:
    """The task that renews a lease until it is stopped or the session is lost."""

    def __init__(self, client: AsyncSessionCalls, live: LiveState) -> None:
        """Start the task."""
        self._client = client.with_timeout(live._renewal_timeout_ms())
        self._live = live
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Renew no more."""
        self._task.cancel()

    async def _run(self) -> None:
        delay_s: float | None = self._live._renewal_interval_s()
        while delay_s is not None:
            await asyncio.sleep(delay_s)
            sent_at_s = time.monotonic()
            try:
                await self._client.keep_alive(self._live.id)
                delay_s = self._live._renewed(sent_at_s)
            except SessauthError as error:
                delay_s = self._live._renewal_failed(error)
