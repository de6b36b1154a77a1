"""The guard: judges an agent's tool calls, and lets none through that was not allowed."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar, Unpack

from ..decisions.decision import DecisionBase
from ..decisions.tool_catalog import ToolCatalog
from ..errors import UsageError
from ..limits import MAX_PERMIT_MS
from ..scopes.call_arguments import Arguments
from ..scopes.scope import Scope
from ..tokens.block_draft import BlockTerms
from ..tokens.token import Token
from .call import AnyToken, CallTerms
from .denied import BAD_CALL, ToolDenied
from .driving import drive, drive_async
from .functions import activated, decorated
from .hold import Hold
from .origins import OWN, Catalogues
from .tool_judge import Approve, Explain, Mode, OnDenied, ToolJudge
from .watching import arun_standing, arun_watched, run_watched

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Guard:
    """A check in front of an agent's tools, for any number of calls, threads and tasks.

    Methods with a leading ``a`` are awaited and never block the event loop. Every failure inside, of a
    verifier, its server, a prover, is a :class:`ToolDenied`. Only an explicit ALLOWED lets a call be made.
    """

    def __init__(
        self,
        verifier: Any,
        catalogue: Catalogues,
        *,
        token: AnyToken | None = None,
        prover: Any = None,
        audience: str = "",
        session: bytes = b"",
        permit_ms: int = 0,
        mode: Mode = "enforce",
        approve: Approve | None = None,
        watch: bool = False,
        on_denied: OnDenied | None = None,
        explain: Explain = "answer",
    ) -> None:
        """Guard the tools of ``catalogue``.

        Args:
            verifier: a ``Verifier`` in this process, with a server behind it or not, a ``Client`` of a
                server, or for the awaited methods an ``AsyncVerifier`` or ``AsyncClient``; not closed here.
            catalogue: the tools that the operator pinned, of one MCP server or the program's own; another
                tool is denied. With tools of several servers, a catalogue for each by the server's name, and
                under ``""`` that of the program's own.
            token: the token of all calls, where the agent runs in this process; an open one can be handed on
                by :meth:`child`. None: each call brings its own.
            prover: a :class:`~sessauth.Prover`, or an ``AsyncProver`` for the awaited methods: proves the
                calls of bound tokens. Another object needs ``prove(token, action, resource, arguments)``.
            audience: the name of this verifier, which a client has to state; empty: the verifier's own.
            session: the id of the session that each token must be of, 16 bytes; empty: any.
            permit_ms: hold each call by a permit of so many ms, and use it up just before the tool runs.
                0: a call is charged when it is judged.
            mode: ``enforce``, or ``observe``: every call is made, and those that would be denied are logged
                and told to ``on_denied``.
            approve: called with the :class:`~sessauth.ApprovalRequest` of a call that waits for a person. It
                returns a signed approval, or True once the server has one; else the call stays denied. What
                it raises passes through: it may be a framework's interrupt.
            watch: stop a running tool when its permission ends (:mod:`sessauth.guard.watching`).
            on_denied: called with each :class:`ToolDenied`, for the operator.
            explain: what an agent is told of a refusal. ``answer``: one sentence. ``decision``: the id of the
                decision too, by which the operator finds it. ``scope``: also what its own token permits
                instead, where that refused the call; never of a ceiling.

        Raises:
            UsageError: if two catalogues are of one server, ``mode`` or ``explain`` is none, or ``permit_ms``
                is out of range or the verifier has no server.
            NotExtendable: for an open token without its secret.
        """
        if mode not in ("enforce", "observe"):
            raise UsageError(f"mode: is 'enforce' or 'observe', not {mode!r}")
        if explain not in ("answer", "decision", "scope"):
            raise UsageError(f"explain: is 'answer', 'decision' or 'scope', not {explain!r}")
        if not 0 <= permit_ms <= MAX_PERMIT_MS:
            raise UsageError(f"permit_ms: {permit_ms} is not between 0 and {MAX_PERMIT_MS}")
        options = {
            **({"audience": audience} if audience else {}),
            **({"session": session} if session else {}),
        }
        self._judge = ToolJudge(
            verifier, catalogue, token, prover, options, mode, approve, on_denied, explain
        )
        if permit_ms and not self._judge.charges:
            raise UsageError("permit_ms: only a server gives permits; open the verifier with server=")
        self._permit_ms = permit_ms
        self._watch = watch

    @property
    def catalogue(self) -> ToolCatalog:
        """The program's own tools; of a guard with one catalogue those of its server, too."""
        return self._judge.origins.of(OWN)

    @property
    def observing(self) -> bool:
        """True if the guard lets every call through."""
        return self._judge.observing

    def check(self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]) -> DecisionBase | None:
        """Judge a call, and charge what it costs. Make the call now, or not at all.

        Args:
            tool: the name of the tool.
            arguments: the values that the tool will be given, or their JSON.
            terms: see :class:`CallTerms`.

        Returns:
            The decision, which allows; in mode observe whatever it was, or None.

        Raises:
            ToolDenied: unless the call is allowed.
        """
        return drive(self._judge.judge(tool, arguments, terms))[1]

    async def acheck(
        self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]
    ) -> DecisionBase | None:
        """Do as :meth:`check`, awaited."""
        return (await drive_async(self._judge.judge(tool, arguments, terms)))[1]

    def check_method(
        self, method: str, params: Arguments = b"", **terms: Unpack[CallTerms]
    ) -> DecisionBase | None:
        """Judge a call of an MCP method other than ``tools/call``; the handshake needs a token that stands.

        Returns and raises as :meth:`check`.
        """
        return drive(self._judge.judge_method(method, params, terms))

    async def acheck_method(
        self, method: str, params: Arguments = b"", **terms: Unpack[CallTerms]
    ) -> DecisionBase | None:
        """Do as :meth:`check_method`, awaited."""
        return await drive_async(self._judge.judge_method(method, params, terms))

    def hold(self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]) -> Hold:
        """Judge a call that will be made a little later; its costs are held by a permit until then.

        Raises:
            ToolDenied: unless the call is allowed.
        """
        return Hold(self._judge, *drive(self._judge.judge(tool, arguments, terms, self._permit_ms)))

    async def ahold(self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]) -> Hold:
        """Do as :meth:`hold`, awaited."""
        judged = await drive_async(self._judge.judge(tool, arguments, terms, self._permit_ms))
        return Hold(self._judge, *judged)

    def run(self, tool: str, arguments: Arguments, do: Callable[[], T], **terms: Unpack[CallTerms]) -> T:
        """Judge a call and make it: ``do()``, with these arguments, exactly once or never.

        Raises:
            ToolDenied: if it is not allowed, or its arguments changed since they were judged; then ``do`` was
                not called. Of a watched call also if its permission ended while it ran.
        """
        call, decision = drive(self._judge.judge(tool, arguments, terms, self._permit_ms))
        with Hold(self._judge, call, decision) as held:
            held.commit(arguments)
            return run_watched(self._judge, call, do) if self._watch and call is not None else do()

    async def arun(
        self, tool: str, arguments: Arguments, do: Callable[[], Awaitable[T]], **terms: Unpack[CallTerms]
    ) -> T:
        """Do as :meth:`run`, awaited; a watched tool is cancelled when its permission ends."""
        call, decision = await drive_async(self._judge.judge(tool, arguments, terms, self._permit_ms))
        async with Hold(self._judge, call, decision) as held:
            return await self.arun_held(held, arguments, do)

    async def arun_held(self, held: Hold, arguments: Arguments | None, do: Callable[[], Awaitable[T]]) -> T:
        """Commit a call of :meth:`ahold` and make it, as :meth:`arun` does with a call that it judges."""
        await held.acommit(arguments)
        if not self._watch or held.call is None:
            return await do()

        async def start() -> T:
            # A task begins a turn of the event loop later.
            held.require_same(arguments)
            return await do()

        return await arun_watched(self._judge, held.call, start)

    async def arun_standing(self, do: Callable[[], Awaitable[T]], **terms: Unpack[CallTerms]) -> T:
        """Call ``do()``, and cancel it when the token stands no more; an adapter for streams calls this.

        Raises:
            ToolDenied: if it was cancelled for that.
        """
        return await arun_standing(self._judge, terms, do)

    def refuse(self, tool: str, reason: str = BAD_CALL, *, cause: BaseException | None = None) -> None:
        """Refuse a call that could not be read as one; an adapter calls this.

        Returns only in mode observe: the call is then made.

        Raises:
            ToolDenied: because of ``cause``.
        """
        denied = ToolDenied(tool, reason)
        denied.__cause__ = cause
        self._judge.refuse(denied)

    def visible(self, tools: Iterable[str], **terms: Unpack[CallTerms]) -> list[str]:
        """Return those of ``tools`` that the token could call with some arguments, in their order.

        A tool that is not in the catalogue is hidden. If the verifier gives no answer, all are.
        """
        return drive(self._judge.visible(tools, terms))

    async def avisible(self, tools: Iterable[str], **terms: Unpack[CallTerms]) -> list[str]:
        """Do as :meth:`visible`, awaited."""
        return await drive_async(self._judge.visible(tools, terms))

    def child(self, *scopes: Scope | str, **terms: Unpack[BlockTerms]) -> Self:
        """Return a guard for a sub-agent, whose token is narrowed offline.

        Args:
            scopes: the only calls that the sub-agent may make, of those that this guard allows.
            terms: other terms of its token, as in :meth:`Token.attenuate`; ``ending`` is ``open``.

        Raises:
            UsageError: if this guard has no token of its own.
            NotExtendable: if its token can't be narrowed: it must be open.
            WidensAuthority: if a scope permits more than this guard's token.
        """
        token = self._judge.token
        if not isinstance(token, Token):
            raise UsageError("token: a child needs a guard with an open token, as minted with ending='open'")
        terms.setdefault("ending", "open")
        return self._with_token(token.attenuate(scopes=scopes, **terms))

    @contextmanager
    def activate(self) -> Iterator[Self]:
        """Make this the guard of functions with :func:`~sessauth.guard.guarded`, in this task or thread.

        Don't yield within the block: the code that iterates over a generator would have this guard too, and
        the generator after it the guard of another. Iterate over it in a task of its own.
        """
        with activated(self):
            yield self

    def tool(self, name: str = "") -> Callable[[F], F]:
        """Return a decorator: the function is a tool of this guard, under ``name`` or its own name."""
        return decorated(name, lambda: self)

    def _with_token(self, token: Token) -> Self:
        guard = copy.copy(self)
        guard._judge = self._judge.with_token(token)
        return guard
