"""Calls that a server itself makes to the leader, on behalf of no caller."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, Final, cast

from ..keys.credentials import Principal
from ..rpc.access import FOLLOWER, RULES
from ..rpc.call import CallContext

REPORT_USAGE: Final = "/sessauth.v1.UsageService/ReportHostUsage"
CALL_SECONDS: Final = 5.0


def own_call(host: str) -> CallContext:
    """Return the context of a report by the server that ``host`` is, to be forwarded at once."""
    # It came with no statement.
    rpc = SimpleNamespace(stated=None, metadata=(), is_active=lambda: True)
    call = CallContext(REPORT_USAGE, RULES[REPORT_USAGE], cast("Any", rpc), Principal(host, FOLLOWER))
    call.deadline = time.monotonic() + CALL_SECONDS
    return call
