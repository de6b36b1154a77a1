"""Whether the caller's role reaches the RPC, by the table in ``server/access.py``."""

from __future__ import annotations

from ..call import Call
from ..status import refused


def authorize(call: Call) -> None:
    """Refuse a role that the table doesn't list for the RPC."""
    if call.principal.role not in call.rule.roles:
        raise refused("PERMISSION_DENIED", "this credential may not do that")
