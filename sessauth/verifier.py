"""The verifier: judges calls in this process, by the kernel, against the state it shares a host with.

    with Verifier.embedded("/var/lib/sessauth/state", audience="gateway-1") as verifier:
        decision = verifier.check(token, "read", "mcp/github/get_commit", b'{"owner":"acme"}')
        decision.raise_if_denied()

Every call is judged anew. A change that the server acknowledged is seen by every check that starts
after the acknowledgement. Loads neither grpc nor protobuf.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from ._fast.check import Checker
from ._fast.noting import Prepared
from ._fast.survey import Survey
from ._fast.view import View
from .arguments import Arguments
from .catalogue import TOOLS_CALL, ToolCatalogue
from .decision import Decision
from .errors import MalformedToken, UnknownTool, UsageError
from .reasons import Reason, Stage, Verdict
from .survey import Verdicts
from .text_form import MAX_PRESENTED_CHARS, is_stored_text, read_proof, read_text
from .token import Token

if TYPE_CHECKING:
    from pathlib import Path

    from ._fast.batch import Batch
    from ._fast.proof import ProofKeys
    from .recording.options import AuditOptions
    from .recording.process import ProcessRecorder
    from .served import ServedVerifier

__all__ = ["DEFAULT_CACHE_BYTES", "DEFAULT_STALENESS_MS", "Prepared", "Verifier"]

# Enough for some 40,000 chains of usual size; see docs/operations.md.
DEFAULT_CACHE_BYTES = 64 * 1024 * 1024
# How long a gateway may be without its server, and how long its death may keep receipts open.
DEFAULT_STALENESS_MS = 10_000


class Verifier(Checker):
    """Judges calls; one for each process, for any number of threads.

    ``check``, ``check_batch``, ``prepare`` and ``refuse`` are the kernel's own (``_fast/check.pyx``).
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
        """Judge by a source of state.

        Args:
            source: what the kernel's view reads from (``state.ports.ViewSource``); not closed here.
            audience: which verifier this is; a token that names audiences must name it.
            cache_bytes: memory for verified chains, in bytes.
            session_cache_bytes: what one session may hold of it; 0 is a sixteenth.
            proofs: this host's verifier keys and replay table, without which bound tokens are denied; the
                attribute of this name may be replaced at any time.
        """
        verifier = super().__new__(
            cls,
            View(source),
            audience=audience,
            cache_bytes=cache_bytes,
            session_cache_bytes=session_cache_bytes,
            present=_presented,
            read_proof=read_proof,
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

    @overload
    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        audit: AuditOptions | None = None,
    ) -> Self: ...
    @overload
    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        server: str | os.PathLike[str],
        credential: str | None = None,
        credential_file: Path | None = None,
        timeout_ms: int = 2_000,
        audit: AuditOptions | None = None,
        tell: bool = False,
        enroll: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> ServedVerifier: ...

    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        server: str | os.PathLike[str] | None = None,
        credential: str | None = None,
        credential_file: Path | None = None,
        timeout_ms: int = 2_000,
        audit: AuditOptions | None = None,
        tell: bool = False,
        enroll: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> Verifier:
        """Open a server's state folder read-only and judge by it.

        The process needs to be in the folder's group and on the server's host. A child that was forked since
        opens another: in it this one denies everything (docs/embedding.md).
        Without ``server`` no call of the server's is made, and what costs something is denied.

        Args:
            state_dir: the server's state folder.
            audience: which verifier this is.
            cache_bytes: memory for verified chains, in bytes.
            server: the server's socket, to take there what calls cost (:mod:`sessauth.served`).
            credential: the gateway's API key for it, or ``credential_file``, not readable by others.
            credential_file: see ``credential``.
            timeout_ms: how long one call may wait for the server.
            audit: record what is decided here in an audit stream of its own (docs/recording.md). What the
                server decides of a call, it records itself.
            tell: tell the server what is seen of sessions here (:mod:`sessauth.recording.telling`).
            enroll: enrol with the server under this name, one process a name: the receipts of sessions that
                end then say for this verifier too that it allows them nothing (docs/receipts.md).
            staleness_ms: deny every call ``STALE_STATE`` when the enrolment could not be renewed for so
                long: 1000 to 60000.

        Raises:
            StateUnusable: naming what is wrong with the folder.
            ConfigError: if ``server`` or its credential, or the folder of ``audit``, can't be used.
            KeyFolderError: if a key in that folder can't be used.
            UsageError: for ``tell`` or ``enroll`` without ``server``, and for a name or bound that the server
                can't take.
            Rejected: NAME_TAKEN if another verifier has the name, OTHER_STATE if ``state_dir`` is not the
                server's.
            PermissionDenied: if the credential's role may not enrol; Unauthenticated if it is none.
        """
        from .recording.embedded import recorder_of
        from .state.lmdb_view import StateReader
        from .state.proof_reader import ProofReader

        if tell and server is None:
            raise UsageError("tell: give server=, the one to be told")
        if enroll and server is None:
            raise UsageError("enroll: give server= and its credential, where to enrol")
        with ExitStack() as opened:
            if server is not None:
                from .served import ServedVerifier, open_client

                client = open_client(server, credential, credential_file, timeout_ms)
                opened.callback(client.close)
            reader = StateReader.open(state_dir)
            opened.callback(reader.close)
            verifier: Verifier
            if server is None:
                verifier = cls(reader, audience=audience, cache_bytes=cache_bytes)
            else:
                served = ServedVerifier(reader, audience=audience, cache_bytes=cache_bytes)
                served.ask_by(client)
                verifier = served
            reader.watch(ProofReader(state_dir, verifier).refresh)
            if audit is not None or tell:
                recorder = recorder_of(verifier, reader, audit, client if tell else None)
                verifier._recorder = recorder
                # Before what it reads and tells by.
                opened.callback(recorder.close)
            if enroll:
                served.enroll_as(enroll, reader, staleness_ms)
            # It is the verifier's from here on.
            opened.pop_all()
        verifier._owned = reader
        return verifier

    def check_tool(
        self,
        token: bytes | str | Token,
        catalogue: ToolCatalogue,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = TOOLS_CALL,
        **options: Any,
    ) -> Decision:
        """Judge a call of an MCP tool, with action, resource and facts from the operator's catalogue.

        A tool that is not in the catalogue is denied ``UNKNOWN_TOOL``. ``options`` are those of
        :meth:`check`, but for ``tool``.
        """
        try:
            action, resource, facts = catalogue.ask(tool, method)
        except UnknownTool:
            decision = self.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL)
            source, audience = options.get("source", ""), options.get("audience")
            self.note(decision, token, method, tool, arguments, source=source, audience=audience)
            return decision
        return self.check(token, action, resource, arguments, tool=facts, **options)

    def list_allowed(
        self,
        token: bytes | str | Token | Prepared,
        candidates: Iterable[tuple[Any, ...]],
        **options: Any,
    ) -> Verdicts:
        """Say of each candidate whether this token could make the call now: yes, no or maybe.

        The token is judged once, then the candidates by the same state and time. NO denies and YES allows
        with any arguments, or with those that a candidate has, for as long as nothing changes; MAYBE depends
        on the arguments, a proof, or what the call costs. Calls are still to be checked.

        Args:
            token: as in :meth:`check`.
            candidates: each a :class:`~sessauth.survey.Candidate`, or a tuple of its parts.
            options: ``session``, ``source``, ``peer``, ``audience``, ``at_least_revision`` of :meth:`check`.

        Raises:
            TypeError: for a candidate or an option of another form. Nothing for what an agent controls.
        """
        survey = Survey(self, token, **options)
        found = tuple(map(Verdict, survey.verdicts(candidates)))
        return Verdicts(found, Reason(survey.reason), Stage(survey.stage), survey.revision)

    def list_tools(
        self,
        token: bytes | str | Token | Prepared,
        catalogue: ToolCatalogue,
        tools: Iterable[Mapping[str, Any]],
        **options: Any,
    ) -> list[Mapping[str, Any]]:
        """Return those definitions of an MCP ``tools/list`` answer that this token could call at all.

        A tool that is not in the catalogue, or would be denied whatever its arguments, is left out.
        ``options`` are those of :meth:`list_allowed`.
        """
        known = [tool for tool in tools if isinstance(tool.get("name"), str) and tool["name"] in catalogue]
        candidates = catalogue.candidates(tool["name"] for tool in known)
        verdicts = self.list_allowed(token, candidates, **options)
        return [tool for tool, verdict in zip(known, verdicts, strict=True) if verdict != Verdict.NO]

    @property
    def recorder(self) -> ProcessRecorder | None:
        """What records and tells what is decided here; None where nothing does."""
        return self._recorder

    @property
    def cached_chains(self) -> int:
        """How many verified chains are kept."""
        return len(self.cache)

    @property
    def cached_bytes(self) -> int:
        """What they weigh, in bytes."""
        return self.cache.used

    @property
    def inherited(self) -> bool:
        """Return whether it was opened before this process was forked, so that it denies everything here."""
        return self._owned is not None and self._owned.forked

    def close(self) -> None:
        """Close what :meth:`embedded` opened; later checks are denied.

        In a child that was forked since nothing is done: all of it is the parent's, which goes on with it.
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


def _presented(token: bytes | str | Token) -> bytes | Reason:
    """Return the bytes of a token that came otherwise, or the reason of a text that is none."""
    if isinstance(token, Token):
        return token.data
    if not isinstance(token, bytes | str):
        raise TypeError(f"the token is bytes, str or Token, not {type(token).__name__}")
    text = token.decode("ascii", "replace") if isinstance(token, bytes) else token
    if is_stored_text(text):
        return Reason.OPEN_TOKEN
    if len(text) > MAX_PRESENTED_CHARS:
        return Reason.TOKEN_TOO_LARGE
    try:
        return read_text(text)[0]
    except (MalformedToken, UnicodeError):
        return Reason.MALFORMED_TOKEN
