"""The server's answers with their age, for pages that share them and while the server can't be reached."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from ..client import AsyncClient
from ..clock import Clock
from ..errors import Unavailable

T = TypeVar("T")
# Answers that are remembered; a page needs up to six.
MAX_ANSWERS: Final = 512
# Lifetime of an answer that open pages of the same thing share.
FRESH_MS: Final = 400
# Interval between calls that try a server that can't be reached.
AGAIN_MS: Final = 1_000
# The reason of a server that was reached, and leaves this to the one that leads.
_NOT_LEADER: Final = "NOT_LEADER"


@dataclass(frozen=True, slots=True)
class DatedAnswer(Generic[T]):
    """A value, and the time at which the server gave it, in ms since 1970."""

    value: T
    at_ms: int


@dataclass(slots=True)
class Reach:
    """Times of a server: lost (0: it answers), tried last while lost, answered last; and the fault.

    ``brake`` is the cause for which it denies every check, empty if it does not, or if it can't be asked.
    """

    lost_at_ms: int = 0
    tried_at_ms: int = 0
    fault: str = ""
    answered_at_ms: int = 0
    brake: str = ""


def leads_elsewhere(error: Exception) -> bool:
    """Return True for the answer of a server of a cluster that leaves the question to the one that leads."""
    return isinstance(error, Unavailable) and error.reason == _NOT_LEADER


class RecentAnswers:
    """Asks the server, and falls back on its last answer while it can't be reached."""

    def __init__(self, connect: Callable[[], AsyncClient], clock: Clock) -> None:
        """Ask nothing yet; ``connect`` makes the client, on the loop that uses it."""
        self._connect = connect
        self._client: AsyncClient | None = None
        self.clock = clock
        self.reach = Reach()
        self._answers: OrderedDict[object, DatedAnswer[Any]] = OrderedDict()
        self._running: dict[object, asyncio.Future[Any]] = {}

    @property
    def client(self) -> AsyncClient:
        """The client of the server."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def get(
        self, key: object, ask: Callable[[], Awaitable[T]], fresh_ms: int = FRESH_MS
    ) -> DatedAnswer[T]:
        """Return the answer to ``ask``, one that is at most ``fresh_ms`` old, or the last one there was.

        Raises Unavailable if the server can't be reached and never answered this, or leaves it to another
        one; SessauthError for any other failure, even with an earlier answer.
        """
        found = self._answers.get(key)
        # A lost server is not waited for by every part of every page.
        lost = self.reach.lost_at_ms and self._is_within(self.reach.tried_at_ms, AGAIN_MS)
        if found is not None and (lost or self._is_within(found.at_ms, fresh_ms)):
            return cast("DatedAnswer[T]", found)
        if lost:
            raise Unavailable(self.reach.fault)
        try:
            value = await self._once(key, lambda: self.ask(ask()))
        except Unavailable as error:
            if found is None or leads_elsewhere(error):
                raise
            return cast("DatedAnswer[T]", found)
        return self._put(key, DatedAnswer(value, self.reach.answered_at_ms))

    async def compute(self, key: object, make: Callable[[], Awaitable[T]], fresh_ms: int) -> DatedAnswer[T]:
        """Return the result of ``make``, made again after ``fresh_ms``.

        No server is asked, so none is reached.

        Raises what ``make`` raises.
        """
        found = self._answers.get(key)
        if found is not None and self._is_within(found.at_ms, fresh_ms):
            return cast("DatedAnswer[T]", found)
        at_ms = self.clock.now_ms()
        return self._put(key, DatedAnswer(await self._once(key, make), at_ms))

    def _is_within(self, at_ms: int, most_ms: int) -> bool:
        """Return True if a time was less than ``most_ms`` ago. One to come, of a clock set back, was not."""
        return 0 <= self.clock.now_ms() - at_ms < most_ms

    def _put(self, key: object, answer: DatedAnswer[T]) -> DatedAnswer[T]:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    async def ask(self, ask: Awaitable[T]) -> T:
        """Return an answer, and note whether the server can be reached. Raises the client's errors."""
        try:
            value = await ask
        except Unavailable as error:
            if leads_elsewhere(error):
                self._reached()
                raise
            self.reach.lost_at_ms = self.reach.lost_at_ms or self.clock.now_ms()
            self.reach.fault, self.reach.tried_at_ms = str(error), self.clock.now_ms()
            raise
        self._reached()
        return value

    def _reached(self) -> None:
        self.reach.lost_at_ms, self.reach.answered_at_ms = 0, self.clock.now_ms()

    def forget(self, key: object) -> None:
        """Have the next ``get`` ask, after a change."""
        self._answers.pop(key, None)

    async def _once(self, key: object, make: Callable[[], Awaitable[T]]) -> T:
        """Ask or compute, or wait for the one who does already."""
        if (asking := self._running.get(key)) is None:
            asking = asyncio.ensure_future(make())
            self._running[key] = asking
            asking.add_done_callback(lambda done: self._finished(key, done))
        return cast("T", await asyncio.shield(asking))

    def _finished(self, key: object, done: asyncio.Future[Any]) -> None:
        self._running.pop(key, None)
        if not done.cancelled():
            # Waiting callers have it too. Without this, asyncio would report an error that had none.
            done.exception()
