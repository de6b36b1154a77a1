"""The proofs that a client makes for its holder's bound tokens. Both clients use this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..clock import Clock, SystemClock
from ..crypto.issuer_key import IssuerKeys, load_trusted_keys
from ..crypto.verifier_key import SignedVerifierKey, VerifierKeys
from ..errors import MalformedToken, Unavailable
from ..reasons import Reason
from ..tokens.holder import HolderKey
from ..tokens.token import Token
from ._decision import RemoteDecision
from ._results import CheckItem

# After these, other keys or another time may help: the host made new keys, or these waited too long.
_ASK_AGAIN = frozenset({Reason.BAD_PROOF, Reason.STALE_PROOF})


class ProofMaker:
    """Makes proofs with a holder's key, for the host whose keys it was given last. Safe between threads.

    Without a holder it leaves every call as it is.
    """

    def __init__(
        self, holder: HolderKey | None, issuer_keys: IssuerKeys | None, clock: Clock | None = None
    ) -> None:
        """Prove with ``holder``, at the time that ``clock`` gives, by keys that ``issuer_keys`` vouch for."""
        self._holder = holder
        self._clock = clock or SystemClock()
        self._keys: VerifierKeys | None = None
        # Read more than once, which an iterator can't be.
        self.issuer_keys = load_trusted_keys(issuer_keys).values() if issuer_keys is not None else None

    def verified(self, signed: Iterable[SignedVerifierKey], issuer_keys: IssuerKeys) -> VerifierKeys:
        """Return a host's keys, verified. Raises UsageError for one that ``issuer_keys`` don't vouch for."""
        return VerifierKeys(signed, issuer_keys, now_ms=self._clock.now_ms())

    def wants_keys(self, item: CheckItem) -> bool:
        """Whether ``item`` is to be proven and no key of the host is known, or it is about to end."""
        if self._holder is None:
            return False
        keys = self._keys
        if keys is not None and keys.current(self._clock.now_ms()) is not None:
            return False
        return self._own(item) is not None

    def take(self, keys: VerifierKeys) -> None:
        """Prove for the newest of ``keys`` from now on."""
        self._keys = keys

    def proven(self, item: CheckItem) -> CheckItem:
        """Return ``item`` with a proof, if its token is bound to the holder and it has none; else itself.

        Raises Unavailable if no key of the host is known that counts.
        """
        token = self._own(item)
        if token is None or self._holder is None:
            return item
        keys, now_ms = self._keys, self._clock.now_ms()
        key = keys.current(now_ms) if keys is not None else None
        if key is None:
            raise Unavailable("the server's verifier keys end too soon to prove anything for them")
        return replace(
            item,
            proof=self._holder.prove(token, item.action, item.resource, item.arguments, key, now_ms=now_ms),
        )

    def missed(self, item: CheckItem, sent: CheckItem, decision: RemoteDecision) -> bool:
        """Whether a proof that was made here did not count, so that the keys are forgotten."""
        if sent is item or decision.reason not in _ASK_AGAIN:
            return False
        self._keys = None
        return True

    def _own(self, item: CheckItem) -> Token | None:
        """Return the token of an item that is to be proven here."""
        if item.proof or self._holder is None:
            return None
        token = item.token
        if not isinstance(token, Token):
            try:
                token = Token.parse(token)
            except MalformedToken:
                # It is sent as it is, to be denied.
                return None
        return token if self._holder.holds(token) else None
