"""Tasks of a process that run again and again."""

from __future__ import annotations

import itertools

import pytest

from sessauth.errors import StateError
from sessauth.server import periodic


def test_what_fails_again_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged at once for another cause, and after the task succeeded."""
    times = itertools.accumulate((0.0, 1.0, 61.0, 1.0, 1.0, 1.0, 1.0, 61.0))
    monkeypatch.setattr(periodic.time, "monotonic", lambda: next(times))
    causes = iter(["a", "a", "a", "b", "", "b", "b", "b"])

    def task() -> None:
        if cause := next(causes):
            raise StateError(cause)

    background = periodic.Background([("a task", task)])
    for _ in range(8):
        background.run_once()

    logged = [record.__dict__["fields"]["error"] for record in caplog.records]
    assert logged == [f"StateError: {cause}" for cause in "aabbb"]
