"""Finds how a call goes on, on the polling thread, before its message is waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from ...errors import ServerError
from ..keys.credentials import MAX_ACCEPTED, Loaded, Principal
from ..status import refused
from ..transport.receiving import Receiving
from ..transport.rpc import Plan, Rpc
from .access import ANYONE, ASKED_BY, RULES, Rule, pool_of, require_rules
from .authenticate import AUTHORIZATION
from .call import NOBODY
from .method import Method
from .pipeline import Pipeline
from .pool import PoolShare
from .pools import PoolSet

HEALTH_PREFIX: Final = "/grpc.health.v1.Health/"
FORWARD: Final = "/sessauth.v1.ForwardService/Forward"
# Workers that drain have something left to tell.
REPORT_OBSERVATIONS: Final = "/sessauth.v1.UsageService/ReportObservations"


class Route:
    """A method, and how the calls of those go on who call it."""

    __slots__ = ("handed_on", "known", "method", "open_to_anyone", "plans", "rule", "to_the_end")

    def __init__(self, method: Method, rule: Rule) -> None:
        """Know nobody who calls yet."""
        self.method = method
        self.rule = rule
        self.to_the_end = method.name.startswith(HEALTH_PREFIX) or method.name == REPORT_OBSERVATIONS
        self.open_to_anyone = ANYONE in rule.roles
        # Calls of a worker that are somebody else's: who asked it is looked for each time.
        self.handed_on = method.name == FORWARD
        # By the caller, and in whose part of the pool its calls are.
        self.plans: dict[tuple[Principal, str], Plan] = {}
        # By the digest of an ``authorization`` entry that was right and whose role reaches the method.
        self.known: dict[bytes, Plan] = {}


class Router:
    """Takes new calls: nothing here may wait.

    Who called before with the same credential is known by its digest, as long as the file of credentials
    stays as it was; the credential itself is kept nowhere.
    """

    def __init__(
        self, methods: Sequence[Method], pipeline: Pipeline, pools: PoolSet, receiving: Receiving
    ) -> None:
        """Serve ``methods``. Raises ConfigError if one has no rule."""
        require_rules(method.name for method in methods)
        self._pipeline = pipeline
        self._authenticator = pipeline.authenticator
        self._credentials = pipeline.authenticator.credentials
        self._pools = pools
        self._receiving = receiving
        self._routes: Mapping[str, Route] = {
            method.name: Route(method, RULES[method.name]) for method in methods
        }
        # By pool and principal; those of nobody who calls any more go when the file of credentials changes.
        self._shares: dict[tuple[str, str], PoolShare[Rpc]] = {}
        # The file that all that is known was judged by.
        self._known_by: Loaded | None = None
        self._draining = False

    def drain(self) -> None:
        """Refuse every new call but health's and observation reports; those that run go on."""
        self._draining = True

    def accept(self, rpc: Rpc) -> None:
        """Wait for the message of a call, or refuse it."""
        route = self._routes.get(rpc.method)
        if route is None:
            rpc.unimplemented()
            return
        credentials = self._credentials
        if (
            credentials.loaded is self._known_by
            and time.monotonic() < credentials.look_again_at
            and not self._draining
        ):
            plan = route.known.get(_digest(rpc.metadata))
            if plan is not None:
                rpc.plan, rpc.judged_by = plan, self._known_by
                self._receiving.begin(rpc)
                return
        self._judge(route, rpc)

    def _judge(self, route: Route, rpc: Rpc) -> None:
        """Take a call about whose caller nothing is known yet."""
        principal, loaded, by_metadata = NOBODY, self._credentials.loaded, False
        try:
            if not route.open_to_anyone:
                # Strangers are refused before anything of theirs is waited for.
                named = self._authenticator.from_metadata(rpc.metadata)
                by_metadata = named is not None
                rpc.judged_by = loaded if by_metadata else self._authenticator.identities.known()
                named = named or self._authenticator.from_certificate(rpc)
                if named is None:
                    raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
                principal = named
            if self._draining and not route.to_the_end:
                raise refused("SHUTTING_DOWN", "this server is about to end; call another, or wait for it")
            if principal is not NOBODY and principal.role not in route.rule.roles:
                raise refused("PERMISSION_DENIED", "this credential may not do that")
        except ServerError as error:
            self._pipeline.refuse(rpc, route.method.name, route.rule, principal, error)
            return
        if self._known_by is not loaded:
            self._forget(loaded)
        asked_by = _asked_by(rpc.metadata) if route.handed_on else ""
        rpc.plan = self._plan(route, principal, asked_by or principal.name)
        if by_metadata and not route.handed_on and self._credentials.loaded is loaded:
            # It was not replaced meanwhile, so it is what the caller was judged by.
            digest = _digest(rpc.metadata)
            if digest and len(route.known) < MAX_ACCEPTED:
                route.known[digest] = rpc.plan
        self._receiving.begin(rpc)

    def _arrived(self, rpc: Rpc, message: bytes | None) -> None:
        """Take a call's message; a caller that was removed while it came is refused."""
        judged_by, credentials = rpc.judged_by, self._credentials
        if judged_by is not None and (
            judged_by is not credentials.loaded or time.monotonic() >= credentials.look_again_at
        ):
            try:
                self._authenticator.require(rpc, rpc.plan.principal, judged_by)
            except ServerError as error:
                self._receiving.drop(rpc, error)
                return
        self._receiving.arrived(rpc, message)

    def _plan(self, route: Route, principal: Principal, whose: str) -> Plan:
        """Return the plan for calls of ``principal`` in the part of the pool that is ``whose``."""
        plan = route.plans.get((principal, whose))
        if plan is None:
            pool = pool_of(route.rule, principal.role)
            share = self._shares.get((pool, whose))
            if share is None:
                share = PoolShare(self._pools[pool], strangers=principal is NOBODY)
                self._shares[pool, whose] = share
            plan = self._pipeline.plan(route.method, route.rule, share, principal, self._arrived)
            route.plans[principal, whose] = plan
        return plan

    def _forget(self, loaded: Loaded | None) -> None:
        """Know nobody any more: the file of credentials is another one."""
        for route in self._routes.values():
            route.known.clear()
            route.plans.clear()
        self._shares = {key: share for key, share in self._shares.items() if share.in_flight or share.waiting}
        self._known_by = loaded


def _asked_by(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """Return the name of who asked the worker that hands a call on; empty if it does not say."""
    for name, value in metadata:
        if name == ASKED_BY and isinstance(value, bytes):
            return value.decode("utf-8", "replace")
    return ""


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
