"""The floor of a call over gRPC: an empty echo on grpcio's own server, as its documentation writes one.

    python -m benchmarks.service.grpcio_echo --socket PATH [--tls ADDRESS CERTIFICATE KEY CLIENT_CA]

A sync ``grpc.server`` with a ThreadPoolExecutor, and handlers that do nothing. A method names the number of
bytes of its answer: ``Unary100`` answers a call with 100 bytes, ``Stream100`` each message of a stream. With
TLS each client needs a certificate. Serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

SERVICE: Final = "/sessauth.bench.Echo/"
METHOD: Final = re.compile(rf"{re.escape(SERVICE)}(Unary|Stream)(\d{{1,8}})")
# The number of the examples in grpcio's documentation.
THREADS: Final = 10


def unary(answer_bytes: int) -> str:
    """Return the method that answers a call with so many bytes."""
    return f"{SERVICE}Unary{answer_bytes}"


def stream(answer_bytes: int) -> str:
    """Return the method that answers each message of a stream with so many bytes."""
    return f"{SERVICE}Stream{answer_bytes}"


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the handler of a method; makes it at its first call."""

    def __init__(self) -> None:
        """Begin without handlers."""
        self._handlers: dict[str, Any] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call; None for an unknown method."""
        handler = self._handlers.get(details.method)
        if handler is None:
            parts = METHOD.fullmatch(details.method)
            if parts is not None:
                handler = self._handlers[details.method] = _handler(parts[1], os.urandom(int(parts[2])))
        return handler


def _handler(kind: str, reply: bytes) -> Any:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        return reply

    def answers(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in requests:
            yield reply

    if kind == "Stream":
        return grpc.stream_stream_rpc_method_handler(answers)
    return grpc.unary_unary_rpc_method_handler(answer)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.grpcio_echo", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--tls", nargs=4)
    options = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(max_workers=THREADS))
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(f"unix:{options.socket}")
    if options.tls:
        address, *files = options.tls
        certificate, key, client_ca = (Path(file).read_bytes() for file in files)
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=client_ca, require_client_auth=True
        )
        server.add_secure_port(address, credentials)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    main()
