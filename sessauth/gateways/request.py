"""The strict mapper: an HTTP request becomes one call to check, or is refused.

    mapper = RequestMapper(mcp={"/mcp": catalogue}, http="api")
    mapper.map("GET", "/v1/customers/7?fields=name", headers, b"")
    # Call(action="read", resource="api/v1/customers/7", arguments=b'{"fields":"name"}', ...)

It reads MCP over Streamable HTTP (2025-11-25 and 2026-07-28) on the paths of catalogues, and plain HTTP APIs
elsewhere. A request that two readers could read differently is refused, whatever it is for. The module is
pure: it reads no clock, no file and no state, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..decisions.tool_catalog import ToolCatalog
from ..errors import UsageError
from ..guard.services.routes import BARE_QUERY
from .headers import Headers
from .mapped import Call as Call
from .mapped import Fault as Fault
from .mapped import Mapped as Mapped
from .mapped import Refusal as Refusal
from .mapped import Refused
from .mapped import TokenOnly as TokenOnly
from .mcp_request import map_message
from .paths import is_resource, path_of, query_of, resource_of

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
