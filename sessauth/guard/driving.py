"""Runs the logic of a guard: blocking, or on an event loop that it never blocks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator
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
            try:
                answer = step.function(*step.args, **step.options)
            except BaseException as error:  # noqa: BLE001 - for the logic to judge
                step = steps.throw(error)
                continue
            if inspect.isawaitable(answer):
                _discard(answer)
                steps.close()
                raise UsageError(
                    "this guard's verifier or callback is awaited: call acheck(), arun() and so on"
                )
            step = steps.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(steps: Steps[T]) -> T:
    """Run ``steps`` on this event loop. A step that blocks runs in a thread, in this context."""
    try:
        step = next(steps)
        while True:
            try:
                if step.blocks and not inspect.iscoroutinefunction(step.function):
                    answer = await asyncio.to_thread(step.function, *step.args, **step.options)
                else:
                    answer = step.function(*step.args, **step.options)
                if inspect.isawaitable(answer):
                    answer = await answer
            except BaseException as error:  # noqa: BLE001 - for the logic to judge
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value


def _discard(answer: Any) -> None:
    """Close a coroutine that is never awaited, which would else warn."""
    if inspect.iscoroutine(answer):
        answer.close()
