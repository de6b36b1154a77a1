"""Chooses the server of the check workers' addresses: the native one, or gRPC's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError
from ..config.config import Config

GRPCIO: Final = "grpcio"
NATIVE: Final = "native"
HOW_TO_GET: Final = "for the native server install libnghttp2 1.61 or later (Debian: libnghttp2-14)"
HOW_TO_GET_TLS: Final = "for the native server install OpenSSL 3 (Debian: libssl3)"


@dataclass(frozen=True, slots=True)
class CheckServer:
    """The server that was chosen, and why."""

    name: str
    why: str

    @property
    def native(self) -> bool:
        """True for the native server."""
        return self.name == NATIVE


def choose(config: Config) -> CheckServer:
    """Return the server for ``server.check_server``.

    Raises ConfigError if it must be the native one and can't be.
    """
    wanted = config.server.check_server
    if wanted == GRPCIO:
        return CheckServer(GRPCIO, "server.check_server says so")
    try:
        version = _load()
    except (ImportError, OSError) as error:
        return _without(wanted, f"{error}; {HOW_TO_GET}")
    if config.tcp.check_address and not config.tcp.insecure_tcp and (problem := _tls_problem()):
        return _without(wanted, f"TLS of tcp.check_address: {problem}; {HOW_TO_GET_TLS}")
    return CheckServer(NATIVE, f"libnghttp2 {version}")


def _without(wanted: str, why: str) -> CheckServer:
    """Return gRPC's server, unless it must be the native one. Raises ConfigError then."""
    if wanted == NATIVE:
        raise ConfigError(f"server.check_server: can't be native: {why}")
    return CheckServer(GRPCIO, why)


# The native server is built for Linux only.
def _load() -> str:
    from ..._fast import _http2 as http2

    return http2.load_nghttp2()


def _tls_problem() -> str:
    from ..._fast import _http2 as http2

    return http2.tls_available()
