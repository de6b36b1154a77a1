"""The approver's side: a person's key, and the signing of a request.

An approver trusts no server and no gateway. The signed statement follows from the action, the resource and
the arguments that the approver was shown. A request that doesn't fit them is refused.
"""

from __future__ import annotations

from typing import Final

from ..clock import Clock, SystemClock
from ..crypto.keys import SigningKey
from ..errors import UsageError
from ..model.approval import ApprovalStatement, SignedApproval
from ..scopes.parts import key_text
from .request import ApprovalRequest

# Long enough for an agent to repeat the call and for others to sign, short enough to mean this call.
DEFAULT_TTL_MS: Final = 3_600_000


class ApproverKey(SigningKey):
    """An Ed25519 key that signs approvals and nothing else; a scope names its public half."""

    __slots__ = ()

    made_by = "sessauth approver-key new"

    @property
    def text(self) -> str:
        """The public key as scope text writes it: ``needs approval(1, "TEXT")``."""
        return key_text(self.public_key)

    def sign(self, statement: ApprovalStatement) -> SignedApproval:
        """Sign a statement as it is; :meth:`Approver.grant` makes one of a request."""
        unsigned = SignedApproval(self.public_key, b"", statement.encode())
        signature = self._secret.sign(unsigned.signed_bytes())
        return SignedApproval(self.public_key, signature, unsigned.statement)

    def __repr__(self) -> str:
        """Show the public key, never the secret."""
        return f"<ApproverKey {self.text}>"


class Approver:
    """Signs requests for approval with one key."""

    __slots__ = ("_clock", "_key")

    def __init__(self, key: ApproverKey, clock: Clock | None = None) -> None:
        """Sign with ``key``; ``clock`` decides about expiry."""
        self._key = key
        self._clock = clock or SystemClock()

    @property
    def public_key(self) -> bytes:
        """The key that it signs with, 32 bytes."""
        return self._key.public_key

    def grant(self, request: ApprovalRequest, *, ttl_ms: int = DEFAULT_TTL_MS) -> SignedApproval:
        """Sign that this one call may happen, once, within ``ttl_ms`` from now, and before the request ends.

        Show ``request.render()`` to the person who decides, before: nothing else is signed. Raises
        InvalidApproval, with a stable word as its ``fault``, if the request must not be signed; UsageError if
        ``ttl_ms`` is not positive.
        """
        if ttl_ms < 1:
            raise UsageError(f"ttl_ms: must be positive, not {ttl_ms}")
        now_ms = self._clock.now_ms()
        return self._key.sign(request.statement(self.public_key, now_ms + ttl_ms, now_ms))

    def __repr__(self) -> str:
        """Show the public key."""
        return f"<Approver {self._key.text}>"
