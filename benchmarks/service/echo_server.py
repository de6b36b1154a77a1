"""The floor of a unary call: the server's own transport and threads around a handler that does nothing.

    python -m benchmarks.service.echo_server SOCKET REPLY_BYTES

It is built from the same parts as the real server (channel options, the lane of checks, the socket) and
leaves out what is ours: routing, credentials, deadlines, messages and the check. Serves until SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

import grpc

from sessauth.server import lanes
from sessauth.server.config import LimitSettings
from sessauth.server.listen import bind_unix, options

SERVICE: Final = "sessauth.bench.Echo"
METHOD: Final = f"/{SERVICE}/Call"


def main() -> None:
    """Serve."""
    path, reply_bytes = Path(sys.argv[1]), int(sys.argv[2])
    reply = os.urandom(reply_bytes)
    opened = lanes.open_lanes(LimitSettings())

    def echo(request: bytes, context: Any) -> bytes:
        return reply

    echo.experimental_thread_pool = opened[lanes.CHECK]  # type: ignore[attr-defined]
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(echo)}
    server = grpc.server(
        opened[lanes.READ],
        handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)],
        options=options(reuse_port=False),
    )
    bind_unix(server, path)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    server.stop(1).wait()
    opened.close()


if __name__ == "__main__":
    main()
