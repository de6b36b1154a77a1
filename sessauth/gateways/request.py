"""The strict mapper: an HTTP request becomes one call to check, or is refused.

    mapper = RequestMapper(mcp={"/mcp": catalogue}, http="api")
    mapper.map("GET", "/v1/customers/7?fields=name", headers, b"")
    # Call(action="read", resource="api/v1/customers/7", arguments=b'{"fields":"name"}', ...)

It reads MCP over streamable HTTP (2025-11-25 and 2026-07-28) on the paths of catalogues, and plain HTTP APIs
elsewhere. MCP's handshake, its streams and the end of its session need a valid token only. Headers that MCP
requires must agree with the body.

The module is pure: it reads no clock, no file and no state, and decides nothing. What must never happen: a
request that two readers could read differently is mapped.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from .._fast._check import RpcMessage, canonical, require_distinct_names
from .._fast.codec.errors import FormError
from ..decisions.outward import Outward
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog
from ..errors import UnknownTool, UsageError
from ..guard.mcp_terms import PROTOCOL_PARAMS
from ..guard.services.mcp_sessions import HEADER as MCP_SESSION
from ..guard.services.mcp_sessions import MAX_ID_CHARS
from ..guard.services.routes import BARE_QUERY, MARK
from ..limits import MAX_RESOURCE_BYTES, MAX_SEGMENTS
from ..scopes.scope import Scope
from .json_parts import of_values


class Fault(Enum):
    """The reasons for refusing a request before it is checked.

    Attributes:
        http: the HTTP status.
        jsonrpc: the code of a JSON-RPC error.
        text: a sentence for the client.
    """

    http: int
    jsonrpc: int
    text: str

    NO_TOKEN = (401, Outward.UNAUTHENTICATED.jsonrpc, Outward.UNAUTHENTICATED.text)
    UNKNOWN_TOOL = (403, Outward.DENIED.jsonrpc, Outward.DENIED.text)
    NOT_SERVED = (404, -32601, "nothing is served here")
    METHOD = (405, -32601, "this method is not served here")
    # The code and status of the MCP SDK, at which clients open another session.
    MCP_SESSION = (404, -32600, "Session not found")
    PARTIAL_BODY = (413, -32600, "the body is larger than the gateway passes on")
    BODY_TYPE = (415, -32600, "the body must be application/json, without content-encoding")
    TOKEN_FORM = (400, -32600, "send one token, as Authorization: Bearer, and at most one proof")
    META_TOKEN = (400, -32600, "tokens and proofs go into HTTP headers here, not into _meta")
    HEADER_FORM = (400, -32600, "a header is there twice, or has a form that servers read differently")
    # The code of MCP 2026-07-28, for which clients retry once.
    HEADER_MISMATCH = (400, -32020, "headers and body state different things")
    PATH_FORM = (400, -32600, "the path has a form that servers read differently")
    QUERY_FORM = (400, -32600, "the query has a form that servers read differently")
    BODY_FORM = (400, -32600, "the body is not what this path takes, read strictly")

    def __init__(self, http: int, jsonrpc: int, text: str) -> None:
        self.http = http
        self.jsonrpc = jsonrpc
        self.text = text


class Call(NamedTuple):
    """A call to check.

    ``method`` and ``tool`` are those of MCP, empty for another call. ``facts`` are the
    catalogue's about the tool. ``request_id`` is the JSON of the message's id, empty where it has none.
    ``mcp_session`` is the value of the request's ``Mcp-Session-Id``.
    """

    token: str
    proof: str
    action: str
    resource: str
    arguments: bytes
    facts: bytes = b""
    method: str = ""
    tool: str = ""
    mcp: bool = False
    request_id: bytes = b""
    mcp_session: str = ""


class TokenOnly(NamedTuple):
    """A message that needs a valid token, and no permission: the handshake of MCP, a stream, an end."""

    token: str
    method: str
    mcp: bool = True
    request_id: bytes = b""
    mcp_session: str = ""


class Refusal(NamedTuple):
    """A request that is not checked. ``detail`` is for the operator; it repeats no value of the request.

    Of an unknown tool it has token, method, tool and arguments, for the record.
    """

    fault: Fault
    detail: str
    mcp: bool = False
    request_id: bytes = b""
    token: str = ""
    method: str = ""
    tool: str = ""
    arguments: bytes = b""


Mapped: TypeAlias = Call | TokenOnly | Refusal


class Refused(Exception):
    """Raised inside the mapper to refuse a request."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail


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
    """The headers of one request. With ``joined`` a comma is allowed between two lines.

    ``params`` are the Mcp-Param headers.
    """

    __slots__ = ("_values", "joined", "params")

    def __init__(
        self, method: str, path: str, pairs: Iterable[tuple[str, str | bytes]], *, joined: bool
    ) -> None:
        """Read pairs of name and value. Raises Refused for pairs that two readers could read differently."""
        self.joined = joined
        self._values: dict[str, str] = {}
        self.params: list[tuple[str, str]] = []
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
                self.params.append((name, value if isinstance(value, str) else _ascii(name, value)))
            elif "_" in name and _is_read(name.replace("_", "-")):
                raise Refused(Fault.HEADER_FORM, "a header that CGI reads as another one")
            elif name[:1] == ":":
                _compare_header(name, value, method, path)
        named = values["connection"].split(",") if "connection" in values else ()
        if any(part.strip().lower() not in _CONNECTION for part in named):
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


