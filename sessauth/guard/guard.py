"""The guard: checks an agent's tool calls, and makes only those that are allowed.

A guard is part of the agent's program, or of its tools' (docs/guard.md). The agent's model chooses a tool and
arguments; the guard asks a verifier before the tool runs.

Parts:

- ``guard.py``: :class:`Guard` for programs, the decorator ``guarded``, and the watch over running tools.
- ``tool_judge.py``: the logic, once for blocking and awaited use. Its generators yield the functions to call,
  and a driver calls them here or on a thread. ``Hold`` is a call that is allowed and not yet made.
- ``call.py``: a call in the form that is checked, ``ToolDenied``, and the catalogues of several servers.
- ``mcp_terms.py`` and ``services/``: MCP requests, HTTP routes and gRPC methods as calls.
- An adapter for each framework, a module of its own. It translates a call into ``run``, ``arun`` or ``hold``,
  and a refusal into the framework's own form. It holds no policy.

Order of events:

1. The tool is looked up in the pinned catalogue. A tool that is not there is denied, and the denial recorded.
2. The arguments become bytes once. The same bytes are checked and proven.
3. A prover, if there is one, makes the proof of a bound token.
4. The verifier decides. If the call needs an approval, ``approve`` is asked, and the call is checked again.
5. With ``permit_ms`` a permit is committed just before the tool runs, or released if it does not run.
6. With ``watch`` the call is surveyed again and again with its own arguments (token-format.md, section 9.12),
   which charges nothing and needs no proof. The tool is stopped at a NO, and also if the verifier does not
   answer. A generator is surveyed each time before it resumes and before it yields an item.

What must never happen: a tool runs without an explicit ALLOWED, unless the guard only observes; an event loop
is blocked by an awaited method; an agent learns more of a denial than ``decisions/outward.py`` and the
operator's ``explain`` permit; a token or an argument is logged.

Read next: ``tool_judge.py``, then the adapter of your framework.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from inspect import isasyncgen, isgenerator
from typing import Any, Final, Protocol, Self, TypeVar, Unpack, cast

from ..decisions.decision import DecisionBase
from ..decisions.tool_catalog import Candidate, ToolCatalog
from ..errors import UsageError
from ..limits import MAX_PERMIT_MS
from ..scopes.call_arguments import Arguments
from ..scopes.scope import Scope
from ..tokens.block_draft import BlockTerms
from ..tokens.terms import shows_terms
from ..tokens.token import Token
from .call import BAD_CALL, NO_GUARD, OWN, WITHDRAWN, AnyToken, CallTerms, Catalogues, ToolCall, ToolDenied
from .tool_judge import (
    Approve,
    Explain,
    Hold,
    Mode,
    OnDenied,
    Steps,
    ToolJudge,
    drive,
    drive_async,
    is_possible,
)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class CallGuard(Protocol):
    """The part of a guard that calls functions: see :class:`~.guard.Guard`."""

    def run(self, tool: str, arguments: dict[str, Any], do: Callable[[], Any]) -> Any:
        """Check a call and make it."""

    async def arun(self, tool: str, arguments: dict[str, Any], do: Callable[[], Awaitable[Any]]) -> Any:
        """Check a call and make it, awaited."""


active: ContextVar[CallGuard | None] = ContextVar("sessauth_guard", default=None)


@contextmanager
def activated(guard: CallGuard) -> Iterator[None]:
    """Make ``guard`` the active one within the block."""
    before = active.set(guard)
    try:
        yield
    finally:
        active.reset(before)


def decorated(name: str, find: Callable[[], CallGuard | None]) -> Callable[[F], F]:
    """Return a decorator that checks each call by the guard that ``find`` returns then."""

    def decorate(function: F) -> F:
        tool = name or function.__name__
        runs, is_method = _run_by(function), _is_method(getattr(function, "func", function))
        whole, bound_args, bound_values = _unbound(function)
        signature = inspect.signature(whole)

        def call_of(args: tuple[Any, ...], values: dict[str, Any]) -> tuple[CallGuard, dict[str, Any]]:
            guard = find()
            if guard is None:
                raise ToolDenied(tool, NO_GUARD)
            args, values = (*bound_args, *args), {**bound_values, **values}
            return guard, _arguments(tool, signature, args, values, is_method=is_method)

        if inspect.iscoroutinefunction(runs):

            @functools.wraps(function)
            async def awaited(*args: Any, **values: Any) -> Any:
                guard, arguments = call_of(args, values)
                return await guard.arun(tool, arguments, lambda: function(*args, **values))

            return cast("F", awaited)

        # The body of a generator runs when it is iterated, so it is checked then.
        if inspect.isgeneratorfunction(runs):

            @functools.wraps(function)
            def iterated(*args: Any, **values: Any) -> Generator[Any, Any, Any]:
                guard, arguments = call_of(args, values)
                return (yield from guard.run(tool, arguments, lambda: function(*args, **values)))

            return cast("F", iterated)

        if inspect.isasyncgenfunction(runs):

            @functools.wraps(function)
            async def generated(*args: Any, **values: Any) -> AsyncIterator[Any]:
                guard, arguments = call_of(args, values)

                async def start() -> Any:
                    return function(*args, **values)

                async with aclosing(await guard.arun(tool, arguments, start)) as items:
                    async for item in items:
                        yield item

            return cast("F", generated)

        @functools.wraps(function)
        def called(*args: Any, **values: Any) -> Any:
            guard, arguments = call_of(args, values)
            return guard.run(tool, arguments, lambda: function(*args, **values))

        return cast("F", called)

    return decorate


def _run_by(function: Any) -> Any:
    """Return the function that runs when ``function`` is called; its kind is that of the call."""
    while isinstance(function, functools.partial | staticmethod):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function if inspect.isroutine(function) else type(function).__call__


def _unbound(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the function that a partial one completes, with the arguments that it has already."""
    args: tuple[Any, ...] = ()
    values: dict[str, Any] = {}
    while isinstance(function, functools.partial | staticmethod):
        if isinstance(function, functools.partial):
            args, values = (*function.args, *args), {**function.keywords, **values}
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function, args, values


