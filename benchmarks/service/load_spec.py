"""Input and output of load generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.service.certificate import Certificate
from benchmarks.service.processes import Server

# A single call, and a whole drive of them, are given up after so many seconds.
CALL_SECONDS = 10.0
DRIVE_SECONDS = 120.0


class LoadError(RuntimeError):
    """A load generator failed; the message says how."""


@dataclass(frozen=True)
class Target:
    """Address of a server: ``unix:PATH`` or ``HOST:PORT``, with TLS if there is a certificate to trust.

    ``client`` is the certificate that the client presents.
    """

    address: str
    certificate: Path | None = None
    client: Certificate | None = None


@dataclass(frozen=True)
class Load:
    """Number of connections, and of calls in flight on each."""

    connections: int
    streams: int


@dataclass(frozen=True)
class Call:
    """One kind of call: of whom, what, and what the answers must be.

    ``requests`` are encoded messages, of which a generator that knows only one uses the first.
    ``require`` raises WrongDecision for answers that are not the expected ones. ``answer_bytes`` is the
    length of the answer to the first request, which a generator that can't read answers counts by.
    Several ``targets`` share the connections evenly. ``credential`` is never printed nor put in argv.
    """

    server: Server
    targets: tuple[Target, ...]
    method: str
    requests: tuple[bytes, ...]
    require: Callable[[Sequence[bytes]], None]
    credential: str = ""
    answer_bytes: int = 0


@dataclass(frozen=True)
class Drive:
    """Figures of one drive: calls, wall time and server CPU time in us, and latencies in us.

    ``refused`` counts calls that the server was too busy for; ``late_us`` holds the time from the moment of
    each call of a schedule to its sending.
    """

    calls: int
    wall_us: float
    cpu_us: float
    latencies_us: list[float]
    refused: int = 0
    late_us: tuple[float, ...] = ()


class Generator(Protocol):
    """Drives calls in a closed loop: a new one when one is answered."""

    def drive(self, call: Call, load: Load, count: int) -> Drive:
        """Make ``count`` calls and hold every answer. Raises WrongDecision and LoadError."""
        ...
