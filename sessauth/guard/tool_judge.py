"""The logic of a guard, once for blocking and awaited use.

The generators here yield the functions to call (``Step``). Their driver sends the answer back, or throws the
failure into the generator. A failure of a verifier or a prover becomes a refusal, never a yes.

``guard.py`` has the order of events.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, Literal, Self, TypeVar

from ..decisions.decision import DecisionBase, allows, is_answer
from ..decisions.tool_catalog import HANDSHAKE, TOOLS_LIST, Candidate, ToolCatalog
from ..errors import UnknownTool, UsageError
from ..limits import MAX_BATCH_ITEMS
from ..model.approval import SignedApproval
from ..reasons import Level, Reason, Stage, SurveyVerdict
from ..scopes.call_arguments import Arguments
from ..tokens.prover import AsyncProver, Prover
from ..tokens.token import Token
from ..verifier.base import BaseVerifier
from ..verifier.verifier import AsyncVerifier, ServerBackedVerifier
from .call import (
    BAD_CALL,
    CHANGED,
    MAX_TOOL_CHARS,
    NO_ANSWER,
    NO_TOKEN,
    OWN,
    USED,
    AnyToken,
    CallTerms,
    Catalogues,
    Origins,
    ToolCall,
    ToolDenied,
    judged_bytes,
    retry_id_of,
    started,
)

T = TypeVar("T")
# A function to call for the logic that blocking and awaited guards share, its arguments and options; and how.
Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], int]
Steps = Generator[Step, Any, T]

AT_ONCE: Final = 0
# It must not run on an event loop.
BLOCKS: Final = 1
# It may wait for a person, too.
WAITS: Final = 2


def drive(steps: Steps[T]) -> T:
    """Run ``steps`` in this thread. Raises UsageError if a step has to be awaited."""
    try:
        step = next(steps)
        while True:
            error: BaseException | None = None
            try:
                function, args, options, _ = step
                answer = function(*args, **options)
            except BaseException as raised:  # noqa: BLE001 - for the logic to handle
                answer, error = None, raised
            # As inspect.isawaitable for coroutines and futures, in a tenth of its time.
            if hasattr(type(answer), "__await__"):
                if inspect.iscoroutine(answer):
                    # Otherwise it would warn that it was never awaited.
                    answer.close()
                steps.close()
                raise UsageError("this guard's verifier or callback is awaited: use acheck(), arun() …")
            step = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(steps: Steps[T]) -> T:
    """Run ``steps`` on this event loop. A step that blocks runs in a thread, in this context."""
    try:
        step = next(steps)
        while True:
            error: BaseException | None
            try:
                if step[3] and not inspect.iscoroutinefunction(step[0]):
                    answer, error = await _outcome_in_thread(step)
                else:
                    answer, error = _outcome(step)
                if hasattr(type(answer), "__await__"):
                    answer = await answer
            except BaseException as raised:  # noqa: BLE001 - for the logic to handle
                error = raised
            step = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as done:
        value: T = done.value
        return value


async def _outcome_in_thread(step: Step) -> tuple[Any, BaseException | None]:
    if step[3] != WAITS:
        return await asyncio.to_thread(_outcome, step)
    # A thread of its own: the loop's are few, and all other calls would wait for the same person.
    pool = ThreadPoolExecutor(1, "sessauth-guard-approve")
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, copy_context().run, _outcome, step)
    finally:
        pool.shutdown(wait=False)


def _outcome(step: Step) -> tuple[Any, BaseException | None]:
    """Return the answer of a step, or its exception.

    Nothing is raised here: a StopIteration that came out of a thread would never reach the waiting task.
    """
    function, args, options, _ = step
    try:
        return function(*args, **options), None
    except BaseException as error:  # noqa: BLE001 - for the logic to handle
        return None, error


Mode = Literal["enforce", "observe"]
Explain = Literal["answer", "decision", "scope"]
Approve = Callable[[Any], Any]
OnDenied = Callable[[ToolDenied], None]


# Of the log, however many tools a server has, and however often it has others.
MAX_HIDDEN_NAMED: Final = 50
MAX_HIDDEN_LINES: Final = 100

_TERMS: Final = frozenset(CallTerms.__annotations__)
_NOT_OF_CALLER: Final = _TERMS - {"source", "peer", "session"}

_log: Final = logging.getLogger("sessauth.guard")


class ToolJudge:
    """The settings of a guard, and its logic as generators."""

    def __init__(
        self,
        verifier: Any,
        catalogue: Catalogues,
        token: AnyToken | None,
        prover: Any,
        options: dict[str, Any],
        mode: Mode,
        approve: Approve | None,
        on_denied: OnDenied | None,
        explain: Explain,
    ) -> None:
        """Take the parameters of :class:`~.guard.Guard`; ``options`` are those of every check."""
        self.verifier = verifier
        self.origins = Origins(catalogue)
        self.token = token
        self.prover = prover
        self.options = options
        self.observing = mode == "observe"
        self._approve = approve
        self._on_denied = on_denied
        self._explain = explain
        self._hidden: set[str] = set()
        # A verifier in this process answers at once. One that calls a server must not run on an event loop.
        self.embedded = isinstance(verifier, BaseVerifier | AsyncVerifier)
        at_once = self.embedded and not isinstance(verifier, ServerBackedVerifier)
        self._how = AT_ONCE if at_once else BLOCKS
        # A verifier without a server knows neither permits nor retry ids.
        self.charges = hasattr(verifier, "commit")
        # The holder's copy of an open token is sealed once, which costs a signature.
        self._presented = _presented(token)

    def with_token(self, token: Token) -> ToolJudge:
        """Return the same settings with another token."""
        other = copy.copy(self)
        other.token, other._presented = token, _presented(token)
        return other

    def judge(
        self, tool: str, arguments: Arguments, terms: CallTerms, permit_ms: int = 0
    ) -> Steps[tuple[ToolCall | None, DecisionBase | None]]:
        """Check a call of a tool.

        Returns the call and its decision. A guard that observes returns them for a denial too; the call is
        None where it could not be read. Raises ToolDenied unless it is allowed, or the guard only observes.
        """
        call = None
        try:
            call = yield from self._read(tool, arguments, terms)
            decision = yield from self._check(call, permit_ms)
        except ToolDenied as denied:
            self.refuse(denied)
            return call, denied.decision
        return call, decision

    def judge_method(self, method: str, params: Arguments, terms: CallTerms) -> Steps[DecisionBase | None]:
        """Check a call of an MCP method other than ``tools/call``; returns and raises as :meth:`judge`."""
        try:
            token, options = self._presented_with(method, terms)
            request = (token, self._catalogue(terms), "", self._bytes_of(method, params))
            proof = yield from self._proof_of_method(method, request, terms)
            more = {"proof": proof} if proof else {}
            options |= {**more, "method": method}
            decision = yield from self._decision(method, "check_tool", request, options)
            if proof and not terms.get("proof") and self._drops_keys(decision):
                options["proof"] = yield from self._proof_of_method(method, request, {})
                decision = yield from self._decision(method, "check_tool", request, options)
            if not allows(decision):
                raise ToolDenied(method, decision=decision, detail=self._detail(token, decision))
        except ToolDenied as denied:
            self.refuse(denied)
            return denied.decision
        return decision

    def commit(self, call: ToolCall, permit: bytes) -> Steps[None]:
        """Have the permit of a call used up. Raises ToolDenied, and nothing for a guard that observes."""
        try:
            decision = yield from self._decision(
                call.tool, "commit", (permit, *call.request), dict(call.options)
            )
            if not allows(decision):
                raise ToolDenied(call.tool, decision=decision, detail=self._detail(call.token, decision))
        except ToolDenied as denied:
            self.refuse(denied)

    def release(self, permit: bytes) -> Steps[None]:
        """Give the permit of a call back; without an answer its costs come free when it expires."""
        try:
            yield self.step(self.verifier.release, permit)
        except Exception as error:  # noqa: BLE001 - there is nothing else to do
            _log.warning("a permit was not given back and will expire: %s", type(error).__name__)

    def visible(self, tools: Iterable[str], terms: CallTerms) -> Steps[list[str]]:
        """Return the tools that the token could call with some arguments; none if that can't be known."""
        names, catalogue = list(tools), self._catalogue(terms)
        known = [name for name in names if isinstance(name, str) and name in catalogue]
        try:
            token, options = self._presented_with(TOOLS_LIST, terms)
            shown: set[str] = set()
            for start in range(0, len(known), MAX_BATCH_ITEMS):
                part = known[start : start + MAX_BATCH_ITEMS]
                verdicts = yield from self.survey(token, catalogue.candidates(part), options)
                may = zip(part, verdicts, strict=True)
                shown.update(name for name, verdict in may if is_possible(verdict))
        except ToolDenied as denied:
            self._report(denied)
            shown = set()
        if self.observing:
            return names
        self._log_hidden([name for name in names if name not in shown], known)
        return [name for name in names if name in shown]

    def _log_hidden(self, hidden: Sequence[object], known: Sequence[str]) -> None:
        """Log hidden tools, the same ones once: a developer would look for them elsewhere."""
        names = [each if isinstance(each, str) else ascii(each) for each in hidden[:MAX_HIDDEN_NAMED]]
        names = [name[:MAX_TOOL_CHARS] for name in names]
        key = "\0".join(names)
        if not hidden or key in self._hidden or len(self._hidden) >= MAX_HIDDEN_LINES:
            return
        self._hidden.add(key)
        denied = ", ".join(ascii(name) for name in names if name in known) or "none"
        unknown = ", ".join(ascii(name) for name in names if name not in known) or "none"
        _log.info("hidden tools: never in scope: %s; not in the catalogue: %s", denied, unknown)

    def _detail(self, token: AnyToken, decision: DecisionBase | None) -> str:
        """Return the detail that an agent gets beside the answer, by the operator's choice."""
        if self._explain == "answer" or decision is None or not decision.decision_id:
            return ""
        detail = f" (decision {decision.decision_id.hex()})"
        if self._explain == "decision" or decision.level != Level.BLOCK or decision.stage is not Stage.SCOPE:
            return detail
        try:
            # Of its own token only, which a holder can read; a server's explanation knows ceilings too.
            return f"{detail}: {DecisionBase.explain(decision, token)}"
        except Exception:  # noqa: BLE001 - the call stays refused
            return detail

    def survey(
        self, token: AnyToken, candidates: Sequence[Any], options: dict[str, Any]
    ) -> Steps[Sequence[SurveyVerdict]]:
        """Return the verdicts on ``candidates``. Raises ToolDenied without an answer."""
        verdicts: Sequence[SurveyVerdict] = yield from self._ask(
            TOOLS_LIST, "list_allowed", (token, candidates), options
        )
        return verdicts

    def stands(self, terms: CallTerms) -> Steps[bool]:
        """Return True while the token of a call is valid, or the guard only observes. Records nothing."""
        # Any candidate will do: a token that is not valid is refused before its scopes are read.
        candidate = Candidate("read", self._catalogue(terms).server)
        try:
            token, options = self._presented_with(TOOLS_LIST, terms)
            verdicts = yield from self._ask(TOOLS_LIST, "list_allowed", (token, [candidate]), options)
            return self.observing or verdicts.reason is Reason.ALLOWED
        except Exception:  # noqa: BLE001 - what waits for it would go on
            return self.observing

    def refuse(self, denied: ToolDenied) -> None:
        """Tell the operator of a refusal, and raise it unless the guard only observes."""
        self._report(denied)
        if not self.observing:
            raise denied

    def _report(self, denied: ToolDenied) -> None:
        denied.observed = self.observing
        decision = denied.decision_id.hex() or "none"
        outcome = "would be denied, mode is observe" if self.observing else "denied"
        _log.warning("%s: tool %a, reason %s, decision %s", outcome, denied.tool, denied.reason, decision)
        if self._on_denied is not None:
            try:
                self._on_denied(denied)
            except Exception:  # noqa: BLE001 - the call stays refused
                _log.exception("on_denied failed")

    def step(self, function: Callable[..., Any], *args: Any, **options: Any) -> Step:
        """Return the step of a call of the verifier."""
        return function, args, options, self._how

    def _read(self, tool: str, arguments: Arguments, terms: CallTerms) -> Steps[ToolCall]:
        """Return the call in the form that is checked, with a proof if the guard makes them."""
        token, options = self._presented_with(tool, terms)
        judged, catalogue = self._bytes_of(tool, arguments), self._catalogue(terms)
        try:
            action, resource, facts = catalogue.ask(tool)
        except (UnknownTool, TypeError):
            decision = None
            if isinstance(tool, str):
                # Asked all the same, so that the refusal is recorded.
                request = (token, catalogue, tool, judged)
                decision = yield from self._decision(tool, "check_tool", request, options)
            detail = self._detail(token, decision)
            raise ToolDenied(tool, Reason.UNKNOWN_TOOL.name, decision, detail) from None
        options["tool"] = facts
        call = ToolCall(tool, token, action, resource, judged, options, terms.get("interrupts", ()))
        if self.prover is not None or "proof" in terms:
            call.proof = yield from self._proof(tool, call.request, terms)
            call.proof_made = bool(call.proof) and not terms.get("proof")
        if self.charges and "call_id" in terms:
            retry_id = retry_id_of(terms["call_id"], tool, judged)
            # The tool of one that was started may have done its work before it failed.
            call.retry_id = b"" if retry_id in started else retry_id
        return call

    def _presented_with(self, tool: str, terms: CallTerms) -> tuple[AnyToken, dict[str, Any]]:
        if not terms.keys() <= _TERMS:
            # A misspelt token would be the guard's own.
            raise TypeError(f"terms of a call: {', '.join(sorted(terms.keys() - _TERMS))}")
        token = terms.get("token", self._presented)
        if not token:
            raise ToolDenied(tool, NO_TOKEN)
        options = dict(self.options)
        if not terms.keys() <= _NOT_OF_CALLER:
            options.update({name: terms[name] for name in ("source", "peer", "session") if terms.get(name)})
        return token, options

    def _catalogue(self, terms: CallTerms) -> ToolCatalog:
        return self.origins.of(terms.get("origin", OWN))

    def _bytes_of(self, tool: str, arguments: Arguments) -> bytes:
        try:
            return judged_bytes(arguments)
        except Exception:  # noqa: BLE001 - whatever an agent's values raise
            raise ToolDenied(tool, BAD_CALL) from None

    def _proof(self, tool: str, call: tuple[Any, ...], terms: CallTerms) -> Steps[bytes | str]:
        if proof := terms.get("proof", b""):
            return proof
        if self.prover is None:
            return b""
        made: bytes = yield from self._answer(tool, (self.prover.prove, call, {}, BLOCKS))
        return made

    def _proof_of_method(self, method: str, request: tuple[Any, ...], terms: CallTerms) -> Steps[bytes | str]:
        token, catalogue, _, params = request
        try:
            action, resource, _ = catalogue.ask("", method)
        except UnknownTool:
            return b""
        if action == HANDSHAKE:
            return b""
        return (yield from self._proof(method, (token, action, resource, params), terms))

    def _drops_keys(self, decision: DecisionBase) -> bool:
        """Return True if another proof may be accepted: by keys that are fetched again."""
        prover = self.prover
        return isinstance(prover, Prover | AsyncProver) and prover.drop_rejected_keys(decision.reason)

    def _check(self, call: ToolCall, permit_ms: int) -> Steps[DecisionBase]:
        """Check a call, once more where a person has approved it. Raises ToolDenied."""
        options = dict(call.options)
        if call.proof:
            options["proof"] = call.proof
        if call.retry_id:
            options["retry_id"] = call.retry_id
        if permit_ms and self.charges:
            options["permit_ms"] = permit_ms
        decision = yield from self._decision(call.tool, "check", call.request, options)
        if call.proof_made and self._drops_keys(decision):
            options["proof"] = yield from self._proof(call.tool, call.request, {})
            decision = yield from self._decision(call.tool, "check", call.request, options)
        request = getattr(decision, "approval", None)
        if self._approve is not None and decision.reason is Reason.APPROVAL_REQUIRED and request is not None:
            # An exception of the callback passes through: it may be the framework's way to wait.
            answer = yield self._approve, (request,), {}, WAITS
            if answer:
                if isinstance(answer, SignedApproval):
                    options["approvals"] = (answer,)
                if call.proof_made:
                    # A person may take longer than a proof counts.
                    options["proof"] = yield from self._proof(call.tool, call.request, {})
                decision = yield from self._decision(call.tool, "check", call.request, options)
        if not allows(decision):
            raise ToolDenied(call.tool, decision=decision, detail=self._detail(call.token, decision))
        return decision

    def _decision(
        self, tool: str, method: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Steps[DecisionBase]:
        """Return the verifier's decision. Raises ToolDenied NO_ANSWER for everything else, true or not."""
        # As _ask, without its frames: this is on the way of every call.
        function: Any = getattr(self.verifier, method, None)
        try:
            decision = yield function, args, options, self._how
        except Exception as error:
            raise _no_answer(tool, error) from error
        if not is_answer(decision):
            denied = ToolDenied(tool, NO_ANSWER)
            _log.warning("no answer about tool %a: %s is no decision", denied.tool, type(decision).__name__)
            raise denied
        return decision

    def _ask(self, tool: str, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Steps[Any]:
        """Call a method of the verifier. Raises ToolDenied NO_ANSWER for any failure."""
        # A verifier that lacks the method fails when the step runs, where failures deny.
        function: Any = getattr(self.verifier, method, None)
        return (yield from self._answer(tool, (function, args, options, self._how)))

    def _answer(self, tool: str, step: Step) -> Steps[Any]:
        try:
            return (yield step)
        except Exception as error:
            raise _no_answer(tool, error) from error


def is_possible(verdict: object) -> bool:
    """Return True for the verdict on a call that may be allowed."""
    return verdict is SurveyVerdict.YES or verdict is SurveyVerdict.MAYBE


def _no_answer(tool: str, error: Exception) -> ToolDenied:
    """Log a failure, and return the refusal that it means."""
    # The message may quote the agent's text; the kind of the failure is enough to find it.
    denied = ToolDenied(tool, NO_ANSWER)
    _log.warning("no answer about tool %a: %s", denied.tool, type(error).__name__)
    _log.debug("the failure", exc_info=error)
    return denied


def _presented(token: AnyToken | None) -> str | bytes:
    return token.present().data if isinstance(token, Token) else token or b""


class Hold:
    """An allowed call. Commit it just before the tool runs; leaving its block without that releases it.

        with guard.hold("pay", arguments) as held:
            ...                              # any work that must come first, and may fail
            held.commit(arguments)           # raises ToolDenied if it is no longer allowed
            pay(**arguments)

    Where no permit was given, since the verifier has no server or the guard's ``permit_ms`` is 0, a commit
    checks nothing again: the call was checked, and charged, when it was held. A hold is for one call: after a
    commit, successful or not, and after a release another commit is refused.
    """

    __slots__ = ("_call", "_judge", "_open", "_permit", "decision")

    def __init__(self, judge: ToolJudge, call: ToolCall | None, decision: DecisionBase | None) -> None:
        """Take an allowed call; without one, of a guard that only observes, nothing is held."""
        self._judge = judge
        self._call = call
        self._permit: bytes = getattr(decision, "permit", b"")
        self._open = True
        self.decision = decision

    @property
    def call(self) -> ToolCall | None:
        """The call as it was checked; None where a guard that observes could not read it."""
        return self._call

    def commit(self, arguments: Arguments | None = None) -> None:
        """Use the permit up.

        Raises ToolDenied if the call is not allowed any more, or with other arguments. Do not make it.

        Args:
            arguments: the arguments that the tool is given, compared with those that were checked.
        """
        drive(self._commit(arguments))

    async def acommit(self, arguments: Arguments | None = None) -> None:
        """Do as :meth:`commit`, awaited."""
        await drive_async(self._commit(arguments))

    def release(self) -> None:
        """Give back the cost of the call; nothing after a commit."""
        drive(self._release())

    async def arelease(self) -> None:
        """Do as :meth:`release`, awaited."""
        await drive_async(self._release())

    def require_same(self, arguments: Arguments | None) -> None:
        """Return if these are the arguments that were checked. Raises ToolDenied."""
        if self._call is not None and arguments is not None and not _same(arguments, self._call.arguments):
            self._judge.refuse(ToolDenied(self._call.tool, CHANGED, self.decision))

    def _commit(self, arguments: Arguments | None) -> Steps[None]:
        call, permit = self._call, self._permit
        if call is None:
            return
        if not self._open:
            self._judge.refuse(ToolDenied(call.tool, USED, self.decision))
        self.require_same(arguments)
        # Used up or unknown from here on, so it is never given back.
        self._open, self._permit = False, b""
        if permit:
            yield from self._judge.commit(call, permit)
            # Others may have changed the arguments while the server answered.
            self.require_same(arguments)
        if not started.start(call.retry_id):
            # Two attempts were checked at once, and charged once.
            self._judge.refuse(ToolDenied(call.tool, USED, self.decision))

    def _release(self) -> Steps[None]:
        permit, self._permit = self._permit, b""
        self._open = False
        if permit:
            yield from self._judge.release(permit)

    def __enter__(self) -> Self:
        """Return the hold."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Release it unless it was committed."""
        self._ended_by(error)
        if self._open:
            self.release()

    async def __aenter__(self) -> Self:
        """Return the hold."""
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Release it unless it was committed."""
        self._ended_by(error)
        if self._open:
            await self.arelease()

    def _ended_by(self, error: BaseException | None) -> None:
        if self._call is not None and isinstance(error, self._call.interrupts):
            started.forget(self._call.retry_id)


def _same(arguments: Arguments, judged: bytes) -> bool:
    try:
        return judged_bytes(arguments) == judged
    except Exception:  # noqa: BLE001 - whatever a changed value raises
        return False
