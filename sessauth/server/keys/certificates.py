"""The certificate files of the TCP listeners: reloaded when they change; their end is logged."""

from __future__ import annotations

import base64
import calendar
import logging
import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc

from ...clock import Clock, SystemClock
from ...errors import ConfigError, StateUnusable
from ..config.config import Config
from ..log import event
from ..process import preflight

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_VERSION: Final = 0xA0
# Two-digit years from here on are of the century before (RFC 5280, 4.1.2.5.1).
_CENTURY: Final = 50


def first_der(pem: bytes) -> bytes:
    """Return the first certificate of a PEM file in DER; empty if there is none."""
    found = _PEM.search(pem)
    return base64.b64decode(found.group(1)) if found is not None else b""


def validity(der: bytes) -> tuple[int, int]:
    """Return the begin and the end of a certificate's validity, in seconds since 1970.

    Raises ValueError if ``der`` is no certificate.
    """
    try:
        _, certificate = next(_parts(der))
        _, body = next(_parts(certificate))
        fields = [part for part in _parts(body) if part[0] != _VERSION]
        # Serial number, algorithm, issuer, validity.
        (first, begin), (last, end) = _parts(fields[3][1])
        return _seconds(first, begin), _seconds(last, end)
    except (IndexError, StopIteration) as error:
        raise ValueError("it is no certificate") from error


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of a DER sequence's content."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size >= 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise IndexError
        yield tag, data[at : at + size]
        at += size


def _seconds(tag: int, content: bytes) -> int:
    text = content.decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _CENTURY else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("it has no validity")
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def certificate_end(config: Config) -> float:
    """Return the end of the listeners' certificate, in seconds since 1970; 0 if it can't be read."""
    if not config.tcp.certificate:
        return 0.0
    try:
        return float(validity(first_der(config.path(config.tcp.certificate).read_bytes()))[1])
    except (OSError, ValueError):
        return 0.0


class Certificates:
    """Reloads the certificate files when they change; the last good set stays in use."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        """Use the files that ``config`` names."""
        self._config = config
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._in_use: tuple[tuple[int, int], ...] = ()
        # Files that could not be used: logged once.
        self._refused: tuple[tuple[int, int], ...] | None = None

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files. Raises ConfigError if they can't be used now.

        With ``tcp.client_ca`` a client without a certificate that it signed gets no connection.
        """
        try:
            self._in_use = self._stamps()
            first = self._read()
        except OSError as error:
            name = "" if error.filename is None else f"{error.filename}: "
            raise ConfigError(
                f"tcp.certificate, tcp.private_key, tcp.client_ca: {name}{error.strerror or error}"
            ) from error
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._fetch,  # type: ignore[arg-type]  # grpc documents None: keep the set in use
            require_client_authentication=bool(self._config.tcp.client_ca),
        )

    def _files(self) -> list[Path]:
        tcp = self._config.tcp
        stated = [tcp.certificate, tcp.private_key, *([tcp.client_ca] if tcp.client_ca else [])]
        return [self._config.path(name) for name in stated]

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple((found.st_ino, found.st_mtime_ns) for found in (file.stat() for file in self._files()))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """Load the files.

        Raises OSError if they can't be used, StateUnusable if others can read the key or change a file.
        """
        preflight.check_tls(self._config)
        files = self._files()
        certificate, private_key, *roots = [file.read_bytes() for file in files]
        judge = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # gRPC would only fail each handshake. A key with a passphrase can't be read.
        judge.load_cert_chain(files[0], files[1], password=lambda: b"")
        for root in roots:
            judge.load_verify_locations(cadata=root.decode("ascii", "replace"))
        self._judge_validity(certificate)
        return grpc.ssl_server_certificate_configuration(
            [(private_key, certificate)], root_certificates=roots[0] if roots else None
        )

    def _judge_validity(self, certificate: bytes) -> None:
        """Log a certificate that is not valid now: clients that verify it get no connection."""
        try:
            begins, ends = validity(first_der(certificate))
        except ValueError as error:
            event(logging.WARNING, "certificate_unread", error=str(error))
            return
        now = self._clock.now_ms() // 1000
        if not begins <= now < ends:
            file = str(self._config.path(self._config.tcp.certificate))
            fields = {"file": file, "begins_s": begins, "ends_s": ends}
            if now >= ends:
                event(logging.ERROR, "certificate_expired", **fields)
            else:
                event(logging.ERROR, "certificate_not_yet_valid", **fields)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a new set for gRPC, which calls this for each handshake; None: keep the set in use."""
        with self._lock:
            stamps: tuple[tuple[int, int], ...] = ()
            try:
                stamps = self._stamps()
                if stamps in (self._in_use, self._refused):
                    return None
                found = self._read()
            except (OSError, StateUnusable) as error:
                if stamps != self._refused:
                    event(logging.ERROR, "certificates_not_reloaded", error=str(error))
                self._refused = stamps
                return None
            self._in_use, self._refused = stamps, None
            event(logging.INFO, "certificates_reloaded")
            return found
