"""Query and body are two places of a request: a handler that takes a name from one doesn't see the other.

An argument of the query is checked as ``"?NAME"``, which no identifier can be, so that what stands there
meets no condition about a value of the body. Its name is bare where nothing else can have it: in a request
that has no body, and where the handler is known to take it from the query.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from ...errors import UsageError

V = TypeVar("V")

MARK: Final = "?"
"""The beginning of the name of an argument that the query has."""
BARE_QUERY: Final = frozenset({"GET", "HEAD", "WEBSOCKET"})
"""Methods whose requests have no body: their arguments stand in the query alone, under bare names."""


class Places(NamedTuple):
    """The places from which the handler of a route takes its arguments.

    Attributes:
        has_body: False for a route whose requests have no body; one with a body is refused.
        query: the names that are known to be taken from the query, and from nowhere else.
        headers: the names that are known to be taken from headers and cookies, which are not judged.
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
