"""The registration of a verifier: its message to the server, and the record in the state folder."""

from __future__ import annotations

from dataclasses import dataclass

from .._fast.codec.record import Record


@dataclass(frozen=True, slots=True)
class RegistrationRecord(Record):
    """A verifier that may run for ``staleness_ms`` without a report, stored for the next control process.

    ``principal`` is the owner of its credential, ``instance`` 16 random bytes of the verifier.
    ``process_started`` is the start of its process in clock ticks since the machine's; 0: not known. It
    first registered under this name at ``registered_revision``.
    """

    name: str
    principal: str
    instance: bytes
    process_id: int = 0
    process_started: int = 0
    staleness_ms: int = 0
    registered_revision: int = 0
    registered_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Registration:
    """A verifier's message to its server: its identity, and the state that it uses."""

    name: str
    instance: bytes
    staleness_ms: int
    cluster_id: bytes = b""
    incarnation: bytes = b""
    revision: int = 0
    process_id: int = 0
    process_started: int = 0
    leave: bool = False
