"""The headers of a request that the mapper reads, each one value only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..guard.services.mcp_sessions import HEADER as MCP_SESSION
from .mapped import Fault, Refused

TOKEN: Final = "x-sessauth-token"
PROOF: Final = "x-sessauth-proof"

_READ: Final = frozenset(
    {
        *("authorization", TOKEN, PROOF, "content-type", "content-length", "content-encoding"),
        *("transfer-encoding", "connection", MCP_SESSION, "mcp-method", "mcp-name", "mcp-protocol-version"),
    }
)
# By these a server serves another method or path than the gateway reads, or another protocol afterwards.
_REFUSED: Final = frozenset(
    {
        *("x-http-method-override", "x-http-method", "x-method-override", "upgrade"),
        *("x-original-url", "x-rewrite-url", "x-original-uri", "x-forwarded-uri"),
        # CGI's names of the path's parts: a server that reads them from headers cuts the path.
        *("script-name", "path-info"),
    }
)
_PARAM: Final = "mcp-param-"
# A header that `connection` names is taken away by the next proxy.
_CONNECTION: Final = frozenset({"keep-alive", "close", "te"})
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-+\--~]+)")
_CREDENTIAL: Final = re.compile(r"[!-+\--~]+")
_JSON: Final = re.compile(r'application/json(?: *; *charset *= *"?utf-8"?)? *', re.IGNORECASE)


class Headers:
    """The headers of one request."""

    __slots__ = ("_joined", "_params", "_values")

    def __init__(
        self, method: str, path: str, pairs: Iterable[tuple[str, str | bytes]], *, joined: bool
    ) -> None:
        """Read pairs of name and value. Raises Refused for pairs that two readers could read differently."""
        self._joined = joined
        self._values: dict[str, str] = {}
        self._params: list[tuple[str, str]] = []
        values = self._values
        for name, value in pairs:
            if not name.islower():
                name = name.lower()
            if name in _READ:
                if name in values:
                    raise Refused(Fault.HEADER_FORM, f"{name} is there twice")
                values[name] = value if isinstance(value, str) else _ascii(name, value)
            elif name in _REFUSED:
                raise Refused(Fault.HEADER_FORM, f"{name} is not passed on")
            elif name.startswith(_PARAM):
                self._params.append((name, value if isinstance(value, str) else _ascii(name, value)))
            elif "_" in name and _is_read(name.replace("_", "-")):
                raise Refused(Fault.HEADER_FORM, "a header that CGI reads as another one")
            elif name[:1] == ":":
                _compare(name, value, method, path)
        if "connection" in values and not _is_plain(values["connection"]):
            raise Refused(Fault.HEADER_FORM, "connection names another header")

    def get(self, name: str) -> str | None:
        """Return the value of a header; None without it."""
        return self._values.get(name)

    def token(self) -> tuple[str, str]:
        """Return the token's text and the proof's, which is empty without one. Raises Refused."""
        values = self._values
        bearer, own, proof = values.get("authorization"), values.get(TOKEN), values.get(PROOF, "")
        if bearer is not None and own is not None:
            raise Refused(Fault.TOKEN_FORM, "authorization and x-sessauth-token")
        if proof and not _CREDENTIAL.fullmatch(proof):
            raise Refused(Fault.TOKEN_FORM, "a proof of another form")
        if own is not None:
            if not _CREDENTIAL.fullmatch(own):
                raise Refused(Fault.TOKEN_FORM, "x-sessauth-token is not one token")
            return own, proof
        if bearer is None:
            raise Refused(Fault.NO_TOKEN, "no token")
        match = _BEARER.fullmatch(bearer)
        if match is None:
            raise Refused(Fault.TOKEN_FORM, "authorization is not one Bearer token")
        return match[1], proof

    def check_body(self, bodyless: bool, body: bytes) -> None:
        """Compare the headers of a body with it. Raises Refused."""
        values = self._values
        length, coding = values.get("content-length"), values.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise Refused(Fault.HEADER_FORM, "transfer-encoding is another than chunked")
        if coding is not None and length is not None:
            raise Refused(Fault.HEADER_FORM, "content-length and transfer-encoding")
        if length is not None and not (length.isascii() and length.isdigit()):
            raise Refused(Fault.HEADER_FORM, "content-length is no number")
        if length is not None and (len(length) > 18 or int(length) != len(body)):
            raise Refused(Fault.PARTIAL_BODY, "the body has another size than content-length states")
        if body:
            if bodyless:
                raise Refused(Fault.BODY_FORM, "a body that most servers don't read")
            if values.get("content-encoding", "identity").lower() != "identity":
                raise Refused(Fault.BODY_TYPE, "content-encoding")
            if not _JSON.fullmatch(values.get("content-type", "")):
                raise Refused(Fault.BODY_TYPE, "content-type is not application/json")
        elif coding is not None or (length is None and not bodyless):
            # A body that the gateway was not shown would look like none.
            raise Refused(Fault.PARTIAL_BODY, "no body, and no content-length: 0")

    @property
    def params(self) -> list[tuple[str, str]]:
        """The Mcp-Param headers."""
        return self._params

    @property
    def joined(self) -> bool:
        """True if a comma is allowed between two lines."""
        return self._joined


def _ascii(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Refused(Fault.HEADER_FORM, f"{name} is not ASCII") from None


def _is_read(name: str) -> bool:
    return name in _READ or name in _REFUSED or name.startswith(("x-sessauth-", "mcp-"))


def _is_plain(connection: str) -> bool:
    return all(part.strip().lower() in _CONNECTION for part in connection.split(","))


def _compare(name: str, value: str | bytes, method: str, path: str) -> None:
    stated = {":method": method, ":path": path}.get(name)
    if stated is not None and value != stated and value != stated.encode("utf-8", "surrogateescape"):
        raise Refused(Fault.HEADER_FORM, f"{name} is another than the request's")
