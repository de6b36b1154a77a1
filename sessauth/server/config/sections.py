"""Sections ``[metrics]`` and ``[tracing]``: what the service tells of itself, both off unless stated."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError

OTLP: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter:OTLPSpanExporter"
_IMPORT_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Section ``[metrics]``: HTTP without TLS, on the loopback unless ``insecure_http`` says otherwise."""

    address: str = ""
    insecure_http: bool = False


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Section ``[tracing]``. ``exporter`` is the class that spans go to, as ``module:Class``.

    A tracer provider that the process has already, from ``opentelemetry-instrument`` for instance, goes
    before it.
    """

    enabled: bool = False
    exporter: str = OTLP


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT, or of [HOST]:PORT for IPv6. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"metrics.address: must be HOST:PORT, not {address!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a host of that name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(metrics: MetricsSettings, tracing: TracingSettings) -> None:
    """Refuse what contradicts itself. Raises ConfigError that names the key."""
    if metrics.address:
        host, _ = host_and_port(metrics.address)
        if not is_loopback(host) and not metrics.insecure_http:
            raise ConfigError(
                f"metrics.address: {host} may be reached from other machines, and metrics are served without "
                "TLS or credential; use 127.0.0.1, or set metrics.insecure_http = true if you mean it"
            )
    if not _IMPORT_PATH.fullmatch(tracing.exporter):
        raise ConfigError(f"tracing.exporter: must be module:Class, not {tracing.exporter!r}")
