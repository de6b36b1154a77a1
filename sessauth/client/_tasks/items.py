"""Items of a stream of checks, from a source of either kind."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable

from .._results import CheckItem


async def async_enumerate(
    items: Iterable[CheckItem] | AsyncIterable[CheckItem],
) -> AsyncIterator[tuple[int, CheckItem]]:
    """Yield each item with its number, counted from 0."""
    if isinstance(items, AsyncIterable):
        number = 0
        async for item in items:
            yield number, item
            number += 1
    else:
        for pair in enumerate(items):
            yield pair
