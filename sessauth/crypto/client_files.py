"""The certificate files of a TLS client that lives long, read again when they change."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import ConfigError

_log: Final = logging.getLogger(__name__)
_CHECK_EVERY_S: Final = 1.0
_Stamps = tuple[tuple[int, int, int], ...]


class ClientPem(NamedTuple):
    """The content of the files, in the order in which gRPC takes them; None for each that is not stated."""

    ca: bytes | None
    private_key: bytes | None
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """PEM files: the CA that signed the servers' certificates, and a client's certificate with its key.

    ``ca`` None: gRPC's default roots. ``certificate`` and ``private_key`` None: the client shows none.
    """

    ca: Path | None
    certificate: Path | None
    private_key: Path | None

    def stamps(self) -> _Stamps:
        """Return values that differ once a file was replaced or written. Raises OSError."""
        paths = (self.ca, self.certificate, self.private_key)
        found = [path.stat() for path in paths if path is not None]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)

    def read(self) -> ClientPem:
        """Return the contents of the files. Raises OSError if they can't be used."""
        # gRPC would only fail each handshake. A key with a passphrase can't be read.
        judge = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        key = certificate = None
        if self.certificate is not None and self.private_key is not None:
            judge.load_cert_chain(self.certificate, self.private_key, password=lambda: b"")
            key, certificate = self.private_key.read_bytes(), self.certificate.read_bytes()
        ca = None if self.ca is None else self.ca.read_bytes()
        if self.ca is not None:
            judge.load_verify_locations(self.ca)
        return ClientPem(ca, key, certificate)


class ClientCredentials:
    """Credentials by files. Those of the last good files stay in use."""

    def __init__(self, files: ClientFiles, settings: str) -> None:
        """Read the files, which ``settings`` name. Raises ConfigError if they can't be used."""
        self._files = files
        self._settings = settings
        self._lock = threading.Lock()
        self._checked_at_s = time.monotonic()
        try:
            # Before the files: a change in between is read again.
            self._stamps = files.stamps()
            self.current = files.read()
        except OSError as error:
            raise ConfigError(f"{settings}: can't be used: {error}") from None

    def changed(self) -> bool:
        """Read changed files, at most once a second; True if ``current`` is new."""
        if time.monotonic() - self._checked_at_s < _CHECK_EVERY_S or not self._lock.acquire(blocking=False):
            return False
        try:
            self._checked_at_s = time.monotonic()
            stamps = self._files.stamps()
            if stamps == self._stamps:
                return False
            # Those that can't be used are logged once, until they change again.
            self._stamps = stamps
            self.current = self._files.read()
        except OSError as error:
            _log.error("%s: the changed files can't be used: %s", self._settings, error)
            return False
        finally:
            self._lock.release()
        return True
