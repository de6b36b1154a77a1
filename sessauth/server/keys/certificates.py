"""The certificate files of the TCP listeners, reloaded when they change; facts of certificates.

The log has warnings before the end of any certificate that the settings name.
"""

from __future__ import annotations

import base64
import calendar
import logging
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ...clock import Clock, SystemClock
from ...errors import ConfigError, StateUnusable
from ...state.host.folder import read_file
from ..config import Config
from ..log import event
from . import local_files

if TYPE_CHECKING:
    from ..._fast._http2 import TlsContext

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
# Tags of DER (X.690) and of RFC 5280, section 4.1.
_BOOLEAN: Final = 0x01
_OCTET_STRING: Final = 0x04
_OBJECT_ID: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_URI: Final = 0x86
_SPACE: Final = 0x20
_DELETE: Final = 0x7F
# 2.5.29.17, subjectAltName.
_ALTERNATIVE_NAMES: Final = b"\x55\x1d\x11"
# Serial number, algorithm, issuer, validity, subject, public key.
_LEAST_FIELDS: Final = 6
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
    fields = _fields(der)
    if len(fields) < _LEAST_FIELDS:
        raise ValueError("it is no certificate")
    # Serial number, algorithm, issuer, validity.
    (first, begin), (last, end) = _parts(fields[3][1])
    return _seconds(first, begin), _seconds(last, end)


def certificate_facts(der: bytes) -> Mapping[str, Sequence[bytes]]:
    """Return the fields of a client certificate used for authentication, named as in gRPC's auth context.

    ``peer_uri`` has the URIs of its subjectAltName (RFC 5280, 4.2.1.6), ``x509_pem_cert`` the certificate in
    PEM. Raises ValueError if ``der`` is no certificate, or its extensions are malformed.
    """
    fields = _fields(der)
    found = [_alternative_names(content) for tag, content in fields if tag == _EXTENSIONS]
    if len(fields) < _LEAST_FIELDS or len(found) > 1:
        raise ValueError("it is no certificate")
    uris = [content for tag, content in (found[0] if found else ()) if tag == _URI]
    # A zero would end the URI where a library takes it for a C string.
    if any(byte <= _SPACE or byte >= _DELETE for uri in uris for byte in uri):
        raise ValueError("a URI of its alternative names has bytes that no URI has")
    return {"peer_uri": uris, "x509_pem_cert": [ssl.DER_cert_to_PEM_cert(der).encode()]}


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of a certificate's fields, from the serial number on."""
    body = next(_parts(_only(der, _SEQUENCE)), (0, b""))[1]
    return [part for part in _parts(body) if part[0] != _VERSION]


