"""The base of all verifiers: checks calls by a source of state, in this process.

Loads neither grpc nor protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._fast._check import Checker, Prepared, View
from .._fast._codec import Survey
from ..decisions.decision import Decision
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog, Verdicts, token_options
from ..errors import UnknownTool
from ..reasons import Reason, Stage, SurveyVerdict
from ..scopes.value import Arguments
from ..tokens.token import Token

if TYPE_CHECKING:
    from .._fast._check import Batch, ProofKeys
    from ..audit.recording.process import ProcessRecorder

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
            source: the source of state of the kernel's view (``state.ports.ViewSource``); not closed here.
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
            self,
            calls: Iterable[tuple[Any, ...]],
            *,
            audience: str | None = None,
            at_least_revision: int = 0,
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
        self,
        token: bytes | str | Token | Prepared,
        candidates: Iterable[tuple[Any, ...]],
        **options: Any,
    ) -> Verdicts:
        """Return for each candidate whether this token could make the call now: yes, no or maybe.

        The token is checked once, then the candidates by the same state and time. NO denies and YES allows
        with any arguments, or with those that a candidate has, for as long as nothing changes; MAYBE depends
        on the arguments, a proof, or the costs of the call. Calls are still to be checked.

        Args:
            token: as in :meth:`check`.
            candidates: each a :class:`~sessauth.decisions.tool_catalog.Candidate`, or a tuple of its parts.
            options: ``session``, ``source``, ``peer``, ``audience``, ``at_least_revision`` of :meth:`check`.

        Raises:
            TypeError: for a candidate or an option of another form. No input under an agent's control raises.
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

        A tool that is not in the catalogue, or would be denied whatever its arguments, is left out.
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
