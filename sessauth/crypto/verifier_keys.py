"""What a holder knows of a host's verifier keys: those that the cluster's issuer keys vouch for.

A proof is made for one key of one host. A key that nobody known has signed is refused, so that a holder
proves nothing for a host that is not the service's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..errors import UsageError
from ..limits import PROOF_WINDOW_MS
from .issuer_keys import IssuerKeys as IssuerKeys
from .issuer_keys import pinned as pinned
from .verifier_key import SignedVerifierKey, VerifierKey

# A key is left this long before it ends, so that a proof made with it still arrives in time.
LEAVE_MS: Final = PROOF_WINDOW_MS


class VerifierKeys:
    """The keys of one host that were verified, the newest first."""

    __slots__ = ("_keys",)

    def __init__(
        self,
        signed: Iterable[SignedVerifierKey],
        issuer_keys: IssuerKeys,
        *,
        now_ms: int,
        cluster_id: bytes = b"",
    ) -> None:
        """Take those of ``signed`` that count at ``now_ms``, which the server lists newest first.

        Args:
            signed: what the server said.
            issuer_keys: the cluster's issuer keys, as the caller knows them.
            now_ms: the holder's time, in ms since 1970.
            cluster_id: the cluster that the host must be of, 16 bytes; empty: of one cluster, whichever.

        Raises:
            UsageError: if a key is not signed by one of ``issuer_keys``, is wrongly signed, is of another
                cluster or host than the others, or none of them counts now.
        """
        issuers = pinned(issuer_keys)
        keys = [each.verified(issuers) for each in signed]
        for key in keys:
            if key.cluster_id != (cluster_id or keys[0].cluster_id):
                raise UsageError(f"the verifier key is of another cluster, {key.cluster_id.hex()}")
            if key.verifier_id != keys[0].verifier_id:
                raise UsageError("the verifier keys are of several hosts: a server answers for its own")
        self._keys = tuple(key for key in keys if _counts(key, now_ms))
        if not self._keys:
            told = "all are over" if keys else "the server has none"
            raise UsageError(f"no verifier key counts now, {told}: set the clocks of holder and server")

    @property
    def verifier_id(self) -> bytes:
        """Which host's verifiers the keys are for, 16 bytes."""
        return self._keys[0].verifier_id

    def current(self, now_ms: int) -> VerifierKey | None:
        """Return the newest key if it counts at ``now_ms`` and for a while; None: ask for the keys again."""
        newest = self._keys[0]
        return newest if _counts(newest, now_ms + LEAVE_MS) else None

    def __iter__(self) -> Any:
        """Go over the keys, the newest first."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._keys)

    def __repr__(self) -> str:
        """Name host and keys."""
        return (
            f"<VerifierKeys of {self.verifier_id.hex()}: {', '.join(key.key_id.hex() for key in self._keys)}>"
        )


def _counts(key: VerifierKey, now_ms: int) -> bool:
    # The holder's clock may be behind the host's by as much as a proof's time may.
    return key.not_before_ms - PROOF_WINDOW_MS <= now_ms < key.expires_at_ms
