"""The verifier: judges calls in this process, by the kernel, against the state it shares a host with.

    with Verifier.embedded("/var/lib/sessauth/state", audience="gateway-1") as verifier:
        decision = verifier.check(token, "read", "mcp/github/get_commit", b'{"owner":"acme"}')
        decision.raise_if_denied()

Every call is judged anew. A change that the server acknowledged is seen by every check that starts
after the acknowledgement. Loads neither grpc nor protobuf.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from ._fast.check import Checker
from ._fast.view import View
from .catalogue import TOOLS_CALL, ToolCatalogue
from .decision import Decision
from .errors import MalformedToken, UnknownTool
from .reasons import Reason, Stage
from .text_form import is_stored_text, read_text
from .token import Token

# Enough for some 40,000 chains of usual size; see docs/operations.md.
DEFAULT_CACHE_BYTES = 64 * 1024 * 1024

_TEXT_START = b"sessauth_"


class Verifier:
    """Judges calls; one for each process, for any number of threads."""

    def __init__(
        self,
        source: Any,
        *,
        audience: str = "",
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        session_cache_bytes: int = 0,
    ) -> None:
        """Judge by a source of state.

        Args:
            source: what the kernel's view reads from (``state.ports.ViewSource``); not closed here.
            audience: which verifier this is; a token that names audiences must name it.
            cache_bytes: memory for verified chains, in bytes.
            session_cache_bytes: what one session may hold of it; 0 is a sixteenth.
        """
        self.audience = audience
        self._checker = Checker(
            View(source),
            cache_bytes=cache_bytes,
            session_cache_bytes=session_cache_bytes,
            outcome_type=Decision,
        )
        self._owned: Any = None

    @classmethod
    def embedded(
        cls,
        state_dir: str | os.PathLike[str],
        *,
        audience: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> Self:
        """Open a server's state folder read-only and judge by it, without a call to the server.

        The process needs to be in the folder's group and on the server's host. Open it after any fork.

        Raises:
            StateUnusable: naming what is wrong with the folder.
        """
        from .state.lmdb_view import StateReader

        reader = StateReader.open(state_dir)
        try:
            verifier = cls(reader, audience=audience, cache_bytes=cache_bytes)
        except BaseException:
            reader.close()
            raise
        verifier._owned = reader
        return verifier

    def check(
        self,
        token: bytes | str | Token,
        action: str | bytes,
        resource: str | bytes,
        arguments: bytes = b"",
        *,
        tool: bytes = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
        now_ms: int = -1,
        new_signatures: bool = True,
    ) -> Decision:
        """Judge one call.

        Args:
            token: the presented token: its bytes or its text.
            action: what the agent wants to do, e.g. ``read``.
            resource: to what, segments joined by ``/``.
            arguments: the very JSON bytes that will be forwarded; empty means ``{}``.
            tool: a JSON object with what the gateway knows of the tool; empty means ``{}``.
            session: the session (16 bytes) that the caller believes the call belongs to, or empty.
            source: the agent's IP address, or empty.
            peer: the identities of the agent's certificate (``sha256:HEX``, ``spiffe://…``).
            audience: which verifier asks; None is this one's.
            at_least_revision: deny STALE_STATE unless the view has this revision.
            now_ms: the time to judge by, in ms since 1970; -1 reads the clock.
            new_signatures: whether a chain that was not verified before may cost signature work; without,
                it is denied BAD_SIGNATURE, at no block. For callers that fail too often.

        Raises:
            TypeError: for arguments of another type. Nothing for what an agent controls.
        """
        data = token if type(token) is bytes and token[:9] != _TEXT_START else _presented(token)
        if not isinstance(data, bytes):
            refused: Decision = self._checker.refuse(Stage.DECODE, data)
            return refused
        decision: Decision = self._checker.check(
            data,
            action,
            resource,
            arguments,
            tool=tool,
            session=session,
            source=source,
            peer=peer,
            audience=self.audience if audience is None else audience,
            at_least_revision=at_least_revision,
            now_ms=now_ms,
            new_signatures=new_signatures,
        )
        return decision

    def check_tool(
        self,
        token: bytes | str | Token,
        catalogue: ToolCatalogue,
        tool: str,
        arguments: bytes = b"",
        *,
        method: str = TOOLS_CALL,
        **options: Any,
    ) -> Decision:
        """Judge a call of an MCP tool, with action, resource and facts from the operator's catalogue.

        A tool that is not in the catalogue is denied ``UNKNOWN_TOOL``. ``options`` are those of
        :meth:`check`, but for ``tool``.
        """
        try:
            action, resource = catalogue.request(tool, method)
            facts = catalogue.describe(tool) if method == TOOLS_CALL else b""
        except UnknownTool:
            refused: Decision = self._checker.refuse(Stage.SCOPE, Reason.UNKNOWN_TOOL)
            return refused
        return self.check(token, action, resource, arguments, tool=facts, **options)

    @property
    def cached_chains(self) -> int:
        """How many verified chains are kept."""
        return len(self._checker.cache)

    @property
    def cached_bytes(self) -> int:
        """What they weigh, in bytes."""
        return self._checker.cache.used

    @property
    def bad_signatures(self) -> int:
        """How many chains failed at the signature so far."""
        return self._checker.bad_signatures

    def close(self) -> None:
        """Close what :meth:`embedded` opened; later checks are denied."""
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
    try:
        return read_text(text)[0]
    except (MalformedToken, UnicodeError):
        return Reason.MALFORMED_TOKEN
