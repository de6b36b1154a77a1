"""The base of the verifiers: checks in this process, by the kernel, against a source of state.

Parts:

- :class:`BaseVerifier`: the checks. :class:`RegistrationLoop`: the registration with a server.
- :class:`CostJudge`: a verifier whose server charges the costs of calls. :class:`ServerAccess`: that server.
- ``open_verifier``: opens an embedded verifier with its recorder, its reports and its registration.

Order of events of a check:

1. A verifier past its staleness bound denies the call with ``STALE_STATE``. The bound counts from its last
   request to the server.
2. The kernel checks the call in this process.
3. A call that ends in stage ``needs`` has costs, which only the writer of the state can charge. It is
   prepared here and sent to the server, with the gateway's own credential. Without an answer it stays denied.

A verifier on the server's host sees every change at once. Its acknowledgements prove that: this process sends
them, each for a revision that its own view has just read.

What must never happen: a verifier allows a call after it has been without its server for longer than its
bound. The server could then not certify that a session is over for all verifiers.

Nothing here loads grpc or protobuf.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

from .._fast._check import Checker, CostClaims, Prepared, View
from .._fast._codec import Survey
from ..clock import Clock, SystemClock
from ..decisions.decision import Decision
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog, Verdicts, token_options
from ..errors import (
    PermissionDenied,
    Rejected,
    SessauthError,
    StateError,
    Unauthenticated,
    UnknownTool,
    UsageError,
)
from ..limits import MAX_PERMIT_MS, MAX_RETRY_ID_BYTES
from ..model.change import Head
from ..model.receipt import Registration as Registration
from ..reasons import Reason, Stage, SurveyVerdict
from ..scopes.call_arguments import Arguments, text_bytes
from ..state.host.processes import started
from ..tokens.token import Token

if TYPE_CHECKING:
    from .._fast._check import Batch, ProofKeys
    from ..audit.recording.process import ProcessRecorder
    from ..audit.write.stream import AuditOptions
    from ..client import AsyncClient, Client

# Enough for some 40,000 chains of usual size; see docs/operations/settings.md.
DEFAULT_CACHE_BYTES = 64 * 1024 * 1024


class BaseVerifier(Checker):
    """Checks calls by a source of state; one for each process, for any number of threads.

    ``check``, ``check_batch``, ``prepare`` and ``refuse`` are the kernel's own (``_fast/check/checker.pyx``).
    """

    def __new__(
        cls,
        source: Any,
        *,
        audience: str = "",
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        session_cache_bytes: int = 0,
        proofs: ProofKeys | None = None,
    ) -> Self:
        """Check by ``source``.

        Args:
            source: the source of state of the kernel's view (``LmdbSource``); not closed here.
            audience: the name of this verifier; a token that names audiences must name it.
            cache_bytes: memory for verified chains, in bytes.
            session_cache_bytes: the share of one session; 0 is a sixteenth.
            proofs: this host's verifier keys and replay table, without which bound tokens are denied; the
                attribute of this name may be replaced at any time.
        """
        verifier = super().__new__(
            cls,
            View(source),
            audience=audience,
            cache_bytes=cache_bytes,
            session_cache_bytes=session_cache_bytes,
            token_type=Token,
            proofs=proofs,
        )
        verifier._owned = None
        verifier._recorder = None
        return verifier

    if TYPE_CHECKING:
        _owned: Any
        _recorder: ProcessRecorder | None

        def check(  # noqa: D102
            self,
            token: bytes | str | Token | Prepared,
            action: str | bytes,
            resource: str | bytes,
            arguments: Arguments = b"",
            *,
            tool: Arguments = b"",
            session: bytes = b"",
            source: str = "",
            peer: Sequence[str] = (),
            audience: str | None = None,
            at_least_revision: int = 0,
            proof: bytes | str = b"",
        ) -> Decision: ...
        def check_batch(  # noqa: D102
            self, calls: Iterable[tuple[Any, ...]], *, audience: str | None = None, at_least_revision: int = 0
        ) -> Batch: ...
        def prepare(self, token: bytes | str | Token | Prepared) -> Prepared: ...  # noqa: D102
        def refuse(  # noqa: D102
            self, stage: int, reason: int, argument: str | None = None
        ) -> Decision: ...

    def stands(
        self,
        token: bytes | str | Token | Prepared,
        *,
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
    ) -> Decision:
        """Check the token itself: its form, session, issuer, signatures, time, audience and revocations.

        No call is checked, so an allow permits none: it names no scope. A bound token needs no proof here, so
        an allow does not show that the presenter is its holder. The parameters are those of :meth:`check`.
        """
        return self._check(
            token,
            b"",
            b"",
            session=session,
            source=source,
            peer=peer,
            audience=audience,
            at_least_revision=at_least_revision,
            token_only=True,
        )

    def check_tool(
        self,
        token: bytes | str | Token,
        catalogue: ToolCatalog,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = TOOLS_CALL,
        **options: Any,
    ) -> Decision:
        """Check a call of an MCP tool, with action, resource and facts from the operator's catalogue.

        A tool that is not in the catalogue is denied ``UNKNOWN_TOOL``. ``method`` is the protocol's method;
        one that is part of the handshake is checked by :meth:`stands`. ``options`` are those of
        :meth:`check`, but for ``tool``.
        """
        try:
            action, resource, facts = catalogue.ask(tool, method)
        except UnknownTool:
            decision = self.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL)
            source, audience = options.get("source", ""), options.get("audience")
            self.record_decision(decision, token, method, tool, arguments, source=source, audience=audience)
            return decision
        if action == HANDSHAKE:
            return self.stands(token, **token_options(options))
        return self.check(token, action, resource, arguments, tool=facts, **options)

    def list_allowed(
        self, token: bytes | str | Token | Prepared, candidates: Iterable[tuple[Any, ...]], **options: Any
    ) -> Verdicts:
        """Return for each candidate whether this token could make the call now: yes, no or maybe.

        The token is checked once, then the candidates by the same state and time. NO denies and YES allows
        with any arguments, or with those that a candidate has, for as long as nothing changes; MAYBE depends
        on the arguments, a proof, or the costs of the call. Calls are still to be checked. Raises TypeError
        for a candidate or an option of another form. No input under an agent's control raises.

        Args:
            token: as in :meth:`check`.
            candidates: each a :class:`~sessauth.decisions.tool_catalog.Candidate`, or a tuple of its parts.
            options: ``session``, ``source``, ``peer``, ``audience``, ``at_least_revision`` of :meth:`check`.
        """
        survey = Survey(self, token, **options)
        verdicts = tuple(map(SurveyVerdict, survey.verdicts(candidates)))
        return Verdicts(verdicts, Reason(survey.reason), Stage(survey.stage), survey.revision)

    def list_tools(
        self,
        token: bytes | str | Token | Prepared,
        catalogue: ToolCatalog,
        tools: Iterable[Mapping[str, Any]],
        **options: Any,
    ) -> list[Mapping[str, Any]]:
        """Return the definitions of an MCP ``tools/list`` answer that this token could call at all.

        A tool that is not in the catalogue, or would be denied with any arguments, is left out.
        ``options`` are those of :meth:`list_allowed`.
        """
        known = catalogue.pinned(tools)
        candidates = catalogue.candidates(tool["name"] for tool in known)
        verdicts = self.list_allowed(token, candidates, **options)
        return [tool for tool, verdict in zip(known, verdicts, strict=True) if verdict != SurveyVerdict.NO]

    @property
    def recorder(self) -> ProcessRecorder | None:
        """The recorder of this verifier's decisions; None without one."""
        return self._recorder

    @property
    def cached_chains(self) -> int:
        """The number of cached verified chains."""
        return len(self.cache)

    @property
    def cached_bytes(self) -> int:
        """The size of the cached chains, in bytes."""
        return self.cache.used

    @property
    def inherited(self) -> bool:
        """True if it was opened before this process was forked, so that it denies everything here."""
        return self._owned is not None and self._owned.forked

    def close(self) -> None:
        """Close all that :meth:`embedded` opened; later checks are denied.

        In a child that was forked since, nothing is done: all of it is the parent's, which still uses it.
        """
        if self.inherited:
            return
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    def __enter__(self) -> Self:
        """Return the verifier."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


# Poll interval of the shared page that requests acknowledgements: an end waits for them.
POLL_SECONDS: Final = 0.01
# Between attempts that failed: soon, but not in a tight loop.
RETRY_MS: Final = 100
# Renewals within one bound, so that one lost answer costs nothing.
RENEWALS: Final = 3
# Renewal interval without a bound: the server sees the end of such a verifier's process.
RENEW_MS: Final = 5_000
# A time of the steady clock that is long past.
_PAST: Final = 1

_log = logging.getLogger(__name__)


class StateProbe(Protocol):
    """The verifier's own source of state."""

    def head(self) -> Head:
        """Return the log's position, read now."""

    def called_for(self) -> tuple[int, int]:
        """Return the number of the server process that requests an acknowledgement, and the revision."""


