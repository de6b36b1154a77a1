"""Memory of the native server's connections, streams and calls, whatever callbacks and clients do."""

from __future__ import annotations

import gc
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from sessauth._fast._http2 import Loop, NativeCall, TlsContext
from tests.support.http2_calls import call, request_fields
from tests.support.http2_frames import DATA, END_HEADERS, HEADERS, RESET, block, frame, message, reset
from tests.support.http2_loop import MAX_MESSAGE, LoopFixture, RawClient, kinds, returns_within
from tests.support.leaks import leaks_descriptors
from tests.support.tls_pair import CA, client_settings

FIELDS = request_fields(b"/a.B/C")
OPEN = frame(HEADERS, END_HEADERS, 1, block(FIELDS))
CANCELLED = reset(1)


@pytest.fixture
def served() -> Iterator[LoopFixture]:
    """A loop whose calls are collected."""
    fixture = LoopFixture()
    yield fixture
    fixture.close()
    assert fixture.loop.connections == 0


def test_a_call_whose_callback_raises_lets_go_of_its_stream(served: LoopFixture) -> None:
    """Each callback of the end is called though one raises, and a command behind it does nothing."""
    client = served.client(OPEN)
    (call_,) = served.calls
    heard: list[object] = []

    def fail() -> None:
        heard.append("written")
        raise ValueError("written")

    def end(cancelled: bool) -> None:
        heard.append(cancelled)
        raise ValueError("ended")

    call_.notice_end(end)
    call_.receive(heard.append)
    # More than the window of the stream: it is not written.
    call_.send(b"x" * MAX_MESSAGE * 2, fail)
    served.turn()
    client.send(CANCELLED)
    served.until(lambda: len(heard) == 3)

    assert heard == ["written", True, None]
    # Streams that come now have the memory of the closed one.
    for stream in (3, 5, 7):
        client.send(frame(HEADERS, END_HEADERS, stream, block(FIELDS)))
    served.turn()
    for _ in range(3):
        call_.cancel()
        call_.end(0, "x" * 64)
        call_.answer(b"y")
    served.turn()
    assert RESET not in kinds(client)
    call_.receive(heard.append)
    call_.send(b"z", lambda: heard.append("again"))
    assert heard[3:] == [None, "again"]
    assert [str(error) for error in served.faults] == ["ended"]


def test_commands_for_a_stream_that_closed_in_the_same_turn(served: LoopFixture) -> None:
    """They do nothing, and each callback is called once."""
    client = served.client(OPEN)
    heard: list[object] = []
    served.calls[0].notice_end(heard.append)
    client.send(CANCELLED)

    def send() -> None:
        served.calls[0].receive(heard.append)
        served.calls[0].send(b"x", lambda: heard.append("written"))
        served.calls[0].end(0, "")

    # From another thread: it is run between the reset and what the call is told of it.
    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    served.turn()

    assert sorted(map(str, heard)) == ["None", "True", "written"]


def test_a_loop_is_not_closed_while_it_polls() -> None:
    """Methods that free memory raise RuntimeError from a callback, and the call is answered all the same."""
    errors: list[Exception] = []

    def accept(call_: NativeCall) -> None:
        for method in (fixture.loop.close, fixture.loop.stop, fixture.loop.stop_listening):
            with pytest.raises(RuntimeError, match="the loop polls") as raised:
                method()
            errors.append(raised.value)
        with pytest.raises(RuntimeError):
            fixture.loop.poll(0)
        with pytest.raises(RuntimeError):
            fixture.loop.listen(fixture.listener)
        call_.answer(b"x")

    fixture = LoopFixture(accept)
    client = fixture.client(*call(1, FIELDS, message(b"")))
    fixture.until(lambda: DATA in kinds(client))
    fixture.close()

    assert len(errors) == 3
    assert fixture.faults == []


def test_a_loop_that_is_dropped_closes_its_connections() -> None:
    """Sockets, streams and calls go with it, and commands to the calls do nothing."""
    assert not leaks_descriptors(_drop_a_loop, times=4)


def _drop_a_loop() -> None:
    """Drop a loop with two calls that are open."""
    fixture = LoopFixture()
    client = fixture.client(OPEN, frame(HEADERS, END_HEADERS, 3, block(FIELDS)))
    calls = list(fixture.calls)
    assert len(calls) == 2
    fixture.loop = None  # type: ignore[assignment]
    gc.collect()
    for each in calls:
        each.cancel()
        each.answer(b"x")
        each.send(b"x", lambda: None)
    client.read()

    assert client.ended
    # A call holds the queue of its commands.
    del calls, each
    fixture.calls.clear()
    fixture.listener.close()
    fixture.close_clients()


def test_a_loop_in_a_circle_of_references_keeps_no_descriptor() -> None:
    """The collector frees it whole."""

    def drop() -> None:
        holder: list[Any] = []
        holder.append(Loop(holder.append, holder.append, max_message=1, max_headers=1, slow_reader_seconds=1))

    assert not leaks_descriptors(drop)


