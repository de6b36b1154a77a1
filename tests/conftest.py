"""Marks the tests that start processes or wait, and holds the others to it and to their time."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support import cpu_watch
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
    # The hook outlives this module's names.
    starts, noted = STARTS, started

    def note(event: str, arguments: tuple[object, ...]) -> None:
        # The module ``platform`` asks uname, once in a process.
        if event in starts and "uname" not in str(arguments):
            noted.append(f"{event} {arguments}")

    sys.addaudithook(note)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Forget what an earlier test started."""
    started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that started a process, though nothing that it names says so, or that took too long."""
    begin = time.process_time()
    result = yield
    if item.get_closest_marker("slow"):
        return result
    if started:
        pytest.fail(f"mark it slow, see tests/support/slow_tests.py; it started {started[0][:200]}")
    seconds = cpu_watch.limited(time.process_time() - begin, getattr(item, "module", None))
    units = cpu_watch.units(seconds)
    if units > cpu_watch.FAILS and cpu_watch.failing():
        pytest.fail(
            f"make it cheaper or mark it slow: it took {units:.1f} s of CPU, not {cpu_watch.TOLD:.0f}"
        )
    if units > cpu_watch.TOLD:
        item.user_properties.append(("CPU", units))
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of tests that took too long."""
    told = {
        f"{report.nodeid} took {value:.1f} s of CPU, and may take {cpu_watch.TOLD:.0f}"
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "CPU"
    }
    for line in sorted(told):
        terminalreporter.write_line(line)
