"""The state of a session that lives as long as a ``with`` block, for both clients.

The lease is renewed at a third of its length. A renewal that got no answer is tried again until the lease
must have lapsed, by this machine's monotonic clock; one that the server refuses is final. From then on the
session is lost, and each further use of it raises.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from ..errors import NotFound, Rejected, SessauthError, StateError, Unavailable
from ..model.receipt import SignedReceipt
from ..model.session import Session
from ..scopes.value import Number, Plain
from ._results import EndedSession

# Between renewals without an answer: soon, but not in a tight loop.
RETRY_S: Final = 0.25
# Refusals of an end that mean that the session is over already.
_OVER: Final = frozenset({"ALREADY_ENDED", "NOT_FOUND"})


class LiveState:
    """The latest known state of a live session."""

    def __init__(self, session: Session) -> None:
        """Begin with the session as it was opened."""
        self._session = session
        self._lost: SessauthError | None = None
        self._ended = False
        self._lapses_at_s = time.monotonic() + session.lease_ms / 1000

    def __repr__(self) -> str:
        """Return one line: the session, and whether it is lost or ended."""
        end = " ended" if self._ended else " lost" if self._lost else ""
        return f"<LiveSession {self.id.hex()}{end}>"

    @property
    def id(self) -> bytes:
        """The session's id, 16 bytes."""
        return self._session.id

    @property
    def session(self) -> Session:
        """The session as in the last answer."""
        return self._session

    @property
    def receipt(self) -> SignedReceipt | None:
        """The receipt of its end, once it was ended here; None where the server could not make one."""
        return self._session.receipt if isinstance(self._session, EndedSession) else None

    @property
    def facts(self) -> Mapping[str, str | bool | int | Decimal]:
        """The facts as in the last answer, read-only; ``update_facts`` changes them."""
        return MappingProxyType({fact.name: _python(fact.value) for fact in self._session.facts})

    @property
    def lost(self) -> bool:
        """True if the lease lapsed, or the session ended elsewhere, while the block ran."""
        return self._lost is not None

    def raise_if_lost(self) -> None:
        """Raise Rejected if the session is lost; its cause is the renewal's error."""
        if self._lost is not None:
            word = self._lost.word if isinstance(self._lost, Rejected) else "LEASE_LAPSED"
            raise Rejected(word, f"session {self.id.hex()} is lost; open another one") from self._lost

    def _renewal_interval_s(self) -> float:
        return self._session.lease_ms / 3000

    def _renewal_timeout_ms(self) -> int:
        return max(1, self._session.lease_ms // 3)

    def _renewed(self, sent_at_s: float) -> float:
        self._lapses_at_s = sent_at_s + self._session.lease_ms / 1000
        return self._renewal_interval_s()

    def _renewal_failed(self, error: SessauthError) -> float | None:
        """Return the delay before the next renewal, in seconds, or None if the session is lost."""
        if isinstance(error, Unavailable | StateError) and time.monotonic() < self._lapses_at_s:
            return min(RETRY_S, self._renewal_interval_s())
        self._lost = error
        return None

    def _raise_unless_over(self, error: SessauthError) -> None:
        """Raise the ``error`` of an end, unless it means that the session is over already."""
        if isinstance(error, NotFound) or (isinstance(error, Rejected) and error.word in _OVER):
            return
        raise error

    def _not_ended_note(self, error: SessauthError) -> str:
        until = "its lease lapses" if self._session.lease_ms else "its hard end"
        return f"sessauth: session {self.id.hex()} could not be ended and lives until {until}: {error}"


def _python(value: Plain) -> str | bool | int | Decimal:
    """Return a number as an int if it is whole, else as a Decimal; everything else as it is."""
    if isinstance(value, Number):
        return value.to_decimal() if value.nanos else value.units
    return value


def end_reason(cause: BaseException) -> str:
    """Return the reason of an end, when the block was left because of ``cause``."""
    return f"left by {type(cause).__name__}"
