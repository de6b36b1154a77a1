"""Running tools that are watched: they are stopped when their permission ends.

A watched call is surveyed again and again with its own arguments (token-format.md, section 9.12), which
charges nothing and needs no proof. It goes on while that is not a NO. A verifier that does not answer ends it
too. A generator is surveyed before it runs on and before each item is given out.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing, closing
from contextvars import ContextVar
from inspect import isasyncgen, isgenerator
from typing import Any, Final, TypeVar, cast

from ..decisions.survey import Candidate
from .call import CallTerms, ToolCall
from .denied import WITHDRAWN, ToolDenied
from .driving import Steps, drive, drive_async
from .tool_judge import ToolJudge, is_possible

T = TypeVar("T")

# A survey in this process costs a few microseconds, one over gRPC a call.
EMBEDDED_INTERVAL_MS: Final = 20
REMOTE_INTERVAL_MS: Final = 250

_ended: ContextVar[threading.Event | None] = ContextVar("sessauth_withdrawn", default=None)


def withdrawn() -> bool:
    """Return True in a blocking tool whose permission ended while it runs: it should stop.

    A coroutine is cancelled instead. False outside a watched call.
    """
    event = _ended.get()
    return event is not None and event.is_set()


def run_watched(judge: ToolJudge, call: ToolCall, do: Callable[[], T]) -> T:
    """Run a blocking tool, whose :func:`withdrawn` becomes true when its permission ends.

    Raises:
        ToolDenied: WITHDRAWN if it ended meanwhile, also when the tool has finished.
    """
    event, done = threading.Event(), threading.Event()
    context = _ended.set(event)
    thread = threading.Thread(
        target=_poll, args=(judge, call, event, done), name="sessauth-guard-watch", daemon=True
    )
    thread.start()
    try:
        result = do()
    finally:
        done.set()
        _ended.reset(context)
        thread.join()
    if isgenerator(result):
        return cast("T", _watched_items(judge, call, result))
    if event.is_set():
        # Never of a guard that observes: its calls always stand.
        judge.refuse(ToolDenied(call.tool, WITHDRAWN))
    return result


async def arun_watched(judge: ToolJudge, call: ToolCall, do: Callable[[], Awaitable[T]]) -> T:
    """Run a tool as a task that is cancelled when its permission ends.

    Raises:
        ToolDenied: WITHDRAWN if it was cancelled for that.
    """
    result: Any = await _arun_until(_apoll(judge, call), judge, call.tool, do)
    return cast("T", _awatched_items(judge, call, result) if _is_stream(result) else result)


async def arun_standing(judge: ToolJudge, terms: CallTerms, do: Callable[[], Awaitable[T]]) -> T:
    """Run a task that is cancelled when the token of ``terms`` stands no more.

    Raises:
        ToolDenied: WITHDRAWN if it was cancelled for that.
    """
    return await _arun_until(_apoll_token(judge, terms), judge, "", do)


async def _arun_until(
    end: Coroutine[Any, Any, None], judge: ToolJudge, name: str, do: Callable[[], Awaitable[T]]
) -> T:
    tool = asyncio.ensure_future(do())
    watch = asyncio.ensure_future(end)
    try:
        await asyncio.wait((tool, watch), return_when=asyncio.FIRST_COMPLETED)
        # Where both are done the permission ended first or at once: its result is not given out.
        if not watch.done():
            return tool.result()
    finally:
        for task in (tool, watch):
            task.cancel()
        await asyncio.gather(tool, watch, return_exceptions=True)
    denied = ToolDenied(name, WITHDRAWN)
    judge.refuse(denied)
    raise denied


def _watched_items(judge: ToolJudge, call: ToolCall, items: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a generator, and give out its items, while its permission stands. Raises ToolDenied WITHDRAWN."""
    sent = None
    with closing(items):
        while True:
            drive(_require_standing(judge, call))
            try:
                item = items.send(sent)
            except StopIteration as done:
                return cast("T", done.value)
            drive(_require_standing(judge, call))
            sent = yield item


async def _awatched_items(
    judge: ToolJudge, call: ToolCall, items: AsyncGenerator[Any]
) -> AsyncGenerator[Any]:
    """Do as :func:`_watched_items`, awaited."""
    async with aclosing(items):
        while True:
            await drive_async(_require_standing(judge, call))
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            await drive_async(_require_standing(judge, call))
            yield item


def _is_stream(result: object) -> bool:
    # Not a type guard, which would have items of no type.
    return isasyncgen(result)


def _require_standing(judge: ToolJudge, call: ToolCall) -> Steps[None]:
    if not (yield from _stands(judge, call)):
        judge.refuse(ToolDenied(call.tool, WITHDRAWN))


def _stands(judge: ToolJudge, call: ToolCall) -> Steps[bool]:
    """Return True while the call may go on."""
    candidate = Candidate(call.action, call.resource, call.arguments, call.options["tool"])
    options = {name: value for name, value in call.options.items() if name != "tool"}
    try:
        verdicts = yield from judge.survey(call.token, [candidate], options)
        return is_possible(verdicts[0]) or judge.observing
    except Exception:  # noqa: BLE001 - a thread that watches would end, and the call go on
        return judge.observing


def _interval_s(judge: ToolJudge) -> float:
    return (EMBEDDED_INTERVAL_MS if judge.embedded else REMOTE_INTERVAL_MS) / 1000


def _poll(judge: ToolJudge, call: ToolCall, ended: threading.Event, done: threading.Event) -> None:
    while not done.wait(_interval_s(judge)):
        if not drive(_stands(judge, call)):
            ended.set()
            return


async def _apoll(judge: ToolJudge, call: ToolCall) -> None:
    while await drive_async(_stands(judge, call)):
        await asyncio.sleep(_interval_s(judge))


async def _apoll_token(judge: ToolJudge, terms: CallTerms) -> None:
    # It was judged just now, and most answers end before it is asked about again.
    await asyncio.sleep(_interval_s(judge))
    while await drive_async(judge.stands(terms)):
        await asyncio.sleep(_interval_s(judge))
