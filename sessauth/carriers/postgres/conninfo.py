"""The connection string of PostgreSQL, as one string for each of its hosts."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

INSTALL: Final = "pip install 'sessauth[postgres]'"
# Never in settings, which are copied and printed.
_SECRETS: Final = ("password", "sslpassword")
_VERIFIED: Final = "verify-full"
# A query that libpq makes on its own would be one more place to wait in.
_OURS: Final = {
    "target_session_attrs": "read-write",
    "load_balance_hosts": "disable",
    "client_encoding": "UTF8",
    "application_name": "sessauth",
}


def driver() -> ModuleType:
    """Return psycopg's layer of libpq. Raises ConfigError without the extra."""
    try:
        from psycopg import pq
    except ImportError:
        raise ConfigError(f"cluster.engine: PostgreSQL needs psycopg; {INSTALL}") from None
    return pq


def hosts(conninfo: str, *, insecure: bool) -> tuple[bytes, ...]:
    """Return a connection string for each host, in order. Raises ConfigError, which never names a value.

    Unless ``insecure``, ``sslmode`` must be ``verify-full``.
    """
    pq = driver()
    from psycopg import Error

    try:
        parsed = pq.Conninfo.parse(conninfo.encode())
    except Error:
        # The text of libpq may have parts of the string, so a password.
        raise ConfigError("cluster.engine: is not a connection URI of PostgreSQL") from None
    stated = {option.keyword.decode(): option.val.decode() for option in parsed if option.val is not None}
    if any(name in stated for name in _SECRETS):
        raise ConfigError("cluster.engine: has a password; use a password file or a client certificate")
    if not insecure:
        if stated.get("sslmode") != _VERIFIED:
            raise ConfigError(
                "cluster.engine: state sslmode=verify-full and sslrootcert, or set "
                "cluster.insecure_engine = true"
            )
        # libpq prefers it to TLS, and then verifies no certificate.
        stated["gssencmode"] = "disable"
    known = {option.keyword.decode() for option in parsed}
    stated |= {name: value for name, value in _OURS.items() if name in known}
    return tuple(_encode({**stated, **place}) for place in _places(stated))


def _places(stated: dict[str, str]) -> list[dict[str, str]]:
    """Return the parameters that differ between the hosts. Raises ConfigError."""
    lists = {name: stated.pop(name).split(",") for name in ("host", "hostaddr", "port") if name in stated}
    number = max((len(values) for name, values in lists.items() if name != "port"), default=1)
    columns = {name: values * number if len(values) == 1 else values for name, values in lists.items()}
    if any(len(values) != number for values in columns.values()):
        raise ConfigError("cluster.engine: has not one port for each host")
    if any(port and not port.isdecimal() for port in columns.get("port", ())):
        raise ConfigError("cluster.engine: has a port that is no number")
    rows = zip(*columns.values(), strict=True) if columns else repeat((), 1)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _encode(values: dict[str, str]) -> bytes:
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items()).encode()
