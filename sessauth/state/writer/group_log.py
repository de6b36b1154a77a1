"""The port between a commit and the log of a cluster; a single host has none."""

from __future__ import annotations

from typing import Protocol

from ...errors import NotLeader, StateError
from .group import Group


class GroupTooLarge(StateError):
    """A group does not fit into one record; its jobs may, one by one."""


class EngineRefused(StateError):
    """The engine of the log takes no such record; the message has its reason."""


class EngineFull(EngineRefused):
    """The engine of the log has no space, and takes no record at all."""


class GroupLog(Protocol):
    """The order of groups that all servers of a cluster share."""

    def refusal(self) -> NotLeader | None:
        """Return the error for callers that write; None while this server leads."""
        ...

    def append(self, group: Group) -> None:
        """Append a finished group, which is committed next.

        Raises StateError if the group must not be committed: NotLeader, OutcomeUnknown,
        EngineRefused, GroupTooLarge.
        """
        ...

    def commit_failed(self, reason: str) -> None:
        """Take notice that an appended group could not be committed on this host."""
        ...
