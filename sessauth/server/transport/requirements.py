"""Libraries of the system that the server needs: libnghttp2, and OpenSSL where TLS is asked for."""

from __future__ import annotations

from typing import Final

from ...errors import ConfigError
from ..config import Config

NGHTTP2_PACKAGES: Final = (
    "apt-get install libnghttp2-14, dnf install libnghttp2, or apk add nghttp2-libs; "
    "the server runs on Linux only"
)
OPENSSL_PACKAGES: Final = "apt-get install libssl3, dnf install openssl-libs, or apk add libssl3"


def require_libraries(config: Config | None = None) -> str:
    """Return the version of libnghttp2.

    Raises ConfigError with the commands that install a library which is missing. OpenSSL is needed if
    ``config`` has an address with TLS.
    """
    try:
        version = _load()
    except (ImportError, OSError) as error:
        raise ConfigError(f"the server needs libnghttp2: {error}; {NGHTTP2_PACKAGES}") from error
    tcp = None if config is None else config.tcp
    if tcp is not None and (tcp.address or tcp.check_address) and not tcp.insecure_tcp:
        if problem := _tls_problem():
            raise ConfigError(f"TLS of [tcp] needs OpenSSL 3: {problem}; {OPENSSL_PACKAGES}")
    return version


# The server is built for Linux only.
def _load() -> str:
    from ..._fast import _http2 as http2

    return http2.load_nghttp2()


def _tls_problem() -> str:
    from ..._fast import _http2 as http2

    return http2.tls_available()
