"""The token, and a proof, on each request of an HTTP client: httpx and httpx2.

    client = httpx.AsyncClient(base_url=url, auth=BearerAuth(token, origin=url))

Both libraries take a callable for ``auth`` and call it once for each request that they send, so neither is
imported here. Bound tokens need ``prover`` and ``call``: a proof covers what the service checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..crypto.armor import proof_text
from ..errors import UsageError
from ..tokens.prover import Prover
from ..tokens.token import Token
from .services.call_table import ServiceCall
from .services.presented import AUTHORIZATION, PROOF
from .services.routes import RouteTable

R = TypeVar("R")


class BearerAuth:
    """Adds ``Authorization`` to each request, and ``x-sessauth-proof`` where it is given ``prover``."""

    def __init__(
        self,
        token: Token | str,
        *,
        origin: str,
        prover: Prover | None = None,
        call: Callable[[Any], ServiceCall | None] | None = None,
    ) -> None:
        """Present ``token`` to one service.

        Raises UsageError for ``prover`` without ``call``, and for an origin without scheme or host.

        Args:
            token: a token; an open one is sealed first.
            origin: the URL of the service; a request to another scheme, host or port is not sent.
            prover: proves the calls of a bound token.
            call: returns the call that the service checks for a request, None for a request that needs no
                proof; :func:`route_calls` makes one of a table of routes.
        """
        if (prover is None) != (call is None):
            raise UsageError("prover: a proof needs call= too, the call as the service checks it")
        self._origin = origin_of(origin)
        if not all(self._origin[:2]):
            raise UsageError("origin: is the URL of the service, with scheme and host")
        self._token = (token if isinstance(token, Token) else Token.parse(token)).present().text
        self._prover = prover
        self._call = call

    def __call__(self, request: R) -> R:
        """Add the headers and return the request.

        Raises UsageError for a request to another origin, which would be given the token; and if no proof can
        be made for it.
        """
        outgoing: Any = request
        if origin_of(str(outgoing.url)) != self._origin:
            raise UsageError("the request is for another origin than the token")
        outgoing.headers[AUTHORIZATION] = f"Bearer {self._token}"
        if self._prover is not None and self._call is not None:
            call = self._call(outgoing)
            if call is not None:
                proof = self._prover.prove(self._token, *call)
                if proof:
                    outgoing.headers[PROOF] = proof_text(proof)
        return request


def route_calls(routes: RouteTable) -> Callable[[Any], ServiceCall]:
    """Return what makes the call of a request by a service's table of routes."""

    def call(request: Any) -> ServiceCall:
        url = request.url
        return routes.call(request.method, url.path, url.query, request.content)

    return call


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port
