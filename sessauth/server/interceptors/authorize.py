"""Whether the caller's role reaches the RPC, by the table in ``server/access.py``."""

from __future__ import annotations

from ..access import ANYONE
from ..call import Call
from ..status import refused


class Authorize:
    """Refuses a role that the table doesn't list for the RPC."""

    def enter(self, call: Call) -> None:
        """Compare the role with the rule."""
        if ANYONE not in call.rule.roles and call.principal.role not in call.rule.roles:
            raise refused("PERMISSION_DENIED", "this credential may not do that")

    def leave(self, call: Call, error: BaseException | None) -> None:
        """Do nothing."""