def _ascii(name: str, value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Refused(Fault.HEADER_FORM, f"{name} is not ASCII") from None


def _is_read(name: str) -> bool:
    return name in _READ or name in _REFUSED or name.startswith(("x-sessauth-", "mcp-"))


def _compare_header(name: str, value: str | bytes, method: str, path: str) -> None:
    stated = {":method": method, ":path": path}.get(name)
    if stated is not None and value != stated and value != stated.encode("utf-8", "surrogateescape"):
        raise Refused(Fault.HEADER_FORM, f"{name} is another than the request's")


# Segments without an escape: those that RFC 3986 permits, but for `;` and `*`. None begins with a dot.
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()+,=:@-][A-Za-z0-9._~!$&'()+,=:@-]*)+")
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,=:@-]|%[0-9A-Fa-f]{2})+")
# Characters that a server may take for the end of a segment, or for another escape.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f/\\%;?#*]")
_QUERY_NAME: Final = re.compile(r"[A-Za-z0-9_$-]+")
_QUERY_VALUE: Final = re.compile(r"(?:[A-Za-z0-9._~!$'()*,:@/?=-]|%[0-9A-Fa-f]{2})*")
# Each byte may be written as an escape.
_MAX_RAW_BYTES: Final = 3 * MAX_RESOURCE_BYTES
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# Some servers and frameworks take their value for the request's method. In JSON it is a member at any depth.
_OVERRIDES: Final = frozenset({"_method", "x-http-method-override", "x-http-method", "x-method-override"})
_OVERRIDE: Final = re.compile(rb'"_method":', re.IGNORECASE)
_MARKED: Final = b'"?'


def path_of(raw: str) -> str | None:
    """Return a path, decoded once; None for one that readers decode or normalise differently, or too long."""
    # No resource is longer, and a stranger's path is read before the token is.
    if len(raw) > _MAX_RAW_BYTES or raw.count("/") > MAX_SEGMENTS:
        return None
    if _PLAIN.fullmatch(raw) or raw == "/":
        return raw
    segments = []
    for part in raw.split("/"):
        if part and not _SEGMENT.fullmatch(part):
            return None
        try:
            segments.append(unquote_to_bytes(part).decode())
        except UnicodeDecodeError:
            return None
    first, *rest = segments
    if first or not rest or not all(rest):
        return None
    return None if any(map(_is_unsafe, rest)) else "/".join(segments)


def _is_unsafe(segment: str) -> bool:
    """Return True for a segment that a server may take for several, or for none."""
    # Some servers take a character for its compatible one: U+FF0F for a slash.
    for form in (segment, "" if segment.isascii() else unicodedata.normalize("NFKC", segment)):
        if form in (".", "..") or _UNSAFE.search(form):
            return True
    return False


