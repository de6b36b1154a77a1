"""Runs the logic of a guard: blocking, or on an event loop that it never blocks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from ..errors import UsageError
from .call import Step

T = TypeVar("T")
Steps = Generator[Step, Any, T]


def drive(steps: Steps[T]) -> T:
    """Run ``steps`` in this thread.

    Raises:
        UsageError: if a step has to be awaited.
    """
    try:
        step = next(steps)
        while True:
            answer, error = _outcome(step)
            if _is_awaitable(answer):
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
                if step.blocks and not inspect.iscoroutinefunction(step.function):
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
    if not step.waits:
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
    try:
        return step.function(*step.args, **step.options), None
    except BaseException as error:  # noqa: BLE001 - for the logic to judge
        return None, error
