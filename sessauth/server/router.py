"""Finds the handler of a call, on grpc's polling thread, before the call takes a place in a lane."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

from ..errors import ServerError
from . import lanes as lane_names
from .access import ANYONE, RULES, Rule, require_rules
from .call import NOBODY
from .credentials import MAX_ACCEPTED, Loaded, Principal
from .interceptors.authenticate import AUTHORIZATION
from .lanes import Lanes
from .method import Method
from .pipeline import Handler, Pipeline
from .status import refused

if TYPE_CHECKING:
    _HandlerSource: TypeAlias = grpc.GenericRpcHandler[bytes, bytes]
else:
    # Generic in the stubs only.
    _HandlerSource = grpc.GenericRpcHandler

HEALTH_PREFIX: Final = "/grpc.health.v1.Health/"
# Workers that drain have something left to tell.
TELL: Final = "/sessauth.v1.UsageService/Tell"


class Route:
    """A method in its lane, and the handlers of those who call it."""

    __slots__ = ("known", "lane", "method", "open_to_anyone", "rule", "to_the_end", "unnamed")

    def __init__(self, method: Method, rule: Rule, lanes: Lanes, pipeline: Pipeline) -> None:
        """Prepare the handlers that do not depend on who calls."""
        self.method = method
        self.rule = rule
        self.lane = lanes[rule.lane]
        self.to_the_end = method.name.startswith(HEALTH_PREFIX) or method.name == TELL
        self.open_to_anyone = ANYONE in rule.roles
        # For calls without a credential.
        self.unnamed = (
            pipeline.handler(method, rule, self.lane, NOBODY)
            if self.open_to_anyone
            else pipeline.handler_by_certificate(method, rule, self.lane)
        )
        # By the digest of an ``authorization`` entry that was right and whose role reaches the method.
        self.known: dict[bytes, Handler] = {}


class Router(_HandlerSource):
    """Finds the handler of a call: nothing here may wait.

    Who called before with the same credential is known by its digest, as long as the file of credentials
    stays as it was; the credential itself is kept nowhere.
    """

    def __init__(self, methods: Sequence[Method], pipeline: Pipeline, lanes: Lanes) -> None:
        """Serve ``methods``. Raises ConfigError if one has no rule."""
        require_rules(method.name for method in methods)
        self._pipeline = pipeline
        self._authenticator = pipeline.authenticator
        self._credentials = pipeline.authenticator.credentials
        self._refusals = lanes[lane_names.REFUSAL]
        self._routes: Mapping[str, Route] = {
            method.name: Route(method, RULES[method.name], lanes, pipeline) for method in methods
        }
        # The file that all that is known was judged by.
        self._known_by: Loaded | None = None
        self._draining = False

    def drain(self) -> None:
        """Refuse every new call but health's and tellings; those that run go on."""
        self._draining = True

    def service(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of the call, one that refuses it, or None for an unknown method."""
        route = self._routes.get(details.method)
        if route is None:
            return None
        metadata: Any = details.invocation_metadata or ()
        lane, credentials = route.lane, self._credentials
        if (
            credentials.loaded is self._known_by
            and time.monotonic() < credentials.look_again_at
            and lane.held < lane.capacity
            and not self._draining
        ):
            handler = route.known.get(_digest(metadata))
            if handler is not None:
                return handler
        return self._judged(route, metadata)

    def _judged(self, route: Route, metadata: Sequence[tuple[str, str | bytes]]) -> Handler:
        """Return the handler of a call about whose caller nothing is known yet."""
        principal, loaded = None, self._credentials.loaded
        if not route.open_to_anyone:
            # Strangers are refused before they take a place in a lane.
            try:
                principal = self._authenticator.from_metadata(metadata)
            except ServerError as error:
                return self._refusing(route, error)
            if principal is None and not self._authenticator.knows_certificates:
                return self._refusing(
                    route, refused("UNAUTHENTICATED", "the credential is missing or not accepted")
                )
        if self._draining and not route.to_the_end:
            return self._refusing(
                route,
                refused("SHUTTING_DOWN", "this server is about to end; call another, or wait for it"),
                principal,
            )
        if route.lane.full:
            return self._refusing(
                route, refused("OVERLOADED", f"the {route.rule.lane} lane is full; retry later"), principal
            )
        if principal is None:
            return route.unnamed
        if principal.role not in route.rule.roles:
            return self._refusing(
                route, refused("PERMISSION_DENIED", "this credential may not do that"), principal
            )
        handler = self._pipeline.handler(route.method, route.rule, route.lane, principal)
        if self._credentials.loaded is loaded:
            # It was not replaced meanwhile, so it is what the caller was judged by.
            self._remember(route, metadata, handler, loaded)
        return handler

    def _remember(
        self, route: Route, metadata: Sequence[tuple[str, str | bytes]], handler: Handler, loaded: Loaded
    ) -> None:
        if self._known_by is not loaded:
            for each in self._routes.values():
                each.known.clear()
            self._known_by = loaded
        digest = _digest(metadata)
        if digest and len(route.known) < MAX_ACCEPTED:
            route.known[digest] = handler

    def _refusing(self, route: Route, error: ServerError, principal: Principal | None = None) -> Handler:
        return self._pipeline.refusal(
            route.method.name, route.rule, self._refusals, principal or NOBODY, error
        )


def _digest(metadata: Sequence[tuple[str, str | bytes]]) -> bytes:
    """Return BLAKE2b-256 of the only ``authorization`` entry; nothing if there is none, or several."""
    found: str | bytes | None = None
    for name, value in metadata:
        if name == AUTHORIZATION:
            if found is not None:
                return b""
            found = value
    if isinstance(found, str) and found.isascii():
        return blake2b(found.encode(), digest_size=32).digest()
    return b""
