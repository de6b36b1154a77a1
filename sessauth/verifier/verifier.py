"""Verifiers: against a state on the same host, with a server that charges costs, and for an event loop.

    with Verifier.embedded("/var/lib/sessauth/state", audience="gateway-1") as verifier:
        decision = verifier.check(token, "read", "mcp/github/get_commit", b'{"owner":"acme"}')
        decision.raise_if_denied()

Every call is a new check. A check that starts after the server acknowledged a change sees that change.

With a server, the costs of calls are charged there. Without its answer a call with costs stays denied:

    with Verifier.embedded(state, audience="gw", server=socket, credential_file=file) as verifier:
        decision = verifier.check(token, "deploy", "web", arguments, permit_ms=5_000)
        if decision:
            verifier.commit(decision.permit, token, "deploy", "web", arguments)

On an event loop, the loop is never blocked while the server charges a call. A call without costs is checked
at once, in microseconds, without a switch to another task:

    async with AsyncVerifier.embedded(state, audience="gw", server=socket, credential_file=file) as verifier:
        decision = await verifier.check(token, "deploy", "web", arguments, permit_ms=5_000)
        if decision:
            await verifier.commit(decision.permit, token, "deploy", "web", arguments)

grpc and protobuf are loaded only when a verifier is made with a server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from .._fast._check import Prepared
from ..decisions.decision import DecisionBase
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_CALL, ToolCatalog, Verdicts
from ..errors import UnknownTool, UsageError
from ..scopes.call_arguments import Arguments
from ..tokens.token import Token
from ._async.server_calls import AsyncServerCalls
from ._sync.server_calls import ServerCalls
from .base import DEFAULT_CACHE_BYTES, BaseVerifier, CostJudge, ServerAccess, open_verifier

if TYPE_CHECKING:
    from ..audit.write.stream import AuditOptions
    from ..client import AsyncClient, Client

__all__ = ["DEFAULT_CACHE_BYTES", "DEFAULT_STALENESS_MS", "Prepared", "Verifier"]


class ServerBackedVerifier(ServerCalls, CostJudge):  # type: ignore[misc] # a server's decision is another class of the same surface
    """A verifier that has a server charge costs; made by :meth:`Verifier.embedded` with ``server``."""

    @property
    def _judge(self) -> CostJudge:
        return self

    def _server(self) -> Client:
        return self.require_client()


# The time for which a gateway may be without its server, and for which its death may keep receipts open.
DEFAULT_STALENESS_MS = 10_000


class Verifier(BaseVerifier):
    """Checks calls by a source of state; one for each process, for any number of threads."""

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
        report_usage: bool = False,
        register_as: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> ServerBackedVerifier: ...

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
        report_usage: bool = False,
        register_as: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> BaseVerifier:
        """Open a server's state folder read-only and check by it.

        The process needs to be in the folder's group and on the server's host. A child that was forked since
        opens another: in it this one denies everything (docs/embedding.md). Without ``server`` no server is
        called, and calls that cost something are denied. Raises StateUnusable, naming the fault of the
        folder; ConfigError if ``server`` or its credential, or the folder of ``audit``, can't be used;
        KeyFolderError if a key in that folder can't be used; UsageError for ``report_usage`` or
        ``register_as`` without ``server``, and for a name or bound that the server refuses; Rejected
        NAME_TAKEN if another verifier has the name, OTHER_STATE if ``state_dir`` is not the server's;
        PermissionDenied if the credential's role may not register; Unauthenticated if it is unknown.

        Args:
            state_dir: the server's state folder.
            audience: the name of this verifier.
            cache_bytes: memory for verified chains, in bytes.
            server: the server's socket, where costs of calls are charged.
            credential: the gateway's API key for it, or ``credential_file``, not readable by others.
            credential_file: see ``credential``.
            timeout_ms: time for which one call may wait for the server.
            audit: record this verifier's decisions in an audit stream of its own (docs/recording.md). The
                server records its own decisions.
            report_usage: report the use of sessions here to the server (:mod:`sessauth.usage.collector`).
            register_as: register with the server under this name, one process a name. Receipts of sessions
                that end then cover this verifier too (docs/receipts.md).
            staleness_ms: deny every call ``STALE_STATE`` when the registration could not be renewed for so
                long: 1000 to 60000.
        """
        kind: type[BaseVerifier] = cls
        access = None
        if server is not None:
            kind = ServerBackedVerifier
            access = ServerAccess.resolve(server, credential, credential_file, timeout_ms)
        return open_verifier(
            kind,
            state_dir,
            audience=audience,
            cache_bytes=cache_bytes,
            server=access,
            audit=audit,
            report_usage=report_usage,
            register_as=register_as,
            staleness_ms=staleness_ms,
        )


class AsyncVerifier(AsyncServerCalls):
    """Checks calls in this process and awaits a server for costs; for any number of event loops and threads.

    Each method raises as the one of :class:`Verifier` does. A cancelled call is not an allow; its costs may
    have been charged, once under its ``retry_id``.
    """

    local: CostJudge
    """The verifier that checks in this process, for its numbers: ``VerifierCollector(verifier.local)``."""

    def __init__(self, local: CostJudge, server: ServerAccess | None) -> None:
        """Check by ``local``, and connect to ``server`` once a call needs it; see :meth:`embedded`."""
        self.local = local
        self._access = server
        # A client is of one event loop.
        self._clients: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self._closed = False

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
        report_usage: bool = False,
        register_as: str = "",
        staleness_ms: int = DEFAULT_STALENESS_MS,
    ) -> Self:
        """Open a server's state folder read-only and check by it; with or without a running event loop.

        This reads files, and with ``register_as`` it waits for the server: in a program that serves already,
        use ``await asyncio.to_thread(AsyncVerifier.embedded, …)``. Parameters and errors are those of
        :meth:`Verifier.embedded`.
        """
        access = None
        if server is not None:
            access = ServerAccess.resolve(server, credential, credential_file, timeout_ms)
        local = open_verifier(
            CostJudge,
            state_dir,
            audience=audience,
            cache_bytes=cache_bytes,
            server=access,
            audit=audit,
            report_usage=report_usage,
            register_as=register_as,
            staleness_ms=staleness_ms,
        )
        return cls(local, access)

    async def stands(self, token: bytes | str | Token | Prepared, **options: Any) -> DecisionBase:
        """Check the token itself, as :meth:`BaseVerifier.stands` with its options."""
        return self.local.stands(token, **options)

    async def check_tool(
        self,
        token: bytes | str | Token,
        catalogue: ToolCatalog,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = TOOLS_CALL,
        **options: Any,
    ) -> DecisionBase:
        """Check a call of an MCP tool, as :meth:`BaseVerifier.check_tool`, with options of :meth:`check`."""
        try:
            action, resource, facts = catalogue.ask(tool, method)
        except UnknownTool:
            action = ""
        if action in ("", HANDSHAKE):
            # No call that could cost anything.
            return self.local.check_tool(token, catalogue, tool, arguments, method=method, **options)
        return await self.check(token, action, resource, arguments, tool=facts, **options)

    async def list_allowed(
        self, token: bytes | str | Token | Prepared, candidates: Iterable[tuple[Any, ...]], **options: Any
    ) -> Verdicts:
        """Return for each candidate yes, no or maybe, as :meth:`BaseVerifier.list_allowed`."""
        return self.local.list_allowed(token, candidates, **options)

    async def list_tools(
        self,
        token: bytes | str | Token | Prepared,
        catalogue: ToolCatalog,
        tools: Iterable[Mapping[str, Any]],
        **options: Any,
    ) -> list[Mapping[str, Any]]:
        """Return the tools that this token could call at all, as :meth:`BaseVerifier.list_tools`."""
        return self.local.list_tools(token, catalogue, tools, **options)

    def prepare(self, token: bytes | str | Token | Prepared) -> Prepared:
        """Return a handle of a token for repeated use; each call is a new check of it."""
        return self.local.prepare(token)

    @property
    def audience(self) -> str:
        """The name of this verifier."""
        return self.local.audience

    @property
    def registered(self) -> bool:
        """True if the server counts on this verifier, by its latest answer."""
        return self.local.registered

    @property
    def inherited(self) -> bool:
        """True if it was opened before this process was forked, so that it denies everything here."""
        return self.local.inherited

    async def close(self) -> None:
        """Cancel the calls that wait for the server, and close all that was opened; deny later checks.

        Records and reports are written in a thread, which a cancellation does not stop. In a child that was
        forked since, nothing is done.
        """
        if self.inherited:
            return
        self._closed = True
        client = self._clients.pop(asyncio.get_running_loop(), None)
        self._clients.clear()
        try:
            if client is not None:
                await client.close()
        finally:
            await asyncio.to_thread(self.local.close)

    async def __aenter__(self) -> Self:
        """Return the verifier."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    @property
    def _judge(self) -> CostJudge:
        return self.local

    def _server(self) -> AsyncClient:
        """Return the client of the running event loop; raises UsageError or StateError if there is none."""
        self.local.require_client()
        if self._access is None or self._closed:
            raise UsageError("the verifier is closed; open another one")
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for other in [each for each in self._clients if each.is_closed()]:
                self._clients.pop(other, None)
            client = self._clients[loop] = self._access.async_client()
        return client
