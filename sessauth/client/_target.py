"""Target, credential, TLS files and channel options of a client.

All are read once, when a client is made.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import ConfigError

SOCKET_NAME: Final = "sessauth.sock"
CREDENTIAL_NAME: Final = "operator.credential"
CREDENTIAL_PREFIX: Final = "sessauth_key_"
# A credential is one short line; anything longer is another file.
MAX_CREDENTIAL_BYTES: Final = 4096
# sun_path is 108 bytes with its terminating zero; gRPC reports a longer one as "unreachable".
MAX_SOCKET_PATH_BYTES: Final = 107

# A restarted server should be found within a second, and a peer that hangs noticed within fifteen. gRPC's
# pauses between attempts to connect grow by 1.6, from the initial to the maximal one. Each is up to a fifth
# shorter or longer, so the clients of a lost server do not return at once.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", 12 * 1024 * 1024),
    # Each channel has its own connections, so that several of them spread over several workers.
    ("grpc.use_local_subchannel_pool", 1),
)


# The places of common distributions, for a Python that was built elsewhere.
_CA_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


_PATH: Final = ("unix:", "/", "./", "../")


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate files of a TLS connection, all PEM.

    ``authority`` are the certificates that may sign the server's. None: those of the machine, as
    ``SSL_CERT_FILE`` or its TLS library names them, and those that come with gRPC where it has none.
    ``certificate`` and ``key`` are this client's own, for mTLS. ``server_name`` replaces the host
    of the target when the server's certificate is checked.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the contents of authority, key and certificate, None for each that is not set.

        Raises ConfigError for a file that can't be read, and for a key without a certificate or
        the reverse.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("tls.certificate, tls.key: go together; set both or neither")
        return (
            _read("authority", self.authority or machine_authorities()),
            _read("key", self.key),
            _read("certificate", self.certificate),
        )


def machine_authorities() -> Path | None:
    """Return the file of the CAs that this machine trusts, None if it has none."""
    stated = ssl.get_default_verify_paths().cafile
    return next((path for path in map(Path, filter(None, (stated, *_CA_FILES))) if path.is_file()), None)


def _read(name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"tls.{name}: can't read {path}: {error.strerror}") from None


def default_home() -> Path:
    """Return the folder of a local service: ``$SESSAUTH_HOME``, else ``~/.local/state/sessauth``."""
    set_home = os.environ.get("SESSAUTH_HOME", "")
    return Path(set_home) if set_home else Path.home() / ".local" / "state" / "sessauth"


def resolve_target(target: str | Path | None) -> str:
    """Return a gRPC target for ``target``, ``$SESSAUTH_TARGET``, or the socket of the default home.

    A Path and the text of one, with or without ``unix:`` in front, is a Unix socket. Raises ConfigError
    for an empty target and for a socket path that the system can't address.
    """
    if target is None:
        target = os.environ.get("SESSAUTH_TARGET") or str(default_home() / "run" / SOCKET_NAME)
    if isinstance(target, Path):
        target = f"unix:{target}"
    if not target:
        raise ConfigError("target: empty; give a socket path or HOST:PORT")
    path = target.removeprefix("unix:")
    is_path = "/" in path and ":" not in path
    if path != target or is_path or path.startswith(("/", "./", "../")):
        absolute = Path(path).absolute()
        if len(os.fsencode(absolute)) > MAX_SOCKET_PATH_BYTES:
            raise ConfigError(
                f"target: {absolute} has more than {MAX_SOCKET_PATH_BYTES} bytes, too long for a Unix "
                "socket; choose a shorter SESSAUTH_HOME"
            )
        return f"unix:{absolute}"
    if ":" not in target:
        raise ConfigError(f"target: {target!r} is neither a socket path nor HOST:PORT")
    return target


def resolve_targets(target: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    """Return the gRPC targets of servers that know the same: a sequence, or one text with commas in between.

    A path is always one target, also with a comma in it. Raises ConfigError as :func:`resolve_target` does,
    and if there is no target.
    """
    if target is None:
        target = os.environ.get("SESSAUTH_TARGET") or None
    stated: list[str | Path | None]
    if target is None or isinstance(target, str):
        several = target is not None and "," in target and not target.startswith(_PATH)
        stated = [each.strip() for each in target.split(",")] if several and target else [target]
    else:
        stated = [target] if isinstance(target, Path) else list(target)
    if not stated:
        raise ConfigError("target: empty; give a socket path, HOST:PORT, or several of them")
    return tuple(dict.fromkeys(resolve_target(each) for each in stated))


def is_local(target: str) -> bool:
    """Return whether a resolved target is a Unix socket, whose bytes stay on this machine."""
    return target.startswith("unix:")


def load_credential(path: Path) -> str:
    """Return the credential in the file at ``path``.

    Raises ConfigError for a file that can't be read, that others may read, or that holds something
    else. The message never repeats the file's contents.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_CREDENTIAL_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"credential: can't read {path}: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise ConfigError(f"credential: others may read {path}; run chmod 600 on it")
    text = content.decode("ascii", "replace").strip() if len(content) <= MAX_CREDENTIAL_BYTES else ""
    return check_credential(text, f"the file {path}")


def check_credential(credential: str, origin: str) -> str:
    """Return ``credential`` if it has the form of one; ``origin`` names where it came from.

    Raises ConfigError, without repeating it, if it has not.
    """
    rest = credential.removeprefix(CREDENTIAL_PREFIX)
    if rest == credential or not rest or not credential.isascii() or not credential.isprintable():
        raise ConfigError(f"credential: {origin} does not hold a credential ({CREDENTIAL_PREFIX}NAME_SECRET)")
    if " " in credential:
        raise ConfigError(f"credential: {origin} holds more than one credential")
    return credential


def resolve_credential_file(file: Path | None, target: str) -> Path | None:
    """Return the file of the credential to present to a resolved target, or None.

    In this order: ``file``, the one that ``$SESSAUTH_CREDENTIAL_FILE`` names, and for a Unix socket the
    operator's of the home that the socket lies in, if it exists.
    """
    named = os.environ.get("SESSAUTH_CREDENTIAL_FILE", "")
    if file is not None or named:
        return file or Path(named)
    if is_local(target):
        beside = Path(target.removeprefix("unix:")).parent.parent / CREDENTIAL_NAME
        if beside.is_file():
            return beside
    return None


def resolve_credential(credential: str | None, file: Path | None, target: str) -> str:
    """Return the credential to present, or "" for none.

    That is ``credential`` itself, else the content of the file of :func:`resolve_credential_file`. Raises
    ConfigError as ``load_credential`` does.
    """
    if credential is not None:
        return check_credential(credential, "the argument") if credential else ""
    found = resolve_credential_file(file, target)
    return load_credential(found) if found is not None else ""
