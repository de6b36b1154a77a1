"""The way of a call to its service: a plan before its message is waited for, then interceptors in order.

1. The router finds the plan of a new call on the polling thread: the caller, its role, its pool.
2. Once the message has come, the pipeline leads the call through deadline, accounting and tracing to its
   service, on a thread of the pool.

A check may need no thread: the loop of the server answers callers that the router admitted before, by
the same credential or certificate. Calls answered there are counted like those of the pipeline. With traces,
or with a log of each call, nothing is answered there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from types import GeneratorType
from typing import Any, Final, Protocol, cast

from ..._fast._check import Checker
from ..._fast._codec import DirectCaller, DirectMethod
from ...decisions.decision import Decision
from ...errors import ConfigError, NotLeader, ServerError
from ...model.host import ItemProof
from ..keys.credentials import Loaded, Principal
from ..log import fault
from ..metrics.shared_page import ROW_OF, Page
from ..status import refused
from ..transport.native import Receiving
from ..transport.rpc import Deliver, Plan, Rpc, Run, cancelled_error
from .access import ANYONE, GATEWAY, ORIGINAL_CALLER, RULES, STATEMENT, Rule, pool_of, require_rules
from .authenticate import AUTHORIZATION, Authenticator, Gates, credential_of_entry
from .call import NOBODY, Accounting, CallContext, Deadline, Method
from .finisher import ON_A_THREAD, Finisher, Steps, in_one_go, next_step
from .pool import HELD, PoolSet, PoolShare
from .tracing import OnEvent, OnFailure, Tracing

Answer = Callable[[Any, CallContext], Any]


def shows_always(answer: bytes) -> bool:
    """Return True."""
    return True


class Forward(Protocol):
    """Asks the leader of the cluster for work that only it can do."""

    def __call__(
        self,
        name: str,
        request: bytes,
        call: CallContext,
        error: NotLeader,
        proofs: Sequence[ItemProof] = (),
        shows: Callable[[bytes], bool] = shows_always,
    ) -> bytes:
        """Return the leader's answer to an RPC by its full name.

        ``proofs`` are this host's results for the proofs of the request's items. ``shows(answer)`` returns
        False for an answer without anything that the caller could look for here; by default each has.
        Raises ``error`` if the call can't be forwarded, and ServerError with the leader's reason.
        """
        ...


@dataclass(frozen=True)
class Pipeline:
    """The interceptors of one process.

    The router authenticates the caller and checks its role before the message is waited for: strangers' bytes
    are never parsed. Accounting counts the end of every call, refused ones included.
    """

    authenticator: Authenticator
    accounting: Accounting
    deadline: Deadline
    # Goes on with calls whose changes are durable.
    finisher: Finisher
    # How long the client of a stream may leave sent messages unread.
    slow_reader_seconds: float
    # Makes a span of each call; None: no spans.
    tracing: Tracing | None = None
    # Asks the leader of the cluster for work that only it can do; None: this server is alone.
    forward: Forward | None = None

    def plan(
        self, method: Method, rule: Rule, share: PoolShare[Rpc], principal: Principal, deliver: Deliver
    ) -> Plan:
        """Return the plan for calls of an authenticated caller, or of one that need not be."""

        def refuse(rpc: Rpc, error: Exception) -> None:
            self.refuse(rpc, method.name, rule, principal, error)

        run = (self._stream if rule.streams else self._unary)(method, rule, principal)
        return Plan(share, rule.streams, run, refuse, deliver, principal)

    def refuse(self, rpc: Rpc, name: str, rule: Rule, principal: Principal, error: Exception) -> None:
        """End a call that gets no thread."""
        rpc.refused = True
        on_failure: OnFailure = self.accounting.record_failure
        if self.tracing is not None:
            on_failure = self.tracing.wrap_refusal(on_failure)
        _fail(rpc, CallContext(name, rule, rpc, principal), error, on_failure)

    def _unary(self, method: Method, rule: Rule, principal: Principal) -> Run:
        """Return a function that runs one call of a unary method. Each step here is paid on every check."""
        name, answer, now = method.name, method.answer, time.monotonic
        admit, on_success, on_failure = self._callbacks(name, rule, one_thread=True)
        # A span, and a call that may have to be forwarded, stay on their thread.
        if self.tracing is not None or self.forward is not None:
            answer = in_one_go(answer)
        if self.forward is not None:
            answer = _or_forwarded(name, answer, self.forward)

        def unary(rpc: Rpc, data: bytes | None) -> object:
            call = CallContext(name, rule, rpc, principal)
            try:
                admit(call)
                if rpc.ended:
                    raise cancelled_error()
                if now() >= call.deadline:
                    call.raise_if_expired()
                if rpc.stated is not None:
                    rpc.stated.redeem(data or b"")
                result = answer(data, call)
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                _fail(rpc, call, error, on_failure)
                return None
            if type(result) is GeneratorType:
                return go_on(rpc, call, result, ON_A_THREAD)
            succeed(rpc, call, result)
            return None

        def go_on(rpc: Rpc, call: CallContext, steps: Steps[bytes], done: Future[Any] | None) -> object:
            """Take steps until one is to be waited for; returns HELD then, None at the end of the call."""
            try:
                waited_for = next_step(steps, done, call)
                while waited_for is not None and waited_for.done():
                    waited_for = next_step(steps, waited_for, call)
            except StopIteration as end:
                succeed(rpc, call, end.value)
                return None
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                _fail(rpc, call, error, on_failure)
                return None
            if waited_for is None:
                share = rpc.plan.share
                share.pool.resume(share, go_on, rpc, call, steps, ON_A_THREAD)
            else:
                self.finisher.when_done(waited_for, call, partial(finish, rpc, call, steps))
            return HELD

        def finish(rpc: Rpc, call: CallContext, steps: Steps[bytes], done: Future[Any]) -> None:
            if go_on(rpc, call, steps, done) is not HELD:
                rpc.plan.share.release()

        def succeed(rpc: Rpc, call: CallContext, result: bytes) -> None:
            try:
                on_success(call)
            except Exception as problem:  # noqa: BLE001 - the call ends in any case
                fault("accounting", problem)
            rpc.answer(result)

        return unary

    def _stream(self, method: Method, rule: Rule, principal: Principal) -> Run:
        """Return a function that runs one call of a streaming method."""
        within_seconds = self.slow_reader_seconds
        # Its steps may be on different threads.
        admit, on_success, on_failure = self._callbacks(method.name, rule, one_thread=False)

        def stream(rpc: Rpc, first: bytes | None) -> None:
            call = CallContext(method.name, rule, rpc, principal)
            call.require_accepted = self._require_accepted
            try:
                admit(call)
                requests = self._while_accepted(rpc.messages(first), call)
                with closing(cast("Any", method.answer(requests, call))) as answers:
                    for message in answers:
                        rpc.send(message, within_seconds)
            except BaseException as error:  # noqa: BLE001 - becomes the status of the call
                _fail(rpc, call, error, on_failure)
            else:
                try:
                    on_success(call)
                except Exception as problem:  # noqa: BLE001 - the call ends in any case
                    fault("accounting", problem)
                rpc.finish()

        return stream

    def _callbacks(self, name: str, rule: Rule, *, one_thread: bool) -> tuple[OnEvent, OnEvent, OnFailure]:
        """Return callbacks for a call's begin, success and failure."""
        admit, on_success = self.deadline.judge, self.accounting.success_recorder(name, rule)
        if self.tracing is None:
            return admit, on_success, self.accounting.record_failure
        return self.tracing.wrap(admit, on_success, self.accounting.record_failure, one_thread=one_thread)

    def _while_accepted(self, requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        """Yield a stream's messages. Raises UNAUTHENTICATED once its caller is no longer accepted.

        A stream may be open for long after its credential, or the identity of its certificate, was removed.
        """
        for number, data in enumerate(requests):
            if number:
                self._require_accepted(call)
            yield data

    def _require_accepted(self, call: CallContext) -> None:
        call.authenticated_by = self.authenticator.require(
            call.context, call.principal, call.authenticated_by
        )


def _or_forwarded(name: str, answer: Answer, forward: Forward) -> Answer:
    """Return a function that answers here, or forwards the call where only the leader can."""

    def answered(data: bytes, call: CallContext) -> bytes:
        try:
            result: bytes = answer(data, call)
        except NotLeader as error:
            return forward(name, data, call, error)
        return result

    return answered


def _fail(rpc: Rpc, call: CallContext, error: BaseException, on_failure: OnFailure) -> None:
    """Record the failure of a call and end it with the error's status."""
    try:
        on_failure(call, error)
    except Exception as problem:  # noqa: BLE001 - the call ends in any case
        fault("accounting", problem)
    rpc.refuse(error)


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


@dataclass(slots=True, eq=False)
class Route:
    """A method, and the plans for its calls.

    ``plans`` are by the principal, and the name that its share of the pool has; ``plans_by_credential`` by
    the digest of an accepted credential whose role reaches the method; each has one text.
    """

    method: Method
    rule: Rule
    plans: dict[tuple[Principal, str], Plan] = field(default_factory=dict)
    plans_by_credential: dict[bytes, Plan] = field(default_factory=dict)


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
        name, roles = route.method.name, route.rule.roles
        principal, loaded, by_metadata = NOBODY, self._credentials.loaded, False
        try:
            if ANYONE not in roles:
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
            if self._draining and not (name.startswith(HEALTH_PREFIX) or name == REPORT_OBSERVATIONS):
                raise refused("SHUTTING_DOWN", "this server is about to end; call another, or wait for it")
            if principal is not NOBODY and principal.role not in roles:
                raise refused("PERMISSION_DENIED", "this credential may not do that")
            # A gateway's own call, not one that another host of the cluster forwards.
            own = principal.role == GATEWAY and rpc.stated is None
            if self._checks_at and name in CHECKS and own:
                raise refused(
                    "CHECKS_AT_WORKERS",
                    f"gateways check at the workers' address, {self._checks_at}, not at this one "
                    "(server.checks_at_control)",
                )
            if rpc.stated is not None and route.rule.streams:
                raise refused("PERMISSION_DENIED", "streams are not forwarded")
        except ServerError as error:
            self._pipeline.refuse(rpc, name, route.rule, principal, error)
            return
        if self._cached_under is not loaded:
            self._clear_cache(loaded)
        # Calls of a worker for callers of its own, which share the pool by name.
        forwarded = name == FORWARD
        caller = _original_caller(rpc.metadata) if forwarded else ""
        if rpc.stated is not None:
            caller = rpc.stated.share
        rpc.plan = self._plan(route, principal, caller or principal.name)
        if by_metadata and not forwarded and self._credentials.loaded is loaded:
            # The file was not replaced meanwhile, so the caller was authenticated by it.
            digest = _digest(rpc.metadata)
            if digest:
                route.plans_by_credential[digest] = rpc.plan
        self._receiving.begin(rpc)

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


# The kernel's words for the requests, by RPC.
KINDS: Final = {
    "/sessauth.v1.AuthorizationService/Check": "check",
    "/sessauth.v1.AuthorizationService/CheckBatch": "batch",
}


@dataclass(frozen=True, slots=True)
class DirectChecks:
    """The parts of a check: the kernel, the texts of denials, the gates of failed signatures, the meter."""

    checker: Checker
    explain: Callable[[Decision, bytes | None], str]
    gates: Gates
    page: Page | None = None


class DirectCallers:
    """Finds callers of ``Check`` and ``CheckBatch``."""

    def __init__(self, checks: DirectChecks, authenticator: Authenticator) -> None:
        """Admit callers that ``authenticator`` knows and whose role reaches the method."""
        times = None if checks.page is None else checks.page.rpcs
        self._methods = {
            name.encode(): (
                DirectMethod(kind, checks.checker, checks.explain, times, ROW_OF[name, "OK"]),
                RULES[name].roles,
            )
            for name, kind in KINDS.items()
        }
        self._authenticator = authenticator
        self._gates = checks.gates
        self._found_under: tuple[object, object] = (None, None)
        self._generation = 0
        self._draining = False

    @property
    def paths(self) -> Sequence[bytes]:
        """The full names of the RPCs."""
        return tuple(self._methods)

    def drain(self) -> None:
        """Admit no caller any more: the router refuses new calls."""
        self._draining = True

    def generation(self) -> int:
        """Return a number that grows when credentials or identities change."""
        credentials = self._authenticator.credentials
        if not credentials.is_current():
            # No caller is admitted while they can't be read: there are no entries then.
            with suppress(ConfigError):
                credentials.current()
        under = (credentials.loaded, self._authenticator.identities.known())
        if under[0] is not self._found_under[0] or under[1] is not self._found_under[1]:
            self._found_under = under
            self._generation += 1
        return self._generation + (1 << 32 if self._draining else 0)

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        """Return the caller of an RPC; None for one who is not known, or may not call it."""
        method, roles = self._methods[path]
        # A host's certificate also covers its statements of other callers, which the router checks.
        if self._draining or (authorization is None and self._authenticator.statements is not None):
            return None
        if authorization is not None:
            principal = self._authenticator.accepted_before(authorization)
        else:
            try:
                principal = self._authenticator.from_facts(facts or {})
            except ServerError:
                # The router refuses a certificate of two principals.
                principal = None
        if principal is None or principal.role not in roles:
            return None
        return DirectCaller(method, principal.audiences, self._gates[principal.name])