def test_calls_are_freed_without_the_collector(served: LoopFixture) -> None:
    """A call does not hold its callbacks after its end, which hold the call."""

    class Holder:
        def __init__(self, held: NativeCall) -> None:
            self.held = held
            held.notice_end(self.end)
            held.receive(self.end)

        def end(self, _: object) -> None:
            pass

    client = served.client(OPEN)
    holder = Holder(served.calls.pop())
    freed = weakref.ref(holder)
    gc.disable()
    try:
        del holder
        client.send(CANCELLED)
        served.turn()
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("wrong", ["Loop()", "TlsEndpoint(None, 1)"])
def test_wrong_arguments_close_no_descriptor(wrong: str) -> None:
    """Standard input stays open."""
    script = f"""
import os
from sessauth._fast._http2 import Loop
from sessauth._fast._http2 import TlsEndpoint
try:
    {wrong}
except TypeError:
    os.fstat(0)
    print("open")
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, capture_output=True, text=True, check=False
    )

    assert (ran.stdout, ran.returncode) == ("open\n", 0), ran.stderr


def test_a_call_that_no_loop_made_does_nothing() -> None:
    """It has neither a stream nor a loop."""
    made = NativeCall()
    heard: list[object] = []
    made.notice_end(heard.append)
    made.receive(heard.append)
    made.send(b"x", lambda: None)
    made.answer(b"x")
    made.end(0, "x")
    made.cancel()

    assert heard == []


def test_a_copied_descriptor_keeps_no_connection_alive(served: LoopFixture) -> None:
    """No event comes for a connection that is closed here and open in a child before its exec."""
    before = set(os.listdir("/proc/self/fd"))
    client = served.client()
    (opened,) = (
        int(fd) for fd in os.listdir("/proc/self/fd")
        if fd not in before and int(fd) != client.socket.fileno() and os.path.exists(f"/proc/self/fd/{fd}")
    )  # fmt: skip
    copy = os.dup(opened)
    try:
        client.send(b"no frame" * 20)
        served.until(lambda: served.loop.connections == 0)
        client.send(b"more")
        waited = time.monotonic()
        spent = time.process_time()
        served.loop.poll(0.2)
        assert time.monotonic() - waited >= 0.2
        # The event of the copy would come again and again.
        assert time.process_time() - spent < 0.1
    finally:
        os.close(copy)
        client.close()


def test_a_wake_before_a_poll_counts(served: LoopFixture) -> None:
    """The next poll returns at once, and the one after it doesn't."""
    served.loop.wake()
    begun = time.monotonic()
    served.loop.poll(5.0)
    assert time.monotonic() - begun < 2.0

    begun = time.monotonic()
    served.loop.poll(0.1)
    assert time.monotonic() - begun >= 0.1


def test_a_handshake_that_cannot_be_written_does_not_stop_the_loop() -> None:
    """A client with a small window that reads nothing holds its own connection only."""
    chain = b"".join(CA.issue(f"authority {i}").pem for i in range(60))
    leaf = CA.issue("localhost")
    context = TlsContext(leaf.pem + chain, leaf.key_pem)
    loop = Loop(print, print, max_message=1, max_headers=1, slow_reader_seconds=5)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    loop.listen(listener, lambda: context)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    raw.connect(listener.getsockname())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_settings().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    raw.sendall(outgoing.read())

    assert returns_within(10.0, lambda: loop.poll(0.5))
    spent = time.process_time()
    loop.poll(0.3)
    assert time.process_time() - spent < 0.2

    # It goes on as soon as the client reads.
    raw.settimeout(10)
    stop = threading.Event()
    poller = threading.Thread(target=lambda: [loop.poll(0.01) for _ in iter(stop.is_set, True)])
    poller.start()
    try:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(1 << 16))
    finally:
        stop.set()
        poller.join()
    assert client.selected_alpn_protocol() == "h2"
    raw.close()
    loop.stop_listening()
    loop.close()


def test_a_listener_that_has_no_descriptors_left_goes_on(served: LoopFixture) -> None:
    """Accepting fails and is tried again; the connection waits."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = RawClient(served.path)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        served.turn()
        assert served.loop.connections == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    served.until(lambda: served.loop.connections == 1)
    client.close()


def test_a_command_that_raises_is_a_fault_and_those_behind_it_go_on(served: LoopFixture) -> None:
    """A callback is called at once for a call that has ended; its error does not reach the loop's thread."""
    client = served.client(OPEN)
    (call_,) = served.calls
    client.send(CANCELLED)
    served.turn()
    heard: list[object] = []

    def fail() -> None:
        raise ValueError("written")

    def send() -> None:
        call_.send(b"x", fail)
        call_.receive(heard.append)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    served.turn()

    assert heard == [None]
    assert [str(error) for error in served.faults] == ["written"]
