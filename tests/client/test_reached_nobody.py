"""A call that failed: whether anybody was reached, so that something may have been done."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessauth.client import AsyncClient, CheckItem, Client, _transport
from sessauth.errors import SessauthError, Unavailable, Unreachable

# An empty SETTINGS frame and its acknowledgement: all that a peer of HTTP/2 must say.
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])
HEADERS = 1
FRAME_HEAD = 9
TERMS: dict[str, Any] = {"subject": "agent", "ceiling": ["read:**"]}

Handle = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(_transport, "RETRY_DELAYS_S", (0.01, 0.01))


def sync_failure(target: str, call: str) -> SessauthError:
    """Return the error of a blocking client for a change, a check or a stream."""

    def ask() -> None:
        with Client(target, "", insecure_tcp=True, timeout_ms=10_000) as client:
            if call == "change":
                client.open_session(**TERMS)
            elif call == "check":
                client.check("x", "read", "a")
            else:
                list(client.check_stream([CheckItem("x", "read", "a")]))

    with pytest.raises(SessauthError) as raised:
        ask()
    return raised.value


def async_failure(target: str, call: str) -> SessauthError:
    """Return the error of an asyncio client for a change, a check or a stream."""

    async def ask() -> None:
        async with AsyncClient(target, "", insecure_tcp=True, timeout_ms=10_000) as client:
            if call == "change":
                await client.open_session(**TERMS)
            elif call == "check":
                await client.check("x", "read", "a")
            else:
                async for _ in client.check_stream([CheckItem("x", "read", "a")]):
                    pass

    with pytest.raises(SessauthError) as raised:
        asyncio.run(ask())
    return raised.value


CLIENTS = {"sync": sync_failure, "async": async_failure}


@contextmanager
def peer(path: Path, handle: Handle) -> Iterator[socket.socket]:
    """A listening Unix socket whose connections ``handle`` takes, one after the other."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def hang_up(connection: socket.socket) -> None:
    """Close a connection as soon as it is there."""


def lose_the_answer(connection: socket.socket) -> None:
    """Speak HTTP/2 until a request has come, and close without an answer."""
    connection.sendall(SETTINGS)
    connection.settimeout(10)
    data = connection.recv(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), socket.MSG_WAITALL)
    while data:
        head = connection.recv(FRAME_HEAD, socket.MSG_WAITALL)
        if not head or head[3] == HEADERS:
            return
        size = int.from_bytes(head[:3], "big")
        data = connection.recv(size, socket.MSG_WAITALL) if size else head


def no_socket(folder: Path) -> str:
    """Return the path of no socket."""
    return str(folder / "none.sock")


def left_behind(folder: Path) -> str:
    """A socket that a server left behind."""
    with socket.socket(socket.AF_UNIX) as unheard:
        unheard.bind(str(folder / "old.sock"))
    return str(folder / "old.sock")


def refused_port(folder: Path) -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("call", ["change", "check", "stream"])
@pytest.mark.parametrize("place", [no_socket, left_behind, refused_port], ids=lambda place: place.__name__)
def test_nobody_there(tmp_path: Path, place: Callable[[Path], str], call: str, client: str) -> None:
    """No socket, nobody behind it, a refused port: nothing was done, and how a server is started."""
    error = CLIENTS[client](place(tmp_path), call)

    assert isinstance(error, Unreachable)
    for part in ("nothing was done", "sessauth serve", "make serve", "can't be reached"):
        assert part in str(error)
    assert "may have been" not in str(error)
    assert "request_id" not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_somebody_who_hangs_up_at_once(tmp_path: Path, client: str) -> None:
    """No request is sent before the other end speaks the protocol: nothing was done."""
    with peer(tmp_path / "s", hang_up):
        error = CLIENTS[client](str(tmp_path / "s"), "change")

    assert isinstance(error, Unreachable)
    assert "nothing was done" in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_that_is_lost(tmp_path: Path, client: str) -> None:
    """A request went out: the change may have been made, and the request id to repeat it with is named."""
    with peer(tmp_path / "s", lose_the_answer):
        error = CLIENTS[client](str(tmp_path / "s"), "change")

    assert isinstance(error, Unavailable)
    assert not isinstance(error, Unreachable)
    assert "may have been made: repeat it with request_id" in str(error)
    assert "nothing was done" not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_that_is_lost_and_then_nobody(tmp_path: Path, client: str) -> None:
    """The first attempt's request may have been done, although a later one found nobody."""
    lost = threading.Event()

    def lose_one(connection: socket.socket) -> None:
        lose_the_answer(connection)
        (tmp_path / "s").unlink()
        listening.shutdown(socket.SHUT_RDWR)
        lost.set()

    with peer(tmp_path / "s", lose_one) as listening:
        error = CLIENTS[client](str(tmp_path / "s"), "change")
        assert lost.wait(10)

    assert not isinstance(error, Unreachable)
    assert "may have been made" in str(error)
    assert "nothing was done" not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_answers_with_a_refusal_was_reached(tmp_path: Path, client: str) -> None:
    """A refusal is the server's answer, not an unreachable server."""

    class Refusing(grpc.GenericRpcHandler):
        def service(self, details: Any) -> grpc.RpcMethodHandler:
            def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
                raise AssertionError

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Refusing()])
    server.add_insecure_port(f"unix:{tmp_path / 's'}")
    server.start()
    try:
        error = CLIENTS[client](str(tmp_path / "s"), "change")
    finally:
        server.stop(None)

    assert not isinstance(error, Unreachable)
    assert "may have been made" in str(error)
