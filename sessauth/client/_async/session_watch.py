"""A watch of sessions: one stream after the other, and no event twice."""

from __future__ import annotations

from typing import Self

from ...errors import SessauthError
from .._tasks.event_stream import AsyncEventStream
from .._watch.events import SessionEvent


class AsyncSessionWatch(AsyncEventStream):
    """Iterates over the events of sessions; made by :meth:`AsyncClient.watch_sessions`.

    A stream that breaks is opened again from where it broke. The watch is established when its ``async with``
    block is entered, else when the first event is requested. Leave the block, or close it, to end it. For one
    task, except for :meth:`close`.
    """

    def __aiter__(self) -> Self:
        """Return the watch."""
        return self

    async def __anext__(self) -> SessionEvent:
        """Wait for the next event.

        Ends when the watch was closed or its time is over. Raises Unavailable when no server answered for too
        long, Rejected COMPACTED when the log no longer has the next event, and other refusals of a server.
        """
        while not self._over():
            event = self._cursor.next()
            if event is not None:
                return event
            await self._advance()
        await self.close()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Return the watch once it is established: it misses nothing that happens from here on."""
        try:
            while not self._cursor.established and not self._over():
                await self._advance()
        except BaseException:
            # The caller does not get the watch, and so can't close it.
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def _advance(self) -> None:
        """Store the next response, or pause after a break. Raises the error that ends the watch."""
        try:
            self._cursor.accept(await self._receive())
        except SessauthError as error:
            self._stream = None
            if not self._over():
                await self._pause(self._limited(self._cursor.pause(error)))
