"""Finds the plan of a new call on the polling thread, before its message is waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from ...errors import ServerError
from ..keys.credentials import Loaded, Principal
from ..status import refused
from ..transport.receiving import Receiving
from ..transport.rpc import Plan, Rpc
from .access import ANYONE, GATEWAY, ORIGINAL_CALLER, RULES, STATEMENT, Rule, pool_of, require_rules
from .authenticate import AUTHORIZATION, credential_of_entry
from .call import NOBODY
from .method import Method
from .pipeline import Pipeline
from .pool import PoolShare
from .pools import PoolSet

HEALTH_PREFIX: Final = "/grpc.health.v1.Health/"
FORWARD: Final = "/sessauth.v1.ForwardService/Forward"
# Served by the workers too.
CHECKS: Final = frozenset(
    f"/sessauth.v1.AuthorizationService/{name}"
    for name in ("Check", "CheckBatch", "CheckStream", "ListAllowed")
)
# Workers that drain still report observations.
REPORT_OBSERVATIONS: Final = "/sessauth.v1.UsageService/ReportObservations"
# Other hosts of a cluster may state any number of callers.
MAX_PLANS: Final = 4096


class Route:
    """A method, and the plans for its calls."""

    __slots__ = (
        *("anonymous", "forwarded", "method", "plans", "plans_by_credential", "rule"),
        "served_while_draining",
    )

    def __init__(self, method: Method, rule: Rule) -> None:
        """Begin without plans."""
        self.method = method
        self.rule = rule
        self.served_while_draining = (
            method.name.startswith(HEALTH_PREFIX) or method.name == REPORT_OBSERVATIONS
        )
        self.anonymous = ANYONE in rule.roles
        # Calls of a worker for callers of its own, which share the pool by name.
        self.forwarded = method.name == FORWARD
        # By the principal, and the name that its share of the pool has.
        self.plans: dict[tuple[Principal, str], Plan] = {}
        # By the digest of an accepted credential whose role reaches the method; each has one text.
        self.plans_by_credential: dict[bytes, Plan] = {}


class Router:
    """Admits new calls: nothing here may wait.

    A credential that called before is found by its digest as long as the file of credentials stays the same;
    the credential itself is stored nowhere.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        pipeline: Pipeline,
        pools: PoolSet,
        receiving: Receiving,
        checks_at: str = "",
    ) -> None:
        """Serve ``methods``. Raises ConfigError if one has no rule.

        Gateways are refused checks here if ``checks_at`` names the addresses where they are served.
        """
        require_rules(method.name for method in methods)
        self._pipeline = pipeline
        self._authenticator = pipeline.authenticator
        self._credentials = pipeline.authenticator.credentials
        self._pools = pools
        self._receiving = receiving
        self._routes: Mapping[str, Route] = {
            method.name: Route(method, RULES[method.name]) for method in methods
        }
        # By pool and name; empty ones are dropped when the file of credentials changes.
        self._shares: dict[tuple[str, str], PoolShare[Rpc]] = {}
        # The file that the cached plans were made under.
        self._cached_under: Loaded | None = None
        self._checks_at = checks_at
        self._draining = False

    @property
    def methods(self) -> Sequence[str]:
        """The full names of the RPCs that are served."""
        return tuple(self._routes)

    def drain(self) -> None:
        """Refuse every new call but those of health and observations; running calls go on."""
        self._draining = True

    def accept(self, rpc: Rpc) -> None:
        """Wait for the message of a call, or refuse it."""
        route = self._routes.get(rpc.method)
        if route is None:
            rpc.unimplemented()
            return
        credentials = self._credentials
        if (
            not self._draining
            # First: it may be another thread that replaces ``loaded``.
            and credentials.is_current()
            and credentials.loaded is self._cached_under
        ):
            plan = route.plans_by_credential.get(_digest(rpc.metadata))
            if plan is not None:
                rpc.plan, rpc.authenticated_by = plan, self._cached_under
                self._receiving.begin(rpc)
                return
        self._admit_new_caller(route, rpc)

    def _admit_new_caller(self, route: Route, rpc: Rpc) -> None:
        """Authenticate and authorize a call whose credential is not cached."""
        principal, loaded, by_metadata = NOBODY, self._credentials.loaded, False
        try:
            if not route.anonymous:
                # Strangers are refused before their message is waited for.
                rpc.stated = self._authenticator.from_statement(rpc)
                found: Principal | None
                if rpc.stated is not None:
                    found = rpc.stated.principal
                else:
                    found = self._authenticator.from_metadata(rpc.metadata)
                    by_metadata = found is not None
                    rpc.authenticated_by = loaded if by_metadata else self._authenticator.identities.known()
                    found = found or self._authenticator.from_certificate(rpc)
                if found is None:
                    raise refused("UNAUTHENTICATED", "the credential is missing or not accepted")
                principal = found
            if self._draining and not route.served_while_draining:
                raise refused("SHUTTING_DOWN", "this server is about to end; call another, or wait for it")
            if principal is not NOBODY and principal.role not in route.rule.roles:
                raise refused("PERMISSION_DENIED", "this credential may not do that")
            if self._checks_at and route.method.name in CHECKS and self._is_gateways(rpc, principal):
                raise refused(
                    "CHECKS_AT_WORKERS",
                    f"gateways check at the workers' address, {self._checks_at}, not at this one "
                    "(server.checks_at_control)",
                )
            if rpc.stated is not None and route.rule.streams:
                raise refused("PERMISSION_DENIED", "streams are not forwarded")
        except ServerError as error:
            self._pipeline.refuse(rpc, route.method.name, route.rule, principal, error)
            return
        if self._cached_under is not loaded:
            self._clear_cache(loaded)
        caller = _original_caller(rpc.metadata) if route.forwarded else ""
        if rpc.stated is not None:
            caller = rpc.stated.share
        rpc.plan = self._plan(route, principal, caller or principal.name)
        if by_metadata and not route.forwarded and self._credentials.loaded is loaded:
            # The file was not replaced meanwhile, so the caller was authenticated by it.
            digest = _digest(rpc.metadata)
            if digest:
                route.plans_by_credential[digest] = rpc.plan
        self._receiving.begin(rpc)

    @staticmethod
    def _is_gateways(rpc: Rpc, principal: Principal) -> bool:
        """Return True for a gateway's own call, and not one that another host of the cluster forwards."""
        return principal.role == GATEWAY and rpc.stated is None

    def _deliver(self, rpc: Rpc, message: bytes | None) -> None:
        """Pass on a call's message, unless its caller was removed meanwhile: then refuse the call."""
        authenticated_by, credentials = rpc.authenticated_by, self._credentials
        if authenticated_by is not None and (
            not credentials.is_current() or authenticated_by is not credentials.loaded
        ):
            try:
                self._authenticator.require(rpc, rpc.plan.principal, authenticated_by)
            except ServerError as error:
                self._receiving.drop(rpc, error)
                return
        self._receiving.deliver(rpc, message)

    def _plan(self, route: Route, principal: Principal, share_name: str) -> Plan:
        """Return the plan for calls of ``principal`` in the pool's share of ``share_name``."""
        plan = route.plans.get((principal, share_name))
        if plan is None:
            pool = pool_of(route.rule, principal.role)
            share = self._shares.get((pool, share_name))
            if share is None:
                share = PoolShare(self._pools[pool], strangers=principal is NOBODY)
                self._shares[pool, share_name] = share
            plan = self._pipeline.plan(route.method, route.rule, share, principal, self._deliver)
            if len(route.plans) < MAX_PLANS:
                route.plans[principal, share_name] = plan
        return plan

    def _clear_cache(self, loaded: Loaded | None) -> None:
        """Drop all plans: the file of credentials is another one."""
        for route in self._routes.values():
            route.plans_by_credential.clear()
            route.plans.clear()
        self._shares = {key: share for key, share in self._shares.items() if share.in_flight or share.waiting}
        self._cached_under = loaded


def _original_caller(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """Return the name of the caller that a worker forwards a call for; empty if it states none."""
    for name, value in metadata:
        if name == ORIGINAL_CALLER and isinstance(value, bytes):
            return value.decode("utf-8", "replace")
    return ""


def _digest(metadata: Sequence[tuple[str, str | bytes]]) -> bytes:
    """Return BLAKE2b-256 of the credential in the only ``authorization`` entry, empty without.

    Empty too beside a statement of another caller, which is checked each time.
    """
    found: str | bytes | None = None
    for name, value in metadata:
        if name == AUTHORIZATION:
            if found is not None:
                return b""
            found = value
        elif name == STATEMENT:
            return b""
    text = credential_of_entry(found)
    return blake2b(text.encode(), digest_size=32).digest() if text and text.isascii() else b""
