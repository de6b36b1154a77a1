"""Stage needs without a way to the writer, said by a payer: the kernel's own answer is held against it."""

from __future__ import annotations

from typing import Any

from sessauth._fast.claims import Claims
from sessauth.reasons import Reason


class NoWriter:
    """Pays for nothing and gives no permit, as what can't reach the writer does."""

    def __init__(self, item: Any) -> None:
        """Know what the item asks for."""
        self.item = item

    def pay(self, claims: Claims) -> int:
        """Say what the first scope of the first claim misses first."""
        if claims:
            return Reason.APPROVAL_REQUIRED if claims[0][2][0][1].threshold else Reason.NEEDS_SERVER
        return Reason.NEEDS_SERVER if self.item.permit_ms else 0
