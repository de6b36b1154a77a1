"""Marks the tests that start processes or wait, and holds the others to it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from tests.support.slow_tests import is_slow

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"}
started: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a process or waits as slow."""
    for item in items:
        if isinstance(item, pytest.Function) and is_slow(item):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Leave what was collected out of each later run of the garbage collector."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Note what starts a process."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        # The module ``platform`` asks uname, once in a process.
        if event in STARTS and "uname" not in str(arguments):
            started.append(f"{event} {arguments}")

    sys.addaudithook(note)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Forget what an earlier test started."""
    started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that started a process, though nothing that it names says so."""
    result = yield
    if started and not item.get_closest_marker("slow"):
        pytest.fail(f"mark it slow, see tests/support/slow_tests.py; it started {started[0][:200]}")
    return result
