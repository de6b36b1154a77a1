"""Find the tests that start processes or wait, which ``make test`` leaves to ``make test-all``.

A test is slow if it, one of its fixtures or anything of ``tests/`` and ``benchmarks/`` that they use names a
call that starts a process or sleeps. No list of tests has to be kept; only where the package itself starts a
process does the test say so, with the mark ``slow``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

STARTS_OR_WAITS = frozenset(
    {
        "Popen",
        "ProcessPoolExecutor",
        "check_output",
        "create_subprocess_exec",
        "execv",
        "execve",
        "fork",
        "forkpty",
        "getfixturevalue",
        "multiprocessing",
        "posix_spawn",
        "pty",
        "sleep",
        "subprocess",
        "sync_playwright",
    }
)


def is_slow(item: pytest.Function) -> bool:
    """Return True if a test, by its fixtures too, starts processes or waits."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return _starts_or_waits(item.function, *(each.func for fixture in fixtures for each in fixture))


@cache
def _starts_or_waits(*begin: Any) -> bool:
    left = list(begin)
    # Members of a class or a module count only where something that was reached names them.
    names: set[str] = set()
    members: dict[str, list[Any]] = {}
    reached: set[int] = set()
    while left:
        each = left.pop()
        if id(each) in reached or not _is_ours(each):
            continue
        reached.add(id(each))
        if isinstance(each, type | ModuleType):
            for name, member in vars(each).items():
                members.setdefault(name, []).append(member)
                if name in names or name in ("__init__", "__enter__", "__exit__", "__call__"):
                    left.append(member)
            left += getattr(each, "__bases__", ())
            continue
        for function in _functions(each):
            new = _names(function.__code__)
            if new & STARTS_OR_WAITS:
                return True
            left += (function.__globals__[name] for name in new & function.__globals__.keys())
            left += (member for name in new - names for member in members.get(name, ()))
            names |= new
    return False


def _is_ours(value: Any) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    wraps = isinstance(value, property | staticmethod | classmethod)
    return wraps or str(name).startswith(("tests.", "benchmarks."))


def _functions(value: Any) -> Iterator[FunctionType]:
    """The functions that a value consists of, without what decorators put around them."""
    if isinstance(value, property):
        yield from (each for each in (value.fget, value.fset) if isinstance(each, FunctionType))
        return
    value = getattr(value, "__func__", value)
    # What @given and @pytest.fixture make of a function.
    value = getattr(getattr(value, "hypothesis", None), "inner_test", value)
    value = getattr(value, "_fixture_function", value)
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, FunctionType):
        yield value
    else:
        yield from (each for each in vars(type(value)).values() if isinstance(each, FunctionType))


@cache
def _names(code: CodeType) -> frozenset[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)
