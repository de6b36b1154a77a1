"""Sockets, TLS and the hardening of the transport."""

from __future__ import annotations

import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ... import limits
from ...errors import ConfigError
from ..config.config import Config
from ..config.sections import host_and_port
from ..keys.certificates import Certificates
from ..log import event

if TYPE_CHECKING:
    from ..transport.native import NativeServer

# A batch of 1024 items with tokens of 8 KiB is 8 MiB; arguments share the rest.
MAX_REQUEST_BYTES: Final = 12 << 20
MAX_METADATA_BYTES: Final = 2 * limits.MAX_TOKEN_BYTES
# ``sun_path`` without its final zero.
MAX_SOCKET_PATH_BYTES: Final = 107


def bind_unix(server: NativeServer, path: Path) -> None:
    """Listen on a Unix socket of mode 0660, replacing one without a listener.

    Raises ConfigError if the path is too long, is something else, or is in use.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"server.run_dir: {path} is longer than a socket's path may be (107 bytes)")
    _remove_stale(path)
    # The file is born with its mode: between bind and chmod it would be open to others.
    before = os.umask(0o117)
    try:
        server.add_port(f"unix:{path}")
    except OSError as error:
        raise ConfigError(f"{path}: can't be listened on: {error}") from error
    finally:
        os.umask(before)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: is in the way and no socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}; remove it if no server uses it") from error
    raise ConfigError(f"{path}: another server listens there")


def bind_problem(address: str) -> str:
    """Return why HOST:PORT can't be listened on; empty if it can. Binds without listening."""
    try:
        host, port = host_and_port(address)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, ValueError, ConfigError) as error:
        # ValueError: a name that can be none of a host.
        return getattr(error, "strerror", None) or str(error)
    return ""


def bind_tcp(server: NativeServer, config: Config, address: str, setting: str) -> int:
    """Listen on TCP with TLS, or without if ``insecure_tcp`` says so; returns the port.

    ``setting`` is the one that states the address. Raises ConfigError if a certificate file can't be read or
    the address can't be had.
    """
    try:
        if config.tcp.insecure_tcp:
            event(
                logging.WARNING,
                "insecure_tcp",
                address=address,
                meaning="credentials and tokens travel in the clear; anyone who sees them can use them",
            )
            return server.add_port(address)
        return server.add_port(address, server.tls(Certificates(config)))
    except (OSError, ValueError) as error:
        problem = bind_problem(address) or str(error)
        raise ConfigError(f"{setting}: {address} can't be listened on: {problem}") from error
