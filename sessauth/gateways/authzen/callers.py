"""Enforcement points that may ask: the gateways of a file of credentials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...server.keys.credentials import CredentialFile

_ROLE = "gateway"


def caller_check(file: Path, audience: str) -> Callable[[str], bool | None]:
    """Return the check of a caller's credential by ``file``, which is read again when it changes.

    It returns True for a gateway that may ask for ``audience``, False for another principal, None for a
    credential that is none. It raises ConfigError if the file can't be read.
    """
    credentials = CredentialFile(file)

    def authenticate(text: str) -> bool | None:
        principal = credentials.authenticate(text)
        if principal is None:
            return None
        return principal.role == _ROLE and (not principal.audiences or audience in principal.audiences)

    return authenticate
