"""The routes of an HTTP service as calls.

    ROUTES = RouteTable([
        ServiceRoute("GET", "/orders/{order_id}", "read", "orders/{order_id}"),
        ServiceRoute("POST", "/orders", "write", "orders"),
        ServiceRoute("WEBSOCKET", "/feeds/{name}", "read", "feeds/{name}"),
    ])
    guard = Guard(verifier, ROUTES)

The arguments of a call are the parameters of its query and the members of its JSON body. A name that occurs
in both, or twice in one, is refused: two readers could take different values.

A handler that reads a name from the query does not see the body's, and the other way round. So an argument of
the query is checked as ``"?NAME"``, which no identifier can be: a condition about a value of the body never
matches it. The name is bare where it can't be the body's: in a request without a body, and where the handler
is known to take it from the query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from ...errors import UsageError
from ...scopes.call_arguments import canonical, encode
from .call_table import CallTable, NamedCall, ServiceCall

V = TypeVar("V")

MARK: Final = "?"
"""The beginning of the name of an argument that the query has."""
BARE_QUERY: Final = frozenset({"GET", "HEAD", "WEBSOCKET"})
"""Methods whose requests have no body: their arguments are in the query alone, under bare names."""


class Places(NamedTuple):
    """The places from which the handler of a route takes its arguments.

    Attributes:
        has_body: False for a route whose requests have no body; one with a body is refused.
        query: the names that are known to be taken from the query, and from nowhere else.
        headers: the names that are known to be taken from headers and cookies, which are not checked.
    """

    has_body: bool = True
    query: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()

    def named(self, query: Mapping[str, V]) -> dict[str, V]:
        """Return the values of a query under the names that are checked. Raises UsageError."""
        if any(name.startswith(MARK) for name in query):
            raise UsageError("query: a name begins with ?")
        bare = self.query if self.has_body else query.keys() - self.headers
        return {name if name in bare else MARK + name: value for name, value in query.items()}

    def require_body(self, query: Mapping[str, object], body: bytes) -> None:
        """Return if each member of a JSON object can be an argument of the body. Raises UsageError."""
        if not self.has_body:
            raise UsageError("body: the route has none")
        # A number may have more digits than Python reads.
        for name in json.loads(body, parse_int=float):
            if name.startswith(MARK):
                raise UsageError("body: a name begins with ?")
            if name in query:
                raise UsageError("query: a name stands in the body too")
            if name in self.query or name in self.headers:
                raise UsageError("body: a name that the route takes from elsewhere")


# A place is a whole segment, so that no value can end its segment or begin another.
_PLACE: Final = re.compile(r"\{([A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*)(\*?)\}", re.ASCII)


class ResourceTemplate:
    """A resource whose segments may be places: ``{name}`` is one segment, ``{name*}`` one or more.

    A name with dots reads a member of an object: ``{order.id}``.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises UsageError for an empty segment, or a brace that is not the end of a place.
        """
        self.text = text
        self._parts: list[tuple[str, tuple[str, ...], bool]] = []
        for segment in text.split("/"):
            place = _PLACE.fullmatch(segment)
            if place is not None:
                self._parts.append(("", tuple(place[1].split(".")), bool(place[2])))
            elif not segment or "{" in segment or "}" in segment:
                raise UsageError(f"{text!a}: a resource has no empty segment, and a place is a whole segment")
            else:
                self._parts.append((segment, (), False))

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the resource with ``values`` in its places.

        Raises UsageError for a value that is missing, is neither text nor a whole number, or would fill more
        than its place.
        """
        return "/".join(
            literal or self._value(values, path, several) for literal, path, several in self._parts
        )

    def _value(self, values: Mapping[str, Any], path: tuple[str, ...], several: bool) -> str:
        value: Any = values
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        name = ".".join(path)
        if not isinstance(value, str):
            raise UsageError(f"{self.text}: the call has no {name} that can be part of a resource")
        segments = value.split("/")
        if (len(segments) > 1 and not several) or not all(map(_is_segment, segments)):
            raise UsageError(f"{self.text}: {name} can't stand in a resource")
        return value

    def __repr__(self) -> str:
        """Show the text."""
        return f"ResourceTemplate({self.text!r})"


def _is_segment(text: str) -> bool:
    """Return True unless the segment is empty or a step in a path. The check refuses other characters."""
    return text not in ("", ".", "..")


WEBSOCKET: Final = "WEBSOCKET"
MAX_QUERY_NAMES: Final = 1_000
_PATH_PLACE: Final = re.compile(r"\{([A-Za-z_]\w*)(?::([a-z]+))?\}", re.ASCII)
# The converters of Starlette, in its own expressions: another route would match there.
_KINDS: Final = {
    None: "[^/]+",
    "str": "[^/]+",
    "path": ".*",
    "int": "[0-9]+",
    "float": r"[0-9]+(?:\.[0-9]+)?",
    "uuid": "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}",
}


