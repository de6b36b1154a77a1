from collections.abc import Iterable
from typing import Self, final

from sessauth._fast.nonces.table import ReplayTable

__all__ = [
    "ProofKeys",
    "covered_bytes",
    "mac",
    "mac_key_of_holder",
    "request_digest",
    "x25519",
    "x25519_public",
]

@final
class ProofKeys:
    def __new__(
        cls,
        verifier_id: bytes,
        keys: Iterable[tuple[bytes, bytes, int, int]],
        table: ReplayTable | None = None,
    ) -> Self: ...
    @property
    def verifier_id(self) -> bytes: ...
    @property
    def key_ids(self) -> tuple[bytes, ...]: ...
    @property
    def replay_table(self) -> ReplayTable | None: ...

def mac(key: bytes, message: bytes) -> bytes: ...
def mac_key_of_holder(
    proof_secret: bytes, verifier_key: bytes, next_key: bytes, verifier_id: bytes
) -> bytes: ...
def covered_bytes(
    kind: int,
    last_signature: bytes,
    verifier_id: bytes,
    key_id: bytes,
    request_digest: bytes,
    time_ms: int,
    nonce: bytes,
) -> bytes: ...
def request_digest(action: bytes | str, resource: bytes | str, arguments: bytes = b"") -> bytes: ...
def x25519(secret: bytes, public_key: bytes) -> bytes: ...
def x25519_public(secret: bytes) -> bytes: ...
