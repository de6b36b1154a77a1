"""A listening gRPC server for another gateway, which asks it before it passes a request on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..errors import ConfigError, UsageError
from ..server import log as server_log
from ..server.rpc.pool import BoundedPool, PoolShare
from ..server.transport.native import Direct, NativeServer, Receiving, bind_problem, bind_unix
from ..server.transport.requirements import require_libraries
from ..server.transport.rpc import Plan, Rpc

# Calls that wait for a signature or for the server, beside those on the loop.
THREADS: Final = 8
# The gateway is one caller, who gets half of them.
PLACES: Final = 1_024
RECEIVE_MS: Final = 2_000
SLOW_READER_SECONDS: Final = 10.0
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class ListeningServer:
    """Answers unary calls of some methods, from any client that reaches its socket."""

    def __init__(
        self, name: str, answers: Mapping[str, Callable[[bytes], bytes]], direct: Direct | None = None
    ) -> None:
        """Prepare to serve ``answers`` by the full names of methods; nothing listens yet.

        ``direct`` answers on the loop what needs no thread. Raises ConfigError without libnghttp2.
        """
        require_libraries()
        self._name, self._answers = name, answers
        self._pool = BoundedPool(name, THREADS, PLACES)
        share: PoolShare[Rpc] = PoolShare(self._pool)
        self._receiving = Receiving(RECEIVE_MS)
        self._plan = Plan(share, False, self._run, _refuse, self._receiving.deliver)
        self._server = NativeServer(
            self._accept, self._receiving, slow_reader_seconds=SLOW_READER_SECONDS, direct=direct
        )

    def listen(self, address: str, *, insecure_tcp: bool = False) -> str:
        """Listen on a path or HOST:PORT; returns the address with its port.

        A socket at a path is open to its owner and group.

        Raises:
            ConfigError: if it can't be listened on.
            UsageError: for a host that others reach, without ``insecure_tcp``.
        """
        host, colon, _ = address.rpartition(":")
        if "/" in address or not colon:
            path = Path(address.removeprefix("unix:"))
            bind_unix(self._server, path)
            return str(path)
        if host.strip("[]") not in LOOPBACK and not insecure_tcp:
            raise UsageError(f"listen: others reach {address} without TLS: use a socket, or insecure_tcp")
        try:
            return f"{host}:{self._server.add_port(address)}"
        except (OSError, ValueError) as error:
            problem = bind_problem(address) or str(error)
            raise ConfigError(f"listen: {address} can't be listened on: {problem}") from error

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, let running ones end within the grace, and remove sockets."""
        self._server.stop(grace_seconds).wait(grace_seconds + 1)
        self._pool.shutdown()

    def _accept(self, rpc: Rpc) -> None:
        if rpc.method not in self._answers:
            rpc.unimplemented()
            return
        rpc.plan = self._plan
        self._receiving.begin(rpc)

    def _run(self, rpc: Rpc, message: bytes | None) -> None:
        try:
            rpc.answer(self._answers[rpc.method](message or b""))
        except Exception as error:  # noqa: BLE001 - becomes the status of the call, which denies
            server_log.fault(self._name, error)
            rpc.refuse(error)


def _refuse(rpc: Rpc, error: Exception) -> None:
    rpc.refused = True
    rpc.refuse(error)
