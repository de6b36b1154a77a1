"""Signatures of issuer keys under the proof keys of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ...crypto.issuer_key import KeyRecord
from ...crypto.verifier_key import SignedVerifierKey, VerifierKey
from ..status import refused
from .issuer_keyring import KeyRing


class ProofKeySigner(Protocol):
    """Has an issuer key of the service sign the public half of a proof key."""

    def sign(self, key: VerifierKey, issuers: Mapping[bytes, KeyRecord]) -> SignedVerifierKey:
        """Return the signed key. ``issuers`` are the issuer keys of the host's own state, by id.

        Raises ServerError NO_ISSUER_KEY if there is no key to sign with.
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