def _is_method(function: Any) -> bool:
    """Return True for a function that was defined in a class."""
    within = getattr(function, "__qualname__", "").rpartition(".")[0]
    return inspect.isfunction(function) and bool(within) and not within.endswith("<locals>")


def _arguments(
    tool: str, signature: inspect.Signature, args: tuple[Any, ...], values: dict[str, Any], *, is_method: bool
) -> dict[str, Any]:
    """Return the arguments by their parameters' names. Raises ToolDenied if they don't fit the function."""
    try:
        bound = signature.bind(*args, **values)
    except TypeError:
        raise ToolDenied(tool, BAD_CALL) from None
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for position, (name, parameter) in enumerate(signature.parameters.items()):
        if is_method and position == 0 and name in ("self", "cls"):
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            # One may have the name of a positional-only parameter, and would hide its value.
            if arguments.keys() & bound.arguments[name].keys():
                raise ToolDenied(tool, BAD_CALL)
            arguments.update(bound.arguments[name])
        else:
            arguments[name] = bound.arguments[name]
    return arguments


# A survey in this process costs a few microseconds, one over gRPC a call.
EMBEDDED_INTERVAL_MS: Final = 20
REMOTE_INTERVAL_MS: Final = 250

_ended: ContextVar[threading.Event | None] = ContextVar("sessauth_withdrawn", default=None)


def withdrawn() -> bool:
    """Return True in a blocking tool whose permission ended while it runs: it should stop.

    A coroutine is cancelled instead. False outside a watched call.
    """
    event = _ended.get()
    return event is not None and event.is_set()


