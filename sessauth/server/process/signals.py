"""Signals of a process, and its messages to the service manager.

Each signal is handled by a thread of its own, which the handler wakes. A handler itself runs on the main
thread, in the middle of any statement. There it may meet a lock that is held by the code that it interrupted,
or by another handler, and wait forever.

Messages to the service manager are those of systemd's sd_notify(3). Each is one datagram to the socket that
``NOTIFY_SOCKET`` names. Without that variable nothing is sent.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final

from ..log import event

# By default they end a process without a drain.
HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def set_on(event: threading.Event, *numbers: int) -> None:
    """Set ``event`` when this process gets one of the signals ``numbers``, however many come at once."""
    call_on(event.set, *numbers)


def call_on(action: Callable[[], object], *numbers: int) -> None:
    """Call ``action`` in a thread when this process gets one of the signals ``numbers``.

    Signals that come while it runs cause one more call together.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def signalled(*_: object) -> None:
        # Full of signals that nobody has read yet.
        with suppress(BlockingIOError):
            os.write(writer, b"\0")

    def call() -> None:
        while os.read(reader, 1 << 16):
            action()

    threading.Thread(target=call, name="sessauth-signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, signalled)


def ignore_harmless() -> None:
    """Ignore the signals that have no meaning for a process, in place of its end."""
    for number in HARMLESS:
        signal.signal(number, signal.SIG_IGN)


def take_stop_signals(stopping: threading.Event) -> None:
    """Set ``stopping`` when this process is to end; ignore SIGHUP and the signals of users otherwise."""
    ignore_harmless()
    # A terminal that is closed sends SIGHUP: its server ends too.
    hangup = [signal.SIGHUP] if sys.stderr.isatty() else []
    set_on(stopping, signal.SIGTERM, signal.SIGINT, *hangup)


def reload_on_hangup(reload: Callable[[], object]) -> None:
    """Call ``reload`` for each SIGHUP, unless stderr is a terminal, whose end is the process's."""
    if not sys.stderr.isatty():
        call_on(reload, signal.SIGHUP)


MAX_STATUS_CHARS: Final = 200


class ServiceManager:
    """The manager that started this process, if one did. No method raises, and none waits."""

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        """Send to ``address``, a path, or ``@`` and an abstract name; empty: to nobody.

        The manager ends the process that is silent for ``watchdog_seconds``; 0: it does not watch.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        # Half of the time, as sd_watchdog_enabled(3) recommends.
        self.pause_seconds = watchdog_seconds / 2
        self._alive_at = 0.0
        self._reported = False
        # From ``READY=1`` until ``STOPPING=1``. A reload comes from another thread.
        self._serves = False
        self._order = threading.Lock()

    @classmethod
    def of_environment(cls, environ: MutableMapping[str, str]) -> ServiceManager:
        """Return the manager that ``environ`` names, and take its variables away.

        They are not for workers: one that is ready would answer for the service.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        watchdog, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        watched = watchdog.isdecimal() and pid in ("", str(os.getpid()))
        return cls(address, int(watchdog) / 1e6 if watched and address else 0.0)

    def ready(self, status: str) -> None:
        """State that the process serves."""
        with self._order:
            self._serves = True
            self._send_ready(status)

    def reloading(self) -> None:
        """State that the settings are read again, until :meth:`reloaded`; nothing unless it serves."""
        with self._order:
            if self._serves:
                now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def reloaded(self, status: str) -> None:
        """State that the process serves again; nothing if it did not before, or drains by now."""
        with self._order:
            if self._serves:
                self._send_ready(status)

    def _send_ready(self, status: str) -> None:
        self._status = _line(status)
        self._send("READY=1", f"STATUS={self._status}")

    def stopping(self) -> None:
        """State that the process drains."""
        with self._order:
            self._serves = False
            self._send("STOPPING=1", "STATUS=draining")

    def status(self, status: str) -> None:
        """Send the state of the process in words, if it changed."""
        line = _line(status)
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """State that the process goes on, if that is due."""
        now = time.monotonic()
        if self.pause_seconds and now - self._alive_at >= self.pause_seconds:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(lines).encode(), self._address)
        except (OSError, ValueError) as error:
            if not self._reported:
                event(logging.WARNING, "service_manager_unreachable", error=str(error))
            self._reported = True


def _line(text: str) -> str:
    """Return ``text`` as one line: a further one would be a message of its own."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_STATUS_CHARS]