class RegistrationLoop:
    """The thread that keeps a verifier registered. Without a bound (``staleness_ms`` 0) it is never stale."""

    def __init__(
        self,
        view: View,
        source: StateProbe,
        register: Callable[[Registration], int],
        name: str,
        staleness_ms: int,
        clock: Clock | None = None,
    ) -> None:
        """Prepare; from here on the verifier allows nothing until :meth:`start` registered it.

        ``register`` sends a registration and returns the server's latest revision; it must be answered well
        within the bound. ``view`` is the verifier's view of the state.
        """
        self._view = view
        self._source = source
        self._register = register
        self._clock = clock or SystemClock()
        self._registration = Registration(
            name,
            secrets.token_bytes(16),
            staleness_ms,
            process_id=os.getpid(),
            process_started=started(os.getpid()),
        )
        self._acknowledged = -1
        self._server = 0
        self._renew_at_ms = 0
        self._retry_at_ms = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sessauth-registered-{name}", daemon=True)
        self.problem = ""
        self._stale_at(_PAST)

    @property
    def registered(self) -> bool:
        """True if the server accepted the latest attempt."""
        return not self.problem and self._acknowledged >= 0

    def start(self) -> None:
        """Register, and renew that in a thread.

        If the server can't be reached, the thread tries again, and nothing is allowed until it answers.
        Raises a final refusal: Rejected NAME_TAKEN or OTHER_STATE, PermissionDenied, Unauthenticated or
        UsageError.
        """
        try:
            self._renew()
        except (Rejected, PermissionDenied, Unauthenticated, UsageError):
            raise
        except SessauthError as error:
            self._failed(error)
        self._thread.start()

    def close(self) -> None:
        """Allow nothing any more, and leave the server's registry if it answers; without a bound just end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stale_at(_PAST)
        if self._registration.staleness_ms and self._acknowledged >= 0:
            try:
                self._register(replace(self._registration, process_started=0, leave=True))
            except SessauthError as error:
                # The server drops it later, by its bound.
                _log.info("verifier %s could not leave: %s", self._registration.name, error)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                if self._due():
                    self._renew()
            except SessauthError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - it goes on, and the bound runs meanwhile
                _log.exception("verifier %s could not renew its registration", self._registration.name)
                self._failed(error)

    def _due(self) -> bool:
        now_ms = self._clock.steady_ms()
        if now_ms < self._retry_at_ms:
            return False
        server, revision = self._source.called_for()
        return now_ms >= self._renew_at_ms or server != self._server or revision > self._acknowledged

    def _renew(self) -> None:
        """Acknowledge the present revision. The verifier counts for one more bound from the start of this."""
        began_ms = self._clock.steady_ms()
        server, _ = self._source.called_for()
        head = self._source.head()
        if self._view.lost or self._view.revision < head.revision:
            raise StateError("the verifier's view is behind its own state folder; open it again")
        latest = self._register(
            replace(
                self._registration,
                cluster_id=head.cluster_id,
                incarnation=head.incarnation,
                revision=head.revision,
            )
        )
        # The view must include every end that the server knew when it accepted the acknowledgement.
        if self._view.revision < latest:
            raise StateError("the verifier's view is behind its server; does it read the server's own state?")
        staleness_ms = self._registration.staleness_ms
        self._stale_at(began_ms + staleness_ms)
        self._acknowledged, self._server = head.revision, server
        self._renew_at_ms = began_ms + (staleness_ms // RENEWALS or RENEW_MS)
        self.problem = ""

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Rejected):
            # Another verifier has the name, or the state is another one: the server does not count this one.
            self._stale_at(_PAST)
        self._retry_at_ms = self._clock.steady_ms() + RETRY_MS
        if not self.problem:
            _log.warning("verifier %s is not registered: %s", self._registration.name, error)
        self.problem = str(error) or type(error).__name__

    def _stale_at(self, steady_ms: int) -> None:
        if self._registration.staleness_ms:
            self._view.stale_at(steady_ms)


_RETRY_ID_BYTES: Final = 16


class _AskServerPolicy:
    """Charges nothing, so that the server is asked. A call without costs passes, unless ``also_free``."""

    def __init__(self, *, also_free: bool) -> None:
        self._also_free = also_free

    def charge(self, claims: CostClaims) -> int:
        return Reason.NEEDS_SERVER if self._also_free or len(claims) else 0


# Ends a check before its proof is used up: the server will need it.
_IF_IT_COSTS: Final = _AskServerPolicy(also_free=False)
_ALWAYS: Final = _AskServerPolicy(also_free=True)


class CostJudge(BaseVerifier):
    """A verifier that leaves the costs of calls to a server, and is registered with it where asked."""

    _client: Client | None = None
    _registration: RegistrationLoop | None = None

    def attach_client(self, client: Client | None) -> None:
        """Use ``client`` for calls that block, and close it with the verifier."""
        self._client = client

    def register_as(self, name: str, source: StateProbe, staleness_ms: int) -> None:
        """Register with the server under ``name``, until the verifier is closed.

        ``source`` is this verifier's source of state. Raises as :meth:`Verifier.embedded` says.
        """
        from ..client._verifier_channel import VerifierChannel

        client = self.require_client()
        channel = VerifierChannel(client.with_timeout(max(100, staleness_ms // 4)))
        registration = RegistrationLoop(self.view, source, channel.register, name, staleness_ms)
        registration.start()
        self._registration = registration

    @property
    def registered(self) -> bool:
        """True if the server counts on this verifier, by its latest answer."""
        return self._registration is not None and self._registration.registered

    def require_client(self) -> Client:
        """Return the attached client.

        Raises UsageError if the verifier has no server, StateError in a child that was forked since: the
        connections are the parent's.
        """
        if self.inherited:
            raise StateError("the verifier was opened before this process was forked; open it again here")
        if self._client is None:
            raise UsageError("server: the verifier was opened without one")
        return self._client

    def judge(
        self,
        token: bytes | str | Token | Prepared,
        action: str | bytes,
        resource: str | bytes,
        arguments: bytes,
        retry_id: bytes | str,
        permit_ms: int,
        options: dict[str, Any],
    ) -> Decision:
        """Check a call. A denial at stage ``needs`` is not recorded: the server is asked next.

        Raises UsageError for a retry id or a permit beyond its limit.
        """
        cost_handler = None
        if permit_ms or retry_id:
            _check_limits(retry_id, permit_ms)
            cost_handler = _ALWAYS if permit_ms or options["proof"] else _IF_IT_COSTS
        return self._check(
            token, action, resource, arguments, cost_handler=cost_handler, record_needs=False, **options
        )

    def server_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a check that the server needs; it uses its own time."""
        names = ("arguments", "tool", "session", "source", "peer", "proof", "at_least_revision")
        given = {name: options[name] for name in names if options.get(name)}
        audience = options.get("audience")
        return {**given, "audience": self.audience if audience is None else audience}

    def batch_options(self, parts: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return the server's options for one call of a batch; ``parts`` are those after the resource."""
        names = ("arguments", "tool", "session", "source", "peer", "proof")
        return self.server_options({**options, **dict(zip(names, parts, strict=False))})

    def close(self) -> None:
        """Leave the server's registry, report the rest, and close all that was opened; deny later checks.

        In a child that was forked since, nothing is done, as in :meth:`BaseVerifier.close`.
        """
        if self.inherited:
            return
        if self._registration is not None:
            self._registration.close()
            self._registration = None
        super().close()
        if self._client is not None:
            self._client.close()


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """A server's address, and a gateway's own credential for it."""

    target: str
    credential: str = field(repr=False)
    timeout_ms: int

    @classmethod
    def resolve(
        cls,
        server: str | os.PathLike[str],
        credential: str | None,
        credential_file: Path | None,
        timeout_ms: int,
    ) -> Self:
        """Read the credential.

        Raises ConfigError if ``server`` or the file can't be used; UsageError if no credential is given: the
        operator's, beside the socket, is not for gateways.
        """
        from ..client._target import resolve_credential, resolve_target

        if credential is None and credential_file is None:
            raise UsageError("credential: give credential= or credential_file=, of the gateway's role")
        target = resolve_target(os.fspath(server))
        return cls(target, resolve_credential(credential, credential_file, target), timeout_ms)

    def client(self) -> Client:
        """Return a new client that blocks."""
        from ..client import Client

        return Client(self.target, self.credential, timeout_ms=self.timeout_ms)

    def async_client(self) -> AsyncClient:
        """Return a new client for the running event loop."""
        from ..client import AsyncClient

        return AsyncClient(self.target, self.credential, timeout_ms=self.timeout_ms)


def new_retry_id() -> bytes:
    """Return an id under which the transport may repeat a call after a lost answer: it is charged once."""
    return secrets.token_bytes(_RETRY_ID_BYTES)


def sendable(token: bytes | str | Token | Prepared) -> bytes | str | Token:
    """Return a token in a form that a client sends."""
    return token.data if isinstance(token, Prepared) else token


def _check_limits(retry_id: bytes | str, permit_ms: int) -> None:
    size = len(text_bytes(retry_id))
    if size > MAX_RETRY_ID_BYTES:
        raise UsageError(f"retry_id: at most {MAX_RETRY_ID_BYTES} bytes, not {size}")
    if not 0 <= permit_ms <= MAX_PERMIT_MS:
        raise UsageError(f"permit_ms: {permit_ms} is not between 0 and {MAX_PERMIT_MS}")


V = TypeVar("V", bound=BaseVerifier)


def open_verifier(
    kind: type[V],
    state_dir: str | os.PathLike[str],
    *,
    audience: str,
    cache_bytes: int,
    server: ServerAccess | None,
    audit: AuditOptions | None,
    report_usage: bool,
    register_as: str,
    staleness_ms: int,
) -> V:
    """Return a verifier of ``kind`` for a state folder, which it closes with itself.

    A ``server`` is for a :class:`CostJudge`. Parameters and errors are those of :meth:`Verifier.embedded`.
    """
    from ..audit.recording.process import start_embedded
    from ..state.host.proof_keys import ProofReader
    from ..state.lmdb.reader import StateReader

    if report_usage and server is None:
        raise UsageError("report_usage: give server=, which usage is reported to")
    if register_as and server is None:
        raise UsageError("register_as: give server= and its credential, where to register")
    with ExitStack() as opened:
        client = server.client() if server is not None else None
        if client is not None:
            opened.callback(client.close)
        reader = StateReader.open(state_dir)
        opened.callback(reader.close)
        verifier = kind(reader, audience=audience, cache_bytes=cache_bytes)
        reader.watch(ProofReader(state_dir, verifier).refresh)
        if audit is not None or report_usage:
            sender = None
            if report_usage and client is not None:
                from ..client._verifier_channel import VerifierChannel

                sender = VerifierChannel(client)
            verifier._recorder = start_embedded(verifier, reader, audit, sender)
            # Before the parts that it reads and reports by.
            opened.callback(verifier._recorder.close)
        if isinstance(verifier, CostJudge):
            verifier.attach_client(client)
            if register_as:
                verifier.register_as(register_as, reader, staleness_ms)
        # The verifier closes it from here on.
        opened.pop_all()
    verifier._owned = reader
    return verifier
