"""Runs the logic of a guard: blocking, or on an event loop that it never blocks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, TypeVar

from ..errors import UsageError

T = TypeVar("T")
# A function to call for the logic that blocking and awaited guards share, its arguments and options; and how.
Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], int]
Steps = Generator[Step, Any, T]

AT_ONCE: Final = 0
# It must not run on an event loop.
BLOCKS: Final = 1
# It may wait for a person, too.
WAITS: Final = 2


def drive(steps: Steps[T]) -> T:
    """Run ``steps`` in this thread.

    Raises:
        UsageError: if a step has to be awaited.
    """
    try:
        step = next(steps)
        while True:
            error: BaseException | None = None
            try:
                function, args, options, _ = step
                answer = function(*args, **options)
            except BaseException as raised:  # noqa: BLE001 - for the logic to judge
                answer, error = None, raised
            # As _is_awaitable, without its frame.
            if hasattr(type(answer), "__await__"):
                if inspect.iscoroutine(answer):
                    # It would else warn that nobody awaited it.
                    answer.close()
                steps.close()
                raise UsageError("this guard's verifier or callback is awaited: use acheck(), arun() …")
            step = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(steps: Steps[T]) -> T:
    """Run ``steps`` on this event loop. A step that blocks runs in a thread, in this context."""
    try:
        step = next(steps)
        while True:
            error: BaseException | None
            try:
                if step[3] and not inspect.iscoroutinefunction(step[0]):
                    answer, error = await _outcome_in_thread(step)
                else:
                    answer, error = _outcome(step)
                if _is_awaitable(answer):
                    answer = await answer
            except BaseException as raised:  # noqa: BLE001 - for the logic to judge
                error = raised
            step = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as done:
        value: T = done.value
        return value


async def _outcome_in_thread(step: Step) -> tuple[Any, BaseException | None]:
    if step[3] != WAITS:
        return await asyncio.to_thread(_outcome, step)
    # A thread of its own: the loop's are few, and all other calls would wait for the same person.
    pool = ThreadPoolExecutor(1, "sessauth-guard-approve")
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, copy_context().run, _outcome, step)
    finally:
        pool.shutdown(wait=False)


def _is_awaitable(answer: Any) -> bool:
    """Do as ``inspect.isawaitable`` for coroutines and futures, in a tenth of its time."""
    return hasattr(type(answer), "__await__")


def _outcome(step: Step) -> tuple[Any, BaseException | None]:
    """Return the answer of a step, or what it raised.

    Nothing is raised here: a StopIteration that came out of a thread would never reach the waiting task.
    """
    function, args, options, _ = step
    try:
        return function(*args, **options), None
    except BaseException as error:  # noqa: BLE001 - for the logic to judge
        return None, error
