"""An enrolment: what a verifier tells its server, and what the state folder keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from .._fast.codec.record import Record


@dataclass(frozen=True, slots=True)
class RegistrationRecord(Record):
    """Who may judge, kept for the next control process: for ``staleness_ms`` without being heard.

    ``principal`` is whose credential it enrolled with, ``instance`` 16 random bytes of the verifier.
    ``process_started`` is when its process began, in clock ticks since the machine did; 0: not known. It
    first enrolled under this name at ``registered_revision``.
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
    """What a verifier tells its server: who it is, and the state that it judges by."""

    name: str
    instance: bytes
    staleness_ms: int
    cluster_id: bytes = b""
    incarnation: bytes = b""
    revision: int = 0
    process_id: int = 0
    process_started: int = 0
    leave: bool = False
