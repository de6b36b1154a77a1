"""The gRPC server that agentgateway asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

from ...errors import ConfigError, UsageError
from ...server.rpc.listen import bind_problem
from .policy import ExtMcpPolicy
from .v1 import ext_mcp_pb2 as messages

SERVICE: Final = "agentgateway.dev.ext_mcp.ExtMcp"
THREADS: Final = 8
MAX_CALLS: Final = 256
LOOPBACK: Final = frozenset({"127.0.0.1", "[::1]", "localhost"})


class ExtMcpServer:
    """Serves a policy."""

    def __init__(self, policy: ExtMcpPolicy) -> None:
        """Prepare to serve; nothing listens yet."""
        self._pool = ThreadPoolExecutor(THREADS, "extmcp")
        self._server = grpc.server(
            self._pool, maximum_concurrent_rpcs=MAX_CALLS, options=[("grpc.so_reuseport", 0)]
        )
        handlers = {
            "CheckRequest": _handler(policy.check_request, messages.McpRequest),
            "CheckResponse": _handler(policy.check_response, messages.McpResponse),
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

    def listen(self, address: str, *, insecure_tcp: bool = False) -> str:
        """Listen on a path or HOST:PORT; returns the address with its port.

        A socket at a path is open to its owner and group.

        Raises:
            ConfigError: if it can't be listened on.
            UsageError: for a host that others reach, without ``insecure_tcp``.
        """
        host, colon, _ = address.rpartition(":")
        try:
            if "/" in address or not colon:
                path = Path(address.removeprefix("unix:"))
                before = os.umask(0o117)
                try:
                    self._server.add_insecure_port(f"unix:{path}")
                finally:
                    os.umask(before)
                return str(path)
            if host not in LOOPBACK and not insecure_tcp:
                raise UsageError(f"listen: others reach {address}: use a socket, or --insecure-tcp")
            return f"{host}:{self._server.add_insecure_port(address)}"
        except RuntimeError as error:
            # gRPC's own message names no cause.
            problem = str(error) if "/" in address or not colon else bind_problem(address) or str(error)
            raise ConfigError(f"listen: {address} can't be listened on: {problem}") from None

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and let running ones end within the grace."""
        self._server.stop(grace_seconds).wait()
        self._pool.shutdown(wait=False)


def _handler(answer: Callable[[Any], Any], kind: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        lambda request, _: answer(request),
        request_deserializer=kind.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
