"""Chooses the server of the check workers' addresses: the native one, or gRPC's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError
from ..config.config import Config

GRPCIO: Final = "grpcio"
NATIVE: Final = "native"
HOW_TO_GET: Final = "install libnghttp2 1.61 or later (Debian: apt-get install libnghttp2-14)"


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
        if wanted == NATIVE:
            raise ConfigError(
                f"server.check_server: native needs libnghttp2: {error}; {HOW_TO_GET}"
            ) from error
        return CheckServer(GRPCIO, f"{error}; to serve checks natively {HOW_TO_GET}")
    return CheckServer(NATIVE, f"libnghttp2 {version}")


def _load() -> str:
    from ..._fast.http2 import library

    return library.load()