def run_watched(judge: ToolJudge, call: ToolCall, do: Callable[[], T]) -> T:
    """Run a blocking tool, whose :func:`withdrawn` becomes true when its permission ends.

    Raises ToolDenied WITHDRAWN if it ended meanwhile, also when the tool has finished.
    """
    event, done = threading.Event(), threading.Event()
    context = _ended.set(event)
    thread = threading.Thread(
        target=_poll, args=(judge, call, event, done), name="sessauth-guard-watch", daemon=True
    )
    thread.start()
    try:
        result = do()
    finally:
        done.set()
        _ended.reset(context)
        thread.join()
    if isgenerator(result):
        return cast("T", _watched_items(judge, call, result))
    if event.is_set():
        # Not reached by a guard that only observes: its calls are never withdrawn.
        judge.refuse(ToolDenied(call.tool, WITHDRAWN))
    return result


async def arun_watched(judge: ToolJudge, call: ToolCall, do: Callable[[], Awaitable[T]]) -> T:
    """Run a tool as a task that is cancelled when its permission ends.

    Raises ToolDenied WITHDRAWN if it was cancelled for that.
    """
    result: Any = await _arun_until(_apoll(judge, call), judge, call.tool, do)
    return cast("T", _awatched_items(judge, call, result) if _is_stream(result) else result)


async def arun_standing(judge: ToolJudge, terms: CallTerms, do: Callable[[], Awaitable[T]]) -> T:
    """Run a task that is cancelled when the token of ``terms`` is no longer valid.

    Raises ToolDenied WITHDRAWN if it was cancelled for that.
    """
    return await _arun_until(_apoll_token(judge, terms), judge, "", do)


async def _arun_until(
    end: Coroutine[Any, Any, None], judge: ToolJudge, name: str, do: Callable[[], Awaitable[T]]
) -> T:
    tool = asyncio.ensure_future(do())
    watch = asyncio.ensure_future(end)
    try:
        await asyncio.wait((tool, watch), return_when=asyncio.FIRST_COMPLETED)
        # Where both are done the permission ended first or at once: its result is not given out.
        if not watch.done():
            return tool.result()
    finally:
        for task in (tool, watch):
            task.cancel()
        await asyncio.gather(tool, watch, return_exceptions=True)
    denied = ToolDenied(name, WITHDRAWN)
    judge.refuse(denied)
    raise denied


