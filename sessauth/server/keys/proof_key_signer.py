"""Signatures of issuer keys under the proof keys of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from ...crypto.holder_public_key import has_small_order
from ...crypto.issuer_key import KeyRecord
from ...crypto.verifier_key import SignedVerifierKey, VerifierKey
from ...errors import UsageError
from ...limits import CLOCK_STEP_MS
from ..status import invalid, refused
from .issuer_keyring import KeyRing

# An encoded VerifierKey has about 90.
MAX_PAYLOAD_BYTES: Final = 256


class ProofKeySigner(Protocol):
    """Has an issuer key of the service sign the public half of a proof key."""

    def sign(self, key: VerifierKey, issuers: Mapping[bytes, KeyRecord]) -> SignedVerifierKey:
        """Return the signed key. ``issuers`` are the issuer keys of the host's own state, by id.

        Raises ServerError NO_ISSUER_KEY if nothing can sign it now.
        """
        ...


class IssuerSigner:
    """Signs with the newest active key of this host."""

    def __init__(self, keyring: KeyRing) -> None:
        """Sign with the keys of ``keyring``."""
        self._keyring = keyring

    def sign(self, key: VerifierKey, issuers: Mapping[bytes, KeyRecord]) -> SignedVerifierKey:
        """Return the signed key."""
        issuer = self._keyring.newest_active(issuers.values())
        if issuer is None:
            raise refused("NO_ISSUER_KEY", "no active issuer key of the service is here to sign with")
        return key.signed_by(issuer)


def signable(payload: bytes, cluster_id: bytes, now_ms: int, lifetime_ms: int) -> VerifierKey:
    """Return the key of another host of the cluster that ``payload`` encodes.

    Raises INVALID_ARGUMENT unless it is canonical, of this cluster, keeps a secret, and is over within
    ``lifetime_ms``, but for the clocks of two hosts.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise invalid("payload", f"must be at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    try:
        key = VerifierKey.decode(payload)
    except UsageError as error:
        raise invalid("payload", str(error)) from error
    if key.cluster_id != cluster_id:
        raise invalid("payload", "cluster_id names another cluster")
    if has_small_order(key.public_key):
        raise invalid("payload", "public_key is of small order, so that it keeps no secret")
    if not key.not_before_ms < key.expires_at_ms or key.expires_at_ms <= now_ms:
        raise invalid("payload", "expires_at_ms is over by this server's clock, or not after not_before_ms")
    if key.expires_at_ms > now_ms + lifetime_ms + CLOCK_STEP_MS:
        raise invalid(
            "payload", f"expires_at_ms is beyond proofs.key_lifetime_ms of this server, {lifetime_ms}"
        )
    return key
