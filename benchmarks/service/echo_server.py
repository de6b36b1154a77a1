"""The floor of a call: the server's own transport and threads around a handler that does nothing.

    python -m benchmarks.service.echo_server --socket PATH [--tcp ADDRESS] [--tls ADDRESS CERTIFICATE KEY]

It is built from the same parts as the real server (channel options, lanes, sockets, TLS) and leaves out what
is ours: routing, credentials, deadlines, messages and the check. A method names how many bytes its answer
has: ``Unary100`` answers a call with 100 bytes, ``Stream100`` each message of a stream. Serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc

from sessauth.server import lanes
from sessauth.server.config import Config, LimitSettings, TcpSettings
from sessauth.server.listen import bind_tcp, bind_unix, options

SERVICE: Final = "/sessauth.bench.Echo/"
METHOD: Final = re.compile(rf"{re.escape(SERVICE)}(Unary|Stream)(\d{{1,8}})")


def unary(answer_bytes: int) -> str:
    """Return the method that answers a call with so many bytes."""
    return f"{SERVICE}Unary{answer_bytes}"


def stream(answer_bytes: int) -> str:
    """Return the method that answers each message of a stream with so many bytes."""
    return f"{SERVICE}Stream{answer_bytes}"


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Finds the handler of a method, made when it is first asked for."""

    def __init__(self, opened: lanes.Lanes) -> None:
        """Answer in the lanes of the real server."""
        self._lanes = opened
        self._handlers: dict[str, Any] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler, or None for an unknown method."""
        handler = self._handlers.get(details.method)
        if handler is None:
            found = METHOD.fullmatch(details.method)
            if found is None:
                return None
            handler = self._handlers[details.method] = self._made(found[1], os.urandom(int(found[2])))
        return handler

    def _made(self, kind: str, reply: bytes) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            return reply

        def answers(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            for _ in requests:
                yield reply

        if kind == "Unary":
            answer.experimental_thread_pool = self._lanes[lanes.CHECK]  # type: ignore[attr-defined]
            return grpc.unary_unary_rpc_method_handler(answer)
        answers.experimental_thread_pool = self._lanes[lanes.STREAM]  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(answers)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.echo_server", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--tcp")
    parser.add_argument("--tls", nargs=3)
    asked = parser.parse_args()
    opened = lanes.open_lanes(LimitSettings())
    server = grpc.server(opened[lanes.READ], handlers=[Echo(opened)], options=options(reuse_port=False))
    bind_unix(server, asked.socket)
    if asked.tcp:
        bind_tcp(server, Config(tcp=TcpSettings(insecure_tcp=True)), asked.tcp)
    if asked.tls:
        address, certificate, private_key = asked.tls
        settings = TcpSettings(certificate=certificate, private_key=private_key)
        bind_tcp(server, Config(tcp=settings), address)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    server.stop(1).wait()
    opened.close()


if __name__ == "__main__":
    main()