def resource_of(base: str, path: str) -> str:
    """Return the resource of a decoded path below ``base``."""
    return base if path == "/" else base + path


def is_resource(text: str) -> bool:
    """Return True if ``text`` can be a resource."""
    try:
        Scope.on("read", *text.split("/"))
    except UsageError:
        return False
    return True


def query_of(query: str | None, body: bytes, *, bare: bool) -> bytes:
    """Return the arguments of a call in their canonical form: the query's names, and the body's members.

    A value of the query is a text. Its name begins with ``?`` unless the method is one whose servers read no
    body: which place an upstream takes a name from is not known here. Raises Refused, also for a name that
    both have.
    """
    try:
        pairs = _pairs(query) if query else {}
        arguments = canonical(pairs if bare else {MARK + name: value for name, value in pairs.items()})
        if not body:
            return arguments
        members = canonical(body)
        require_distinct_names(members)
        if _OVERRIDE.search(members):
            raise Refused(Fault.BODY_FORM, "a member that some servers take for the method")
        if members == b"{}":
            return arguments
        if not pairs and _MARKED not in members:
            return of_values(members)
        # A number may have more digits than Python reads.
        of_body = list(json.loads(members, parse_int=float))
        if any(name.startswith(MARK) for name in of_body):
            raise Refused(Fault.BODY_FORM, "a member with the name of an argument of the query")
        if not pairs:
            return of_values(members)
        names = [*pairs, *of_body]
        if len({name.casefold() for name in names}) < len(names):
            raise Refused(Fault.QUERY_FORM, "a name that the body has too")
        return of_values(canonical(arguments[:-1] + b"," + members[1:]))
    except FormError as error:
        raise Refused(Fault.BODY_FORM, error.detail) from None


