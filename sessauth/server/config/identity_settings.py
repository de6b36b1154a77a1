"""Entries ``[[identities]]``: which client certificates are known, and what each may do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError

ROLES: Final = ("operator", "issuer", "gateway", "auditor", "approver")
# Names that only the server itself gives, as that of its workers.
RESERVED: Final = "sessauth/"
MAX_NAME_CHARS: Final = 128
AUDIENCE: Final = re.compile(r"[^\x00-\x1f\x7f\"\\]{1,256}")
URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[\x21-\x7e]{1,2048}", re.ASCII)
THUMBPRINT: Final = re.compile(r"sha256:[0-9A-Fa-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """One ``[[identities]]`` entry: a client certificate and what it may do.

    ``uri`` is a URI SAN (SPIFFE ids included); ``thumbprint`` is ``sha256:`` and 64 hex digits of
    the certificate in DER. One of them is stated.
    """

    name: str
    role: str
    uri: str = ""
    thumbprint: str = ""
    audiences: tuple[str, ...] = ()


def check(identities: Sequence[Identity], *, client_ca: str) -> None:
    """Refuse entries that name no certificate, or one of another entry. Raises ConfigError."""
    certificates: dict[tuple[str, str], int] = {}
    principals: dict[str, tuple[int, Identity]] = {}
    for index, entry in enumerate(identities):
        where = f"identities[{index}]"
        _check_name(f"{where}.name", entry.name)
        if entry.role not in ROLES:
            raise ConfigError(f"{where}.role: must be one of {', '.join(ROLES)}")
        for audience in entry.audiences:
            if not AUDIENCE.fullmatch(audience):
                raise ConfigError(
                    f"{where}.audiences: each must be 1 to 256 characters without quotes, '\\' and control "
                    "characters"
                )
        kind, certificate = _certificate(where, entry)
        other = certificates.setdefault((kind, certificate), index)
        if other != index:
            raise ConfigError(f"{where}.{kind}: is that of identities[{other}] too; remove one of them")
        first, known = principals.setdefault(entry.name, (index, entry))
        if (known.role, known.audiences) != (entry.role, entry.audiences):
            raise ConfigError(
                f"{where}.name: is that of identities[{first}], which has another role or other audiences"
            )
    if identities and not client_ca:
        raise ConfigError(
            "identities: need tcp.client_ca, the CA file that client certificates are checked by"
        )


def _check_name(where: str, name: str) -> None:
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
        raise ConfigError(
            f"{where}: must be 1 to {MAX_NAME_CHARS} printable characters without blanks around them"
        )
    if name.startswith(RESERVED):
        raise ConfigError(f"{where}: names that begin with {RESERVED} are the server's own; choose another")


def _certificate(where: str, entry: Identity) -> tuple[str, str]:
    """Return which key of an entry names its certificate, and the name in its one form."""
    if bool(entry.uri) == bool(entry.thumbprint):
        raise ConfigError(f"{where}: state either uri or thumbprint")
    if entry.uri:
        if not URI.fullmatch(entry.uri):
            raise ConfigError(f"{where}.uri: must be a URI as it stands in the certificate, scheme://...")
        return "uri", entry.uri
    if not THUMBPRINT.fullmatch(entry.thumbprint):
        raise ConfigError(f"{where}.thumbprint: must be 'sha256:' and 64 hex digits")
    return "thumbprint", entry.thumbprint.lower()
