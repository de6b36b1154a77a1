"""Stage needs without a way to the writer, said by a payer: the kernel's own answer is held against it."""

from __future__ import annotations

from typing import Any

from sessauth._fast._check import CostClaims
from sessauth.reasons import Reason
from sessauth.server.status import refused


class NoWriter:
    """Pays for nothing and gives no permit, as what can't reach the writer does."""

    def __init__(self, item: Any) -> None:
        """Know what the item asks for."""
        self.item = item

    def charge(self, claims: CostClaims) -> int:
        """Say what the first scope of the first claim misses first."""
        if claims:
            return Reason.APPROVAL_REQUIRED if claims[0][2][0][1].threshold else Reason.NEEDS_SERVER
        return Reason.NEEDS_SERVER if self.item.permit_ms else 0


class NobodyThere:
    """A way to the writer at whose end nobody is: what is handed on stays denied as it was judged."""

    def decide(self, *_: Any, **__: Any) -> dict[int, bytes]:
        """Decide nothing."""
        return {}

    def commit(self, *_: Any) -> dict[int, bytes]:
        """Commit nothing."""
        return {}

    def release(self, *_: Any) -> bytes:
        """Have nothing to give back."""
        raise refused("NOT_FOUND", "nobody is there")