class ServiceRoute:
    """One route: its method and path, its action and resource."""

    __slots__ = ("_pattern", "action", "judges_body", "method", "path", "places", "resource")

    def __init__(
        self,
        method: str,
        path: str,
        action: str,
        resource: str,
        *,
        judges_body: bool = True,
        query: Collection[str] = (),
    ) -> None:
        """Describe a route.

        Raises UsageError for a path or template that can't be read, and a text in the place of names.

        Args:
            method: the HTTP method, or ``WEBSOCKET``.
            path: as Starlette and FastAPI write it: ``{name}`` is one segment, ``{name:path}`` the rest;
                of converters there are ``str``, ``path``, ``int``, ``float`` and ``uuid``.
            action: as scopes name it.
            resource: a template whose places are those of the path; ``{name*}`` for one of ``:path``.
            judges_body: False for an upload whose body is neither read nor checked.
            query: the names that the application takes from the query, of a request that may have a body;
                scopes name them without ``?``, and in a body they are refused.
        """
        if isinstance(query, str):
            raise UsageError("query: is a list of names")
        self.method = method
        self.path = path
        self.action = action
        self.resource = ResourceTemplate(resource)
        self.judges_body = judges_body
        self.places = Places(method not in BARE_QUERY, frozenset(query))
        self._pattern = _pattern(path)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the values of a path's places; None for another path."""
        found = self._pattern.fullmatch(path)
        return found.groupdict() if found is not None else None


class RouteTable(CallTable):
    """The routes of a service, in the order of the application: the first that matches counts."""

    __slots__ = ("_routes",)

    def __init__(self, routes: Iterable[ServiceRoute]) -> None:
        """Take the routes. A request that matches none is refused."""
        super().__init__()
        self._routes = tuple(routes)

    def find(self, method: str, path: str) -> tuple[ServiceRoute, dict[str, str]] | None:
        """Return the route of a request and the values of its places; None for an unknown one.

        HEAD is answered by a route for GET, as frameworks do.
        """
        if "\n" in path:
            # Expressions of frameworks pass over a line feed at the end, or stop at one.
            return None
        for route in self._routes:
            if route.method == method or (method == "HEAD" and route.method == "GET"):
                if (values := route.match(path)) is not None:
                    return route, values
        return None

    def call(self, method: str, path: str, query: bytes, body: bytes) -> ServiceCall:
        """Return the call of a whole request, for a client's proof.

        Raises UsageError for an unknown route; as :func:`route_arguments`.
        """
        found = self.find(method, path)
        if found is None:
            raise UsageError(f"{method} {path!a} is not in the table of routes")
        route, values = found
        arguments = route_arguments(query, body if route.judges_body else b"", route.places)
        return ServiceCall(route.action, route.resource.fill(values), arguments)


def named_call(method: str, path: str, action: str, resource: str) -> NamedCall:
    """Return the call of a request, under the name ``METHOD /path``."""
    return NamedCall(f"{method} {path}", action, resource)


def route_arguments(query: bytes, body: bytes, places: Places) -> bytes:
    """Return the arguments of a query string and a JSON body together, in canonical form.

    Values of a query are texts. Names are those of ``places``. Raises UsageError for a body that is not a
    JSON object, a query that is not UTF-8 or too long, and a name that occurs twice or where the handler does
    not take it from.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_NAMES
        )
    except ValueError as error:
        raise UsageError(f"query: {type(error).__name__}") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise UsageError("query: a name stands twice")
    of_body = canonical(body)
    if body:
        places.require_body(values, of_body)
    if not values:
        return of_body
    of_query = encode(places.named(values))
    if of_body == b"{}":
        return canonical(of_query)
    return canonical(of_query[:-1] + b"," + of_body[1:])


def require_json(headers: Mapping[str, Sequence[str]]) -> None:
    """Return if a body with these headers is read as JSON by everyone; names are in lower case.

    Raises UsageError for another content type, a charset but UTF-8, an encoding, and for two of a header.
    """
    if any(coding.strip().lower() != "identity" for coding in headers.get("content-encoding", ())):
        raise UsageError("body: is encoded")
    kinds = headers.get("content-type", ())
    if len(kinds) != 1:
        raise UsageError("body: has not exactly one content type")
    kind, *parameters = (part.strip().lower() for part in kinds[0].split(";"))
    if kind != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", kind, re.ASCII):
        raise UsageError("body: is not JSON")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') != "utf-8":
            raise UsageError("body: is not in UTF-8")


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return the values of each header by its name in lower case."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return values


def _pattern(path: str) -> re.Pattern[str]:
    if not path.startswith("/"):
        raise UsageError(f"{path!a}: a path begins with /")
    parts: list[str] = []
    position = 0
    for place in _PATH_PLACE.finditer(path):
        parts.append(_literal(path, path[position : place.start()]))
        if place[2] not in _KINDS:
            raise UsageError(f"{path!a}: no converter {place[2]} is known here")
        parts.append(f"(?P<{place[1]}>{_KINDS[place[2]]})")
        position = place.end()
    parts.append(_literal(path, path[position:]))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise UsageError(f"{path!a}: {error}") from None


def _literal(path: str, text: str) -> str:
    if "{" in text or "}" in text:
        raise UsageError(f"{path!a}: a place is {{name}} or {{name:kind}}")
    return re.escape(text)


def path_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a framework's path places, as texts unless they are whole numbers."""
    return {
        name: value if isinstance(value, int) and not isinstance(value, bool) else str(value)
        for name, value in values.items()
    }
