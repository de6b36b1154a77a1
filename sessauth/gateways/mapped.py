"""The outcomes of the mapper: a call to check, a message that needs a valid token, or a refusal."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

from ..decisions.outward import Outward


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
        """Name the columns."""
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
        """Store both."""
        super().__init__(detail)
        self.fault = fault
        self.detail = detail
