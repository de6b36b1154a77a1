"""The ends of all certificates that the settings name, and warnings before them."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...clock import Clock
from ..config.config import Config
from ..log import event
from .certificates import first_der, validity

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
        begins, ends = validity(first_der(path.read_bytes()))
        if key is not None:
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
        """Log nothing yet."""
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
            self._judge(each, self._clock.now_ms())

    def _judge(self, each: StatedCertificate, now_ms: int) -> None:
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
