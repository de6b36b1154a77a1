"""Calls that cut agents off: ends of many sessions, bans of new ones, the freeze of everything."""

from __future__ import annotations

from collections.abc import Mapping

from ...model.ban import SessionBan
from .._requests import cut_off as cut_off_calls
from .._results import EndedSessions, FreezeState
from .calls import AsyncCalls


class AsyncCutOffCalls(AsyncCalls):
    """Calls of CutOffService."""

    async def end_sessions(
        self,
        *,
        subject: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        all_sessions: bool = False,
        reason: str = "",
        dry_run: bool = False,
        refuse_new_ms: int = 0,
        page_token: str = "",
    ) -> EndedSessions:
        """End every session that fits all parts, or ``all_sessions``, with all tokens and children.

        With ``refuse_new_ms``, at most a day, new ones that fit are refused (BANNED) for so long, from before
        the first end on; operators only. Sessions end while the server searches, for some seconds a call:
        repeat it with the result's ``next_page_token`` as ``page_token`` until that is empty.
        """
        parts = cut_off_calls.selector(subject, owner, labels, all_sessions)
        return await self._run(cut_off_calls.end_sessions(parts, reason, dry_run, refuse_new_ms, page_token))

    async def list_bans(self) -> list[SessionBan]:
        """Return the bans of new sessions that have not lapsed."""
        return await self._run(cut_off_calls.list_bans())

    async def lift_ban(
        self,
        *,
        subject: str = "",
        owner: str = "",
        labels: Mapping[str, str] | None = None,
        all_sessions: bool = False,
    ) -> None:
        """Lift the ban by these very parts. Raises NotFound if there is none."""
        await self._run(cut_off_calls.lift_ban(cut_off_calls.selector(subject, owner, labels, all_sessions)))

    async def freeze(self, reason: str = "") -> None:
        """Deny every check and refuse all new authority, on the server's host or all hosts of its cluster.

        ``reason`` has up to 256 bytes. Sessions can still be ended, and their leases renewed.
        """
        await self._run(cut_off_calls.freeze(reason))

    async def thaw(self) -> None:
        """Undo :meth:`freeze`; sessions that have not ended meanwhile go on."""
        await self._run(cut_off_calls.thaw())

    async def get_freeze(self) -> FreezeState:
        """Return why checks are denied on the server's host."""
        return await self._run(cut_off_calls.get_freeze())