def _alternative_names(extensions: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each name in the subjectAltName; none without one."""
    found = []
    for tag, extension in _parts(_only(extensions, _SEQUENCE)):
        # ``critical`` comes between the two, if it is true.
        (kind, name), *critical, (last, value) = [*_parts(extension)] if tag == _SEQUENCE else []
        tags = [kind, *(part[0] for part in critical), last]
        if tags not in ([_OBJECT_ID, _OCTET_STRING], [_OBJECT_ID, _BOOLEAN, _OCTET_STRING]):
            raise ValueError("it has a malformed extension")
        if name == _ALTERNATIVE_NAMES:
            found.append([*_parts(_only(value, _SEQUENCE))])
    if len(found) > 1:
        raise ValueError("it has alternative names twice")
    return found[0] if found else []


def _only(data: bytes, tag: int) -> bytes:
    """Return the content of the one element that ``data`` is."""
    parts = [*_parts(data)]
    if len(parts) != 1 or parts[0][0] != tag:
        raise ValueError("it is no certificate")
    return parts[0][1]


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of a DER sequence's content. Raises ValueError."""
    at = 0
    while at < len(data):
        if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
            raise ValueError("it is not DER")
        tag, size, at = data[at], data[at + 1], at + 2
        if size >= 0x80:
            digits = data[at : at + (size & 0x7F)]
            size, at = int.from_bytes(digits, "big"), at + (size & 0x7F)
            # A length has one form; the indefinite one is BER.
            if size < 0x80 or digits[0] == 0:
                raise ValueError("it is not DER")
        if at + size > len(data):
            raise ValueError("it is not DER")
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
        return float(validity(first_der(read_file(config.path(config.tcp.certificate))))[1])
    except (OSError, ValueError):
        return 0.0


class PemFiles(NamedTuple):
    """The content of the files that ``[tcp]`` names."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None


class Certificates:
    """TLS of a listener, by files that are read again when they change. The last good ones stay in use.

    With ``tcp.client_ca`` a client without a certificate that it signed gets no connection.
    """

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._context: TlsContext | None = None
        self._in_use: tuple[tuple[int, int], ...] = ()
        # Files that could not be used: logged once.
        self._refused: tuple[tuple[int, int], ...] | None = None

    def problem(self) -> str:
        """Return "" if the event loop can serve TLS with the files, else the reason."""
        try:
            pem = _pem_files(self._config)
        except OSError as error:
            return str(error)
        from ..._fast import _http2 as http2

        return http2.tls_self_test(pem.certificate, pem.private_key)

    def context(self) -> TlsContext:
        """Return the context for a new connection: the same one until the files change.

        Only the first call raises, as :meth:`load` does.
        """
        if self._context is None:
            self._context = self.load()
        else:
            self._context = self.reload() or self._context
        return self._context

    def load(self) -> TlsContext:
        """Return a context of the files; log a certificate that is not valid now.

        Raises ConfigError if they can't be used, StateUnusable if they are open to others.
        """
        try:
            self._in_use = self._stamps()
            return self._read()
        except OSError as error:
            name = "" if error.filename is None else f"{error.filename}: "
            raise ConfigError(
                f"tcp.certificate, tcp.private_key, tcp.client_ca: {name}{error.strerror or error}"
            ) from error

    def reload(self) -> TlsContext | None:
        """Return a context of changed files; None: the one in use stays."""
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

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (found.st_ino, found.st_mtime_ns) for found in (file.stat() for file in _paths(self._config))
        )

    def _read(self) -> TlsContext:
        """Load the files.

        Raises OSError if they can't be used, StateUnusable if others can read the key or change a file.
        """
        local_files.check_tls(self._config)
        pem = _pem_files(self._config)
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The server would only fail each handshake. A key with a passphrase can't be read.
        certificate, private_key, *_ = _paths(self._config)
        trial.load_cert_chain(certificate, private_key, password=lambda: b"")
        if pem.client_ca is not None:
            trial.load_verify_locations(cadata=pem.client_ca.decode("ascii", "replace"))
        # It is built for Linux only, as the loop is.
        from ..._fast import _http2 as http2

        found = http2.TlsContext(*pem)
        self._log_invalid(pem.certificate)
        return found

    def _log_invalid(self, certificate: bytes) -> None:
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


def _paths(config: Config) -> list[Path]:
    tcp = config.tcp
    stated = [tcp.certificate, tcp.private_key, *([tcp.client_ca] if tcp.client_ca else [])]
    return [config.path(name) for name in stated]


def _pem_files(config: Config) -> PemFiles:
    certificate, private_key, *roots = [read_file(file) for file in _paths(config)]
    return PemFiles(certificate, private_key, roots[0] if roots else None)


DAY_S: Final = 86_400
# Days before an end at which it is logged, the last one first.
WARN_DAYS: Final = (1, 7, 30)
_CHECK_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class StatedCertificate:
    """A certificate by its setting. Times are in seconds since 1970; ``problem``: why it can't be used."""

    setting: str
    path: Path
    begins_s: int = 0
    ends_s: int = 0
    problem: str = ""

    def days_left(self, now_ms: int) -> int:
        """Return the whole days until it ends, negative ones after that."""
        return (self.ends_s - now_ms // 1000) // DAY_S


def stated_certificates(config: Config) -> Iterator[StatedCertificate]:
    """Yield every certificate that the settings name, with its CA files. Reads the files; never raises."""
    tcp, follow, cluster = config.tcp, config.follow, config.cluster
    pairs = (
        ("tcp.certificate", tcp.certificate, tcp.private_key),
        ("tcp.client_ca", tcp.client_ca, ""),
        ("cluster.certificate", cluster.certificate, cluster.private_key),
        ("cluster.server_ca", cluster.server_ca, ""),
        ("cluster.engine_certificate", cluster.engine_certificate, cluster.engine_private_key),
        ("cluster.engine_ca", cluster.engine_ca, ""),
        ("follow.certificate", follow.certificate, follow.private_key),
        ("follow.server_ca", follow.server_ca, ""),
    )
    for setting, name, key in pairs:
        if name:
            yield _read(setting, config.path(name), config.path(key) if key else None)


def _read(setting: str, path: Path, key: Path | None) -> StatedCertificate:
    try:
        begins, ends = validity(first_der(read_file(path)))
        if key is not None:
            # OpenSSL would wait for the writer of a pipe.
            read_file(key)
            # A key that does not fit, or has a passphrase. Without one OpenSSL would ask the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key, password=lambda: b"")
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return StatedCertificate(setting, path, problem=f"{where}{error.strerror or error}")
    except ValueError as error:
        return StatedCertificate(setting, path, problem=str(error))
    return StatedCertificate(setting, path, begins, ends)


class ExpiryWatch:
    """Logs certificates that end soon: once at each of :data:`WARN_DAYS`, and when they ended."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._next_ms = 0
        # The least number of days that was logged, by certificate; another file starts over.
        self._logged: dict[StatedCertificate, int] = {}

    def poll(self) -> None:
        """Read the certificates once an hour, and log those that crossed a mark."""
        steady_ms = self._clock.steady_ms()
        if steady_ms < self._next_ms:
            return
        self._next_ms = steady_ms + _CHECK_MS
        stated = [each for each in stated_certificates(self._config) if not each.problem]
        self._logged = {each: mark for each, mark in self._logged.items() if each in stated}
        for each in stated:
            self._log_expiry(each, self._clock.now_ms())

    def _log_expiry(self, each: StatedCertificate, now_ms: int) -> None:
        left = each.days_left(now_ms)
        mark = 0 if left < 0 else next((days for days in WARN_DAYS if left < days), None)
        if mark is None or mark >= self._logged.get(each, WARN_DAYS[-1] + 1):
            return
        self._logged[each] = mark
        fields = {"setting": each.setting, "file": str(each.path), "ends_s": each.ends_s, "days_left": left}
        if mark == 0:
            event(logging.ERROR, "certificate_expired", **fields)
        else:
            event(logging.WARNING, "certificate_ends", **fields)
