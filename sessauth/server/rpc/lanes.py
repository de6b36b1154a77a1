"""Lanes of new calls: operators' are admitted first, then those of other known callers, then strangers'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ...errors import ConfigError, ServerError
from ..status import refused, to_status
from .access import ANYONE, OPERATOR, RULES
from .accounting import Accounting
from .authenticate import Authenticator

# The kernel's numbers (`_fast/http2/stream.pxd`).
STRANGERS: Final = 0
KNOWN: Final = 1
OPERATORS: Final = 2


class Lanes:
    """Finds the lane of a new call by its caller, before the call is made one for Python. Never waits."""

    def __init__(self, authenticator: Authenticator, accounting: Accounting, methods: Iterable[str]) -> None:
        """Know callers by ``authenticator``; ``methods`` are the RPCs that are served."""
        self._authenticator = authenticator
        self._accounting = accounting
        self._guarded = {name.encode(): name for name in methods if ANYONE not in RULES[name].roles}

    def lane_of(self, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None) -> int:
        """Return the lane of a caller.

        A client whose certificate was verified is no stranger. Nobody is one while the credentials can't be
        read.
        """
        try:
            principal = (
                self._authenticator.from_facts(facts or {})
                if authorization is None
                else self._authenticator.from_authorization(authorization)
            )
        except ConfigError:
            return KNOWN
        except ServerError:
            # The router refuses a certificate of two principals.
            principal = None
        if principal is None:
            return KNOWN if facts else STRANGERS
        return OPERATORS if principal.role == OPERATOR else KNOWN

    def counts_refusal(self, path: bytes) -> bool:
        """Count the refusal of a stranger's call; False if the call must go the long way."""
        method = self._guarded.get(path)
        return (
            method is not None
            and self._authenticator.statements is None
            and self._accounting.counts_stranger(method)
        )


def stranger_status() -> tuple[int, str, bytes]:
    """Return the status of a stranger's call: its code, its text, and its google.rpc.Status, encoded."""
    code, status = to_status(refused("UNAUTHENTICATED", ""))
    return code.value[0], status.message, status.SerializeToString()
