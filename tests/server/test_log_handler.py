"""Lines of the log that nobody reads: nothing waits for them, and what was lost is said."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from sessauth.server import log as log_lines
from sessauth.server.log import JsonFormatter, LogLines
from sessauth.server.process.init import initialise
from sessauth.v1 import session_service_pb2 as sessions
from tests.support.service import SERVE, Caller, RpcError, home_folder, serves, wait_until

NOBODY = "sessauth_key_x_" + "A" * 43


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe; who uses it may have closed one."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def _read(handle: int) -> list[dict[str, object]]:
    with os.fdopen(handle, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _log(handler: logging.Handler, number: int) -> None:
    record = logging.LogRecord("sessauth.server", logging.INFO, "", 0, "counted", None, None)
    record.fields = {"number": number, "padding": "x" * 1_000}
    handler.handle(record)


def test_lines_are_written_whole_in_order_and_what_was_dropped_is_counted(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits while the pipe is full; later come the kept lines, the number of lost ones, new ones."""
    monkeypatch.setattr(log_lines, "FLUSH_SECONDS", 30.0)
    handler = LogLines(pipe[1])
    handler.setFormatter(JsonFormatter())
    total = 3 * log_lines.MAX_LINES
    for number in range(total):
        _log(handler, number)

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(_read, pipe[0])
        handler.flush()
        _log(handler, total)
        handler.flush()
        os.close(pipe[1])
        lines = found.result(30)
    handler.close()

    # The thread may write a little while the queue fills, so lines can be lost in more than one place.
    due, kept = 0, 0
    for line in lines:
        if line["event"] == "log_lines_dropped":
            due += int(str(line["number"]))
        else:
            assert line["number"] == due
            due, kept = due + 1, kept + 1
    assert due == total + 1 and lines[-1]["number"] == total
    assert log_lines.MAX_LINES <= kept - 1 < total


def test_the_end_of_a_process_waits_a_bounded_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush ends though nobody reads, and a reader that is gone ends nothing."""
    monkeypatch.setattr(log_lines, "FLUSH_SECONDS", 0.1)
    handler = LogLines(pipe[1])
    handler.setFormatter(JsonFormatter())
    for number in range(200):
        _log(handler, number)

    handler.flush()
    assert handler._waiting.qsize() > 0
    os.close(pipe[0])
    monkeypatch.setattr(log_lines, "FLUSH_SECONDS", 30.0)
    handler.flush()

    assert handler._waiting.qsize() == 0
    handler.close()


def test_a_server_whose_log_nobody_reads_serves_and_ends(pipe: tuple[int, int]) -> None:
    """Strangers fill the pipe with their refusals: callers are answered, and SIGTERM ends all processes."""
    with home_folder() as home:
        made = initialise(home)
        settings = {"SESSAUTH_HOME": str(home), "SESSAUTH_SERVER_WORKERS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE], env={**os.environ, **settings}, stderr=pipe[1]
        )
        operator = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
        stranger = Caller(f"unix:{made.socket}", NOBODY)
        worker = Caller(f"unix:{home}/run/check-0.sock", NOBODY)
        callers = (operator, stranger, worker)
        try:
            assert wait_until(lambda: serves(operator) and serves(worker))
            _fill(pipe[1])
            for caller, rpc in (
                (stranger, "SessionService/ListSessions"),
                (worker, "AuthorizationService/Check"),
            ):
                for _ in range(3):
                    with pytest.raises(RpcError) as refused:
                        caller.call(rpc, sessions.ListSessionsRequest(), timeout=5.0)
                    assert refused.value.word == "UNAUTHENTICATED"
            operator.call("SessionService/ListSessions", sessions.ListSessionsRequest())
            assert serves(worker)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            for caller in callers:
                caller.close()


def _fill(handle: int) -> None:
    """Write to a pipe until it takes nothing more."""
    os.set_blocking(handle, False)
    with suppress(BlockingIOError):
        while True:
            os.write(handle, b"\n" * 512)
    with suppress(BlockingIOError):
        while True:
            os.write(handle, b"\n")
    os.set_blocking(handle, True)
