"""A call that is allowed and not yet made: its permit is used up just before it is, or given back."""

from __future__ import annotations

from typing import Self

from ..decisions.decision import DecisionBase
from ..scopes.call_arguments import Arguments
from .call import ToolCall, judged_bytes, started
from .denied import CHANGED, USED, ToolDenied
from .driving import Steps, drive, drive_async
from .tool_judge import ToolJudge


class Hold:
    """An allowed call. Commit it just before the tool runs; leaving its block without that releases it.

        with guard.hold("pay", arguments) as held:
            ...                              # whatever must come first, and may fail
            held.commit(arguments)           # raises ToolDenied if it is no longer allowed
            pay(**arguments)

    Where no permit was given, since the verifier has no server or the guard's ``permit_ms`` is 0, a commit
    judges nothing again: the call was judged, and charged, when it was held. A hold is for one call: after a
    commit, whatever came of it, and after a release another commit is refused.
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
        """The call as it was judged; None where a guard that observes could not read it."""
        return self._call

    def commit(self, arguments: Arguments | None = None) -> None:
        """Use the permit up.

        Args:
            arguments: the arguments that the tool is given, compared with those that were judged.

        Raises:
            ToolDenied: if the call is not allowed any more, or with other arguments. Do not make it.
        """
        drive(self._commit(arguments))

    async def acommit(self, arguments: Arguments | None = None) -> None:
        """Do as :meth:`commit`, awaited."""
        await drive_async(self._commit(arguments))

    def release(self) -> None:
        """Give back what the call would have cost; nothing after a commit."""
        drive(self._release())

    async def arelease(self) -> None:
        """Do as :meth:`release`, awaited."""
        await drive_async(self._release())

    def require_same(self, arguments: Arguments | None) -> None:
        """Return if these are the arguments that were judged. Raises ToolDenied."""
        if self._call is not None and arguments is not None and not _same(arguments, self._call.arguments):
            self._judge.refuse(ToolDenied(self._call.tool, CHANGED, self.decision))

    def _commit(self, arguments: Arguments | None) -> Steps[None]:
        call, permit = self._call, self._permit
        if call is None:
            return
        if not self._open:
            self._judge.refuse(ToolDenied(call.tool, USED, self.decision))
        self.require_same(arguments)
        # Used up or unknown from here on, whatever comes: it is not given back.
        self._open, self._permit = False, b""
        if permit:
            yield from self._judge.commit(call, permit)
            # The server took its time, in which others may have changed them.
            self.require_same(arguments)
        if not started.start(call.retry_id):
            # Two attempts were judged at once, and charged once.
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