def _watched_items(judge: ToolJudge, call: ToolCall, items: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a generator and yield its items while its permission holds. Raises ToolDenied WITHDRAWN."""
    sent = None
    with closing(items):
        while True:
            drive(_require_still_allowed(judge, call))
            try:
                item = items.send(sent)
            except StopIteration as done:
                return cast("T", done.value)
            drive(_require_still_allowed(judge, call))
            sent = yield item


async def _awatched_items(
    judge: ToolJudge, call: ToolCall, items: AsyncGenerator[Any]
) -> AsyncGenerator[Any]:
    """Do as :func:`_watched_items`, awaited."""
    async with aclosing(items):
        while True:
            await drive_async(_require_still_allowed(judge, call))
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            await drive_async(_require_still_allowed(judge, call))
            yield item


def _is_stream(result: object) -> bool:
    # Not a type guard, which would have items of no type.
    return isasyncgen(result)


def _require_still_allowed(judge: ToolJudge, call: ToolCall) -> Steps[None]:
    if not (yield from _still_allowed(judge, call)):
        judge.refuse(ToolDenied(call.tool, WITHDRAWN))


def _still_allowed(judge: ToolJudge, call: ToolCall) -> Steps[bool]:
    """Return True while the call may go on."""
    candidate = Candidate(call.action, call.resource, call.arguments, call.options["tool"])
    options = {name: value for name, value in call.options.items() if name != "tool"}
    try:
        verdicts = yield from judge.survey(call.token, [candidate], options)
        return is_possible(verdicts[0]) or judge.observing
    except Exception:  # noqa: BLE001 - a thread that watches would end, and the call go on
        return judge.observing


def _interval_s(judge: ToolJudge) -> float:
    return (EMBEDDED_INTERVAL_MS if judge.embedded else REMOTE_INTERVAL_MS) / 1000


def _poll(judge: ToolJudge, call: ToolCall, ended: threading.Event, done: threading.Event) -> None:
    while not done.wait(_interval_s(judge)):
        if not drive(_still_allowed(judge, call)):
            ended.set()
            return


async def _apoll(judge: ToolJudge, call: ToolCall) -> None:
    while await drive_async(_still_allowed(judge, call)):
        await asyncio.sleep(_interval_s(judge))


async def _apoll_token(judge: ToolJudge, terms: CallTerms) -> None:
    # It was checked just now, and most answers end before it is asked about again.
    await asyncio.sleep(_interval_s(judge))
    while await drive_async(judge.stands(terms)):
        await asyncio.sleep(_interval_s(judge))


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

        Raises UsageError if two catalogues are of one server, ``mode`` or ``explain`` is unknown, or
        ``permit_ms`` is out of range or the verifier has no server; NotExtendable for an open token without
        its secret.

        Args:
            verifier: a ``Verifier`` in this process, with or without a server, a ``Client`` of a
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
                0: a call is charged when it is checked.
            mode: ``enforce``, or ``observe``: every call is made, and those that would be denied are logged
                and told to ``on_denied``.
            approve: called with the :class:`~sessauth.ApprovalRequest` of a call that waits for a person. It
                returns a signed approval, or True once the server has one; else the call stays denied. Its
                exceptions pass through: one may be a framework's interrupt.
            watch: stop a running tool when its permission ends (:mod:`sessauth.guard.guard`).
            on_denied: called with each :class:`ToolDenied`, for the operator.
            explain: how much an agent learns of a refusal. ``answer``: one sentence. ``decision``: also the
                id that the operator finds the decision by. ``scope``: also what its own token permits
                instead, where that refused the call; never of a ceiling.
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

    @shows_terms(CallTerms)
    def check(self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]) -> DecisionBase | None:
        """Check a call, and charge its cost. Make the call now, or not at all.

        Raises ToolDenied unless the call is allowed.

        Args:
            tool: the name of the tool.
            arguments: the values that the tool will be given, or their JSON.
            terms: see :class:`CallTerms`.

        Returns:
            The decision, which allows; in observe mode any decision, or None.
        """
        return drive(self._judge.judge(tool, arguments, terms))[1]

    @shows_terms(CallTerms)
    async def acheck(
        self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]
    ) -> DecisionBase | None:
        """Do as :meth:`check`, awaited."""
        return (await drive_async(self._judge.judge(tool, arguments, terms)))[1]

    @shows_terms(CallTerms)
    def check_method(
        self, method: str, params: Arguments = b"", **terms: Unpack[CallTerms]
    ) -> DecisionBase | None:
        """Check a call of an MCP method other than ``tools/call``; the handshake needs a valid token only.

        Returns and raises as :meth:`check`.
        """
        return drive(self._judge.judge_method(method, params, terms))

    @shows_terms(CallTerms)
    async def acheck_method(
        self, method: str, params: Arguments = b"", **terms: Unpack[CallTerms]
    ) -> DecisionBase | None:
        """Do as :meth:`check_method`, awaited."""
        return await drive_async(self._judge.judge_method(method, params, terms))

    @shows_terms(CallTerms)
    def hold(self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]) -> Hold:
        """Check a call that will be made a little later; its costs are held by a permit until then.

        Raises ToolDenied unless the call is allowed.
        """
        return Hold(self._judge, *drive(self._judge.judge(tool, arguments, terms, self._permit_ms)))

    @shows_terms(CallTerms)
    async def ahold(self, tool: str, arguments: Arguments = b"", **terms: Unpack[CallTerms]) -> Hold:
        """Do as :meth:`hold`, awaited."""
        judged = await drive_async(self._judge.judge(tool, arguments, terms, self._permit_ms))
        return Hold(self._judge, *judged)

    @shows_terms(CallTerms)
    def run(self, tool: str, arguments: Arguments, do: Callable[[], T], **terms: Unpack[CallTerms]) -> T:
        """Check a call and make it: ``do()``, with these arguments, exactly once or never.

        Raises ToolDenied if it is not allowed, or its arguments changed since they were checked; then ``do``
        was not called. Of a watched call also if its permission ended while it ran.
        """
        call, decision = drive(self._judge.judge(tool, arguments, terms, self._permit_ms))
        with Hold(self._judge, call, decision) as held:
            held.commit(arguments)
            return run_watched(self._judge, call, do) if self._watch and call is not None else do()

    @shows_terms(CallTerms)
    async def arun(
        self, tool: str, arguments: Arguments, do: Callable[[], Awaitable[T]], **terms: Unpack[CallTerms]
    ) -> T:
        """Do as :meth:`run`, awaited; a watched tool is cancelled when its permission ends."""
        call, decision = await drive_async(self._judge.judge(tool, arguments, terms, self._permit_ms))
        async with Hold(self._judge, call, decision) as held:
            return await self.arun_held(held, arguments, do)

    async def arun_held(self, held: Hold, arguments: Arguments | None, do: Callable[[], Awaitable[T]]) -> T:
        """Commit a call of :meth:`ahold` and make it, as :meth:`arun` does with a call that it checks."""
        await held.acommit(arguments)
        if not self._watch or held.call is None:
            return await do()

        async def start() -> T:
            # A task begins a turn of the event loop later.
            held.require_same(arguments)
            return await do()

        return await arun_watched(self._judge, held.call, start)

    @shows_terms(CallTerms)
    async def arun_standing(self, do: Callable[[], Awaitable[T]], **terms: Unpack[CallTerms]) -> T:
        """Call ``do()``, and cancel it when the token is no longer valid; an adapter for streams calls this.

        Raises ToolDenied if it was cancelled for that.
        """
        return await arun_standing(self._judge, terms, do)

    def refuse(self, tool: str, reason: str = BAD_CALL, *, cause: BaseException | None = None) -> None:
        """Refuse a call that could not be read as one; an adapter calls this.

        Returns only in mode observe: the call is then made. Raises ToolDenied because of ``cause``.
        """
        denied = ToolDenied(tool, reason)
        denied.__cause__ = cause
        self._judge.refuse(denied)

    @shows_terms(CallTerms)
    def visible(self, tools: Iterable[str], **terms: Unpack[CallTerms]) -> list[str]:
        """Return those of ``tools`` that the token could call with some arguments, in their order.

        A tool that is not in the catalogue is hidden. If the verifier gives no answer, all are.
        """
        return drive(self._judge.visible(tools, terms))

    @shows_terms(CallTerms)
    async def avisible(self, tools: Iterable[str], **terms: Unpack[CallTerms]) -> list[str]:
        """Do as :meth:`visible`, awaited."""
        return await drive_async(self._judge.visible(tools, terms))

    @shows_terms(BlockTerms)
    def child(self, *scopes: Scope | str, **terms: Unpack[BlockTerms]) -> Self:
        """Return a guard for a sub-agent, whose token is narrowed offline.

        Raises UsageError if this guard has no token of its own, NotExtendable if its token can't be narrowed:
        it must be open, WidensAuthority if a scope permits more than this guard's token.

        Args:
            scopes: the only calls that the sub-agent may make, of those that this guard allows.
            terms: other terms of its token, as in :meth:`Token.attenuate`; ``ending`` is ``open``.
        """
        token = self._judge.token
        if not isinstance(token, Token):
            raise UsageError("token: a child needs a guard with an open token, as minted with ending='open'")
        terms.setdefault("ending", "open")
        guard = copy.copy(self)
        guard._judge = self._judge.with_token(token.attenuate(scopes=scopes, **terms))
        return guard

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


def current_guard() -> Guard | None:
    """Return the guard that is active in this task or thread; None without one."""
    return cast("Guard | None", active.get())


def guarded(name: str = "") -> Callable[[F], F]:
    """Return a decorator: each call of the function is checked by the guard that is active then.

    The arguments are checked under the names of the parameters, defaults included; the leading ``self`` or
    ``cls`` of a method is left out. A generator is checked when it is iterated first, a watched
    one again before each item. Without an active guard each call is denied.

        @guarded()
        def delete_repo(owner: str, name: str) -> None: ...

        with guard.activate():
            delete_repo("acme", "web")           # raises ToolDenied unless it is allowed

    Args:
        name: the name of the tool; empty: the function's.
    """
    return decorated(name, current_guard)
