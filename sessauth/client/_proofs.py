"""Proofs for a holder's bound tokens, for both clients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..clock import Clock, SystemClock
from ..crypto.issuer_key import IssuerKeys, load_trusted_keys
from ..crypto.verifier_key import SignedVerifierKey, VerifierKeys
from ..errors import MalformedToken
from ..tokens.holder import HolderKey
from ..tokens.prover import HostKeys
from ..tokens.token import Token
from ._decision import RemoteDecision
from ._results import CheckItem


class ProofMaker:
    """Makes proofs with a holder's key, for the host of the latest keys. Safe between threads.

    Without a holder it leaves every call as it is.
    """

    def __init__(
        self, holder: HolderKey | None, issuer_keys: IssuerKeys | None, clock: Clock | None = None
    ) -> None:
        """Prove with ``holder``, at the time of ``clock``, for keys that ``issuer_keys`` signed."""
        self._holder = holder
        self._clock = clock or SystemClock()
        self._host = HostKeys(self._clock)
        # It is read more than once, and an iterator can't be.
        self.issuer_keys = load_trusted_keys(issuer_keys).values() if issuer_keys is not None else None

    @property
    def proves(self) -> bool:
        """True with a holder."""
        return self._holder is not None

    def verify(self, signed: Iterable[SignedVerifierKey], issuer_keys: IssuerKeys) -> VerifierKeys:
        """Return a host's keys, verified. Raises UsageError for one that ``issuer_keys`` did not sign."""
        return VerifierKeys(signed, issuer_keys, now_ms=self._clock.now_ms())

    def needs_keys(self, item: CheckItem) -> bool:
        """Return True if ``item`` needs a proof and no current key of the host is known."""
        if self._holder is None or self._host.current() is not None:
            return False
        return self._own_token(item) is not None

    def use_keys(self, keys: VerifierKeys) -> None:
        """Prove for the newest of ``keys`` from now on."""
        self._host.use(keys)

    def with_proof(self, item: CheckItem) -> CheckItem:
        """Return ``item`` with a proof, if its token is bound to the holder and it has none; else itself.

        Raises Unavailable if no current key of the host is known.
        """
        token = self._own_token(item)
        if token is None or self._holder is None:
            return item
        key = self._host.require()
        proof = self._holder.prove(token, item.action, item.resource, item.arguments, key, clock=self._clock)
        return replace(item, proof=proof)

    def drop_rejected_keys(self, item: CheckItem, sent: CheckItem, decision: RemoteDecision) -> bool:
        """Forget the keys and return True if a proof that was made here was rejected."""
        return sent is not item and self._host.drop_rejected(decision.reason)

    def _own_token(self, item: CheckItem) -> Token | None:
        """Return the token of an item that needs a proof, None for any other item."""
        if item.proof or item.token_only or self._holder is None:
            return None
        token = item.token
        if not isinstance(token, Token):
            try:
                token = Token.parse(token)
            except MalformedToken:
                # The server denies it.
                return None
        return token if self._holder.holds(token) else None