def _pairs(query: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    folded = set()
    for part in query.split("&"):
        name, mark, value = part.partition("=")
        if not mark or not _QUERY_NAME.fullmatch(name) or not _QUERY_VALUE.fullmatch(value):
            raise Refused(Fault.QUERY_FORM, "a pair that is not name=value in plain characters")
        # Some servers ignore the case of names.
        if name.casefold() in folded:
            raise Refused(Fault.QUERY_FORM, "a name that is there twice")
        folded.add(name.casefold())
        if name.casefold() in _OVERRIDES:
            raise Refused(Fault.QUERY_FORM, "a name that some servers take for the method")
        try:
            text = unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise Refused(Fault.QUERY_FORM, "a value that is not UTF-8") from None
        if _CONTROL.search(text):
            raise Refused(Fault.QUERY_FORM, "a control character")
        pairs[name] = text
    return pairs


# From this version on each request repeats its method and name in headers.
MODERN: Final = "2026-07-28"
_NOTIFICATION: Final = "notifications/"
_NAMED: Final = frozenset({TOOLS_CALL, "prompts/get", "resources/read"})
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=")
_METHOD: Final = re.compile(r"[A-Za-z0-9_$./-]{1,128}")
# Visible characters, as the protocol has it; two lines may be joined with a comma.
_SESSION: Final = re.compile(r"[!-+\--~]+")
_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def map_message(
    catalogue: ToolCatalog, method: str, headers: Headers, body: bytes
) -> Call | TokenOnly | Refusal:
    """Map a request to the endpoint of MCP. Raises Refused where the message has no id to answer."""
    if method != "POST":
        # The stream of a session, and its end (2025-11-25).
        if method not in ("GET", "DELETE"):
            raise Refused(Fault.METHOD, "no method of MCP")
        _require_no_message_headers(headers)
        return TokenOnly(headers.token()[0], "", mcp_session=_session(headers))
    try:
        message = RpcMessage(body)
    except FormError as error:
        raise Refused(Fault.BODY_FORM, error.detail) from None
    try:
        return _map(catalogue, message, headers)
    except Refused as refused:
        return Refusal(refused.fault, refused.detail, True, message.id)


def _map(catalogue: ToolCatalog, message: RpcMessage, headers: Headers) -> Call | TokenOnly | Refusal:
    if message.own_meta:
        raise Refused(Fault.META_TOKEN, "a member of sessauth's in _meta")
    method = message.method
    if not method:
        # An answer to a request of the server (2025-11-25).
        _require_no_message_headers(headers)
        return TokenOnly(headers.token()[0], "", True, message.id, _session(headers))
    if not _METHOD.fullmatch(method):
        raise Refused(Fault.BODY_FORM, "method has a form that no method has")
    _compare(message, headers)
    token, proof = headers.token()
    if method.startswith(_NOTIFICATION) == bool(message.id):
        raise Refused(Fault.BODY_FORM, "a notification with an id, or a request without one")
    tool = ""
    if method == TOOLS_CALL:
        if not message.name:
            raise Refused(Fault.BODY_FORM, "tools/call without a name")
        tool = message.name
    try:
        action, resource, facts = catalogue.ask(tool, method)
    except UnknownTool:
        detail = "not in the catalogue"
        return Refusal(Fault.UNKNOWN_TOOL, detail, True, message.id, token, method, tool, message.arguments)
    if action == HANDSHAKE:
        return TokenOnly(token, method, True, message.id, _session(headers))
    arguments = of_values(message.arguments, () if tool else PROTOCOL_PARAMS)
    session = _session(headers)
    return Call(token, proof, action, resource, arguments, facts, method, tool, True, message.id, session)


def _session(headers: Headers) -> str:
    """Return the id of the session of MCP; empty without one. Raises Refused for one that can't be bound."""
    mcp_session = headers.get(MCP_SESSION)
    if mcp_session is None:
        return ""
    if len(mcp_session) > MAX_ID_CHARS or not _SESSION.fullmatch(mcp_session):
        raise Refused(Fault.HEADER_FORM, "mcp-session-id has a form that no id has, or is too long")
    return mcp_session


def _require_no_message_headers(headers: Headers) -> None:
    if headers.params or headers.get("mcp-method") is not None or headers.get("mcp-name") is not None:
        raise Refused(Fault.HEADER_MISMATCH, "headers of a message that is none")


def _compare(message: RpcMessage, headers: Headers) -> None:
    """Raise Refused unless the headers agree with the message."""
    version = headers.get("mcp-protocol-version")
    method, name = headers.get("mcp-method"), headers.get("mcp-name")
    if version is not None and not _VERSION.fullmatch(version):
        raise Refused(Fault.HEADER_FORM, "mcp-protocol-version is no date")
    if message.protocol_version is not None and message.protocol_version != version:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-protocol-version")
    modern = version is not None and version >= MODERN and bool(message.id)
    if method is None:
        if modern:
            raise Refused(Fault.HEADER_MISMATCH, "mcp-method is missing")
    elif method != message.method:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-method")
    if name is not None:
        if _decoded(name, headers) not in _names(message):
            raise Refused(Fault.HEADER_MISMATCH, "mcp-name")
    elif modern and message.method in _NAMED:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-name is missing")
    if headers.params:
        _compare_params(message, headers)


def _names(message: RpcMessage) -> tuple[str | None, ...]:
    if message.method in _NAMED:
        return (message.uri if message.method == "resources/read" else message.name,)
    # Methods of extensions name their subject in a parameter of their own.
    # A number may have more digits than Python reads.
    params = json.loads(message.arguments, parse_int=float)
    return tuple(value for value in params.values() if isinstance(value, str))


def _compare_params(message: RpcMessage, headers: Headers) -> None:
    """Raise Refused unless each Mcp-Param header states a value that the arguments have."""
    if message.method != TOOLS_CALL:
        raise Refused(Fault.HEADER_MISMATCH, "mcp-param of another method than tools/call")
    if len({name for name, _ in headers.params}) < len(headers.params):
        raise Refused(Fault.HEADER_FORM, "an mcp-param header is there twice")
    arguments = json.loads(message.arguments, parse_int=str, parse_float=str, parse_constant=str)
    stated = set(_scalars(arguments))
    for _, value in headers.params:
        if _decoded(value, headers) not in stated:
            raise Refused(Fault.HEADER_MISMATCH, "an mcp-param header with a value that no argument has")


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _scalars(member)
    elif isinstance(value, list):
        for element in value:
            yield from _scalars(element)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif value is not None:
        yield value


def _decoded(value: str, headers: Headers) -> str | None:
    """Return the text of a header value, None for a faulty sentinel."""
    match = _SENTINEL.fullmatch(value)
    if match is None:
        if headers.joined and "," in value:
            raise Refused(Fault.HEADER_FORM, "a comma, which is allowed between two lines")
        return value
    try:
        decoded = base64.b64decode(match[1], validate=True)
        if base64.b64encode(decoded).decode() != match[1]:
            return None
        return decoded.decode()
    except (binascii.Error, ValueError):
        return None


ACTIONS: Mapping[str, str] = {
    "GET": "read",
    "HEAD": "read",
    "POST": "write",
    "PUT": "write",
    "PATCH": "write",
    "DELETE": "delete",
}
"""The action of each HTTP method of a plain API. Any other method is refused."""

# Methods whose requests have no body; some servers read one nevertheless.
_BODYLESS = frozenset({"GET", "HEAD", "DELETE"})


class RequestMapper:
    """Maps the requests of one gateway."""

    def __init__(self, *, mcp: Mapping[str, ToolCatalog] | None = None, http: str = "") -> None:
        """Serve MCP at the paths of ``mcp``; with ``http`` all other paths are resources below that one.

        Raises:
            UsageError: for a path or a resource that can't be one.
        """
        self._endpoints = dict(mcp or {})
        for path in self._endpoints:
            if path_of(path) != path or not path_of(path):
                raise UsageError(f"mcp: {path!r} is no path in its plain form, such as /mcp")
        if http and (not is_resource(http) or http.split("/")[0] == "mcp"):
            raise UsageError(f"http: {http!r} is no resource, or one of MCP's")
        self._http = http
        # Others may read a path without regard to case, or serve paths below it.
        self._folded = tuple(path.casefold() for path in self._endpoints)

    def map(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str | bytes]],
        body: bytes | None,
        *,
        size: int = -1,
        joined: bool = False,
    ) -> Mapped:
        """Map one request. No input under a client's control raises.

        Args:
            method: the HTTP method.
            path: the path with its query, as it is forwarded.
            headers: names and values, one pair a line. Pseudo-headers are compared with the others.
            body: the whole body; None or empty if there is none.
            size: the size of the body by another count, -1 if there is none.
            joined: lines of one name were joined with commas.
        """
        catalogue = None
        try:
            raw, mark, query = path.partition("?")
            catalogue = self._endpoints.get(raw)
            read = Headers(method, path, headers, joined=joined)
            body = body or b""
            if size >= 0 and size != len(body):
                raise Refused(Fault.PARTIAL_BODY, "the body has another size than was counted")
            read.check_body(method in _BODYLESS, body)
            if catalogue is not None:
                if mark:
                    raise Refused(Fault.QUERY_FORM, "the endpoint of MCP has no query")
                return map_message(catalogue, method, read, body)
            return self._map_http(method, raw, query if mark else None, read, body)
        except Refused as refused:
            return Refusal(refused.fault, refused.detail, catalogue is not None)

    def _map_http(self, method: str, raw: str, query: str | None, read: Headers, body: bytes) -> Call:
        decoded = path_of(raw)
        if decoded is None:
            raise Refused(Fault.PATH_FORM, "a path that readers decode or normalise differently")
        folded = decoded.casefold()
        for endpoint in self._folded:
            if folded == endpoint or folded.startswith(f"{endpoint}/"):
                raise Refused(Fault.PATH_FORM, "another spelling of the endpoint of MCP, or below it")
        if not self._http:
            raise Refused(Fault.NOT_SERVED, "no endpoint of MCP, and no other path is served")
        action = ACTIONS.get(method)
        if action is None:
            raise Refused(Fault.METHOD, "a method without an action")
        arguments = query_of(query, body, bare=method in BARE_QUERY)
        token, proof = read.token()
        return Call(token, proof, action, resource_of(self._http, decoded), arguments)
