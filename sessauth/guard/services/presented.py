"""A token and a proof as a request presents them: one of each, or the request is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...errors import UsageError

AUTHORIZATION: Final = "authorization"
PROOF: Final = "x-sessauth-proof"
DECISION: Final = "x-sessauth-decision"


def bearer(values: Sequence[str]) -> str:
    """Return the token of a request's ``Authorization`` values; empty if there is not exactly one token.

    A proxy joins two values with a comma, which no token has; the check then denies the text.
    """
    if len(values) != 1:
        return ""
    scheme, _, token = values[0].strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def one_proof(values: Sequence[str]) -> str:
    """Return the proof of a request's ``x-sessauth-proof`` values; empty if there is none.

    Raises UsageError if there are two.
    """
    if len(values) > 1:
        raise UsageError("the request has two proofs")
    return values[0].strip() if values else ""
