"""The listening server of an authorizer: on the native loop where libnghttp2 is, otherwise on gRPC's core."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..._fast._codec import DirectCaller, DirectMethod
from ...errors import ConfigError, UsageError
from ...server import log as server_log
from ...server.rpc.listen import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, bind_problem, bind_unix, options
from ...server.rpc.pool import BoundedPool, PoolShare
from ...server.transport.loop import GrpcServer
from ...server.transport.receiving import Receiving
from ...server.transport.rpc import Plan, Rpc
from ...verifier.base import BaseVerifier
from .authorizer import ExtAuthz

if TYPE_CHECKING:
    from ...server.transport.native import NativeServer

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
HEALTH: Final = "/grpc.health.v1.Health/Check"
# HealthCheckResponse: SERVING.
_SERVING: Final = b"\x08\x01"
# Calls that wait for a signature or for the server, beside those on the loop.
THREADS: Final = 8
# Envoy is one caller, with half of them.
PLACES: Final = 1_024
RECEIVE_MS: Final = 2_000
SLOW_READER_SECONDS: Final = 10.0
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class AuthorizerServer:
    """Answers Envoy's authorization requests, and health checks."""

    def __init__(self, authorizer: ExtAuthz, verifier: BaseVerifier) -> None:
        """Prepare to serve; nothing listens yet."""
        self._authorizer = authorizer
        self._pool = BoundedPool("extauthz", THREADS, PLACES)
        share: PoolShare[Rpc] = PoolShare(self._pool)
        self._receiving = Receiving(RECEIVE_MS)
        self._plan = Plan(share, False, self._run, _refuse, self._receiving.deliver)
        self._sockets: list[Path] = []
        self._server, self.transport = self._made(verifier)

    def _made(self, verifier: BaseVerifier) -> tuple[GrpcServer | NativeServer, str]:
        try:
            from ...server.transport.native import NativeServer

            direct = _DirectChecks(self._authorizer, verifier)
            native = NativeServer(
                self._accept,
                self._receiving,
                max_message=MAX_REQUEST_BYTES,
                max_metadata=MAX_METADATA_BYTES,
                slow_reader_seconds=SLOW_READER_SECONDS,
                certificate_facts=lambda _: {},
                direct=direct,
            )
        except (ImportError, OSError) as error:
            server_log.event(logging.WARNING, "grpcio", why=str(error))
            return GrpcServer(self._accept, self._receiving, options(reuse_port=False)), "grpcio"
        return native, "native"

    def listen(self, address: str, *, insecure_tcp: bool = False) -> str:
        """Listen on a path or HOST:PORT; returns the address with its port.

        Raises:
            ConfigError: if it can't be listened on.
            UsageError: for a host that others reach, without ``insecure_tcp``.
        """
        host, colon, _ = address.rpartition(":")
        if "/" in address or not colon:
            path = Path(address.removeprefix("unix:"))
            bind_unix(self._server, path)
            self._sockets.append(path)
            return str(path)
        if host.strip("[]") not in LOOPBACK and not insecure_tcp:
            raise UsageError(f"listen: {address} has no TLS: use a socket, or insecure_tcp")
        try:
            bound = self._server.add_port(address)
        except (RuntimeError, OSError, ValueError) as error:
            raise ConfigError(f"listen: {address} can't be listened on: {error}") from error
        if not bound:
            problem = bind_problem(address) or "gRPC refused it"
            raise ConfigError(f"listen: {address} can't be listened on: {problem}")
        return f"{host}:{bound}"

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, let running ones end within the grace, and remove sockets."""
        self._server.stop(grace_seconds).wait(grace_seconds + 1)
        self._pool.shutdown(wait=False, cancel_waiting=True)
        while self._sockets:
            self._sockets.pop().unlink(missing_ok=True)

    def _accept(self, rpc: Rpc) -> None:
        if rpc.method not in (CHECK, HEALTH):
            rpc.unimplemented()
            return
        rpc.plan = self._plan
        self._receiving.begin(rpc)

    def _run(self, rpc: Rpc, message: bytes | None) -> None:
        try:
            if rpc.method == HEALTH:
                rpc.answer(_SERVING)
            else:
                rpc.answer(self._authorizer.answer(message or b""))
        except Exception as error:  # noqa: BLE001 - becomes the status of the call, which denies
            server_log.fault("extauthz", error)
            rpc.refuse(error)


class _DirectChecks:
    """Has the loop itself answer requests that need no thread. Any client of the socket may ask."""

    def __init__(self, authorizer: ExtAuthz, verifier: BaseVerifier) -> None:
        from ..._fast._codec import ExtAuthzCaller

        method = DirectMethod("check", verifier, lambda decision, token: "")
        self._caller = ExtAuthzCaller(method, (), authorizer.answer_now)

    @property
    def paths(self) -> Sequence[bytes]:
        return (CHECK.encode(),)

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        return self._caller

    def generation(self) -> int:
        return 0


def _refuse(rpc: Rpc, error: Exception) -> None:
    rpc.refused = True
    rpc.refuse(error)
