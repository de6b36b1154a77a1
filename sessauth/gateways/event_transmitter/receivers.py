"""The file of receivers: who may have streams of events, and where events may be pushed to."""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from ...errors import ConfigError
from ...server.sections import is_loopback
from ...state.host.folder import read_file

MAX_RECEIVERS: Final = 16
# Each stream has a thread, and a watch of the server.
MAX_STREAMS: Final = 4
MAX_FILE_BYTES: Final = 64 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class EventReceiver:
    """A receiver. It has streams of its own, and finds no other's.

    ``push`` has the addresses that its events may be pushed to, and ``networks`` the networks of these that
    are not public. ``suspensions`` and ``descendants`` add events; ``logins_only`` leaves those of logins.
    """

    name: str
    token_sha256: str = field(repr=False)
    audience: str
    push: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    ca_file: str = ""
    max_streams: int = 1
    suspensions: bool = False
    descendants: bool = False
    logins_only: bool = False


@dataclass(frozen=True, slots=True)
class TransmitterSettings:
    """The name of the transmitter, which is its address too, and the receivers."""

    issuer: str
    receivers: tuple[EventReceiver, ...]

    @classmethod
    def read(cls, path: Path) -> TransmitterSettings:
        """Read a file. Raises ConfigError, which names the key."""
        try:
            data = read_file(path, MAX_FILE_BYTES + 1)
            table = tomllib.loads(data.decode())
        except OSError as error:
            raise ConfigError(f"receivers: {path} can't be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"receivers: {path} is no TOML: {error}") from None
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"receivers: {path} has more than {MAX_FILE_BYTES} bytes")
        _require_keys("", table, ("issuer", "receivers"))
        issuer = _text("issuer", table.get("issuer")).rstrip("/")
        require_address("issuer", issuer)
        listed = table.get("receivers")
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_RECEIVERS:
            raise ConfigError(f"receivers: must be 1 to {MAX_RECEIVERS} tables")
        found = tuple(_receiver(f"receivers[{index}]", each) for index, each in enumerate(listed))
        for key in ("name", "token_sha256"):
            if len({getattr(each, key) for each in found}) < len(found):
                raise ConfigError(f"receivers: two have the same {key}")
        return cls(issuer, found)

    def receiver(self, token: str) -> EventReceiver | None:
        """Return the receiver that a bearer token is of."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = [each for each in self.receivers if hmac.compare_digest(each.token_sha256, digest)]
        return found[0] if found else None


def require_address(key: str, address: str) -> None:
    """Raise ConfigError for an address that is neither https nor http on the loopback."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{key}: is no address") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not secure or parts.username or parts.query or parts.fragment:
        raise ConfigError(f"{key}: must be an address of https, without a query; http is for the loopback")


def _receiver(where: str, table: object) -> EventReceiver:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table")
    _require_keys(f"{where}.", table, [each.name for each in fields(EventReceiver)])
    name = _text(f"{where}.name", table.get("name"))
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}.name: must be small letters, digits, '.', '_' and '-'")
    digest = _text(f"{where}.token_sha256", table.get("token_sha256"))
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{where}.token_sha256: must be the 64 hex digits of the token's SHA-256")
    push = tuple(_texts(f"{where}.push", table.get("push", [])))
    for address in push:
        require_address(f"{where}.push", address)
    try:
        networks = tuple(map(ip_network, _texts(f"{where}.networks", table.get("networks", []))))
    except ValueError as error:
        raise ConfigError(f"{where}.networks: {error}") from None
    streams = table.get("max_streams", 1)
    if type(streams) is not int or not 1 <= streams <= MAX_STREAMS:
        raise ConfigError(f"{where}.max_streams: must be 1 to {MAX_STREAMS}")
    flags = {key: table.get(key, False) for key in ("suspensions", "descendants", "logins_only")}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{where}.{key}: must be true or false")
    audience = _text(f"{where}.audience", table.get("audience"))
    ca_file = _text(f"{where}.ca_file", table["ca_file"]) if "ca_file" in table else ""
    return EventReceiver(name, digest, audience, push, networks, ca_file, streams, **flags)


def _require_keys(where: str, table: Mapping[str, object], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}{key}: is no setting; there are {', '.join(known)}")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 1024 or not value.isprintable():
        raise ConfigError(f"{key}: is required, a text")
    return value


def _texts(key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ConfigError(f"{key}: must be a list of texts")
    return [_text(key, each) for each in value]
