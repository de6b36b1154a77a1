"""The proof keys of a follower, signed by an issuer key of a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from ...crypto.issuer_key import KeyRecord, KeyStatus
from ...crypto.verifier_key import SignedVerifierKey, VerifierKey
from ...errors import SessauthError
from ..rpc.pool import blocking_section
from ..status import refused

# Any client may ask for the keys: servers that do not sign are not asked more often.
PAUSE_SECONDS: Final = 1.0


class RemoteSigner:
    """Asks the servers of a follower to sign. Any thread may use it."""

    def __init__(self, ask: Callable[[bytes], SignedVerifierKey]) -> None:
        """Ask with ``ask(payload)``, which returns a server's answer or raises SessauthError."""
        self._ask = ask
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._problem = ""

    def sign(self, key: VerifierKey, issuers: Mapping[bytes, KeyRecord]) -> SignedVerifierKey:
        """Return the key with the signature of an issuer key that this host's own state accepts."""
        payload = key.encode()
        with blocking_section(), self._lock:
            if time.monotonic() < self._paused_until:
                raise _unsigned(self._problem)
            try:
                signed = self._ask(payload)
                _require_genuine(signed, payload, issuers)
            except SessauthError as error:
                self._problem, self._paused_until = str(error), time.monotonic() + PAUSE_SECONDS
                raise _unsigned(self._problem) from error
        return signed


def _require_genuine(signed: SignedVerifierKey, payload: bytes, issuers: Mapping[bytes, KeyRecord]) -> None:
    """Raise UsageError unless an issuer key of the service that counts here signed this very key."""
    accepted = {
        issuer.id: issuer.public_key
        for issuer in issuers.values()
        if not issuer.owner and issuer.status in (KeyStatus.ACTIVE, KeyStatus.RETIRED)
    }
    signed.verified(accepted)
    if signed.payload != payload:
        raise refused("NO_ISSUER_KEY", "the server signed another key than it was asked to")


def _unsigned(problem: str) -> SessauthError:
    return refused("NO_ISSUER_KEY", f"no server has signed this host's keys for proofs: {problem}")
