"""The rows of a group that is being written, as the kernel's view reads them.

The writer judges a call by the very rows that its change is then applied to: those of its own write
transaction, with what the jobs before it in the group have left there, committed or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import layout
from ..lmdb.environment import LmdbSource
from .group import Group


class GroupSource:
    """A ``ports.ViewSource`` over one group after another; only for the writer's thread.

    Each :meth:`enter` gives what is read from then on an identity of its own, so that a view takes
    nothing that it read for an earlier job for current. It has no pulse for the same reason.
    """

    def __init__(self, source: LmdbSource) -> None:
        """Read the tables of ``source``, within whichever group was entered last."""
        self.sessions = source.sessions
        self.leases = source.leases
        self.revoked = source.revoked
        self.keys = source.keys
        self.meta = source.meta
        self.brake = source.brake
        self._identity = 0
        self._group: Group | None = None

    def enter(self, group: Group) -> None:
        """Read from ``group`` until :meth:`leave`."""
        self._identity += 1
        self._group = group

    def leave(self) -> None:
        """Read from nothing: the transaction may be over."""
        self._group = None

    def begin(self) -> GroupReading:
        """Start a read. Raises RuntimeError outside of a group."""
        if self._group is None:
            raise RuntimeError("rows of a group are read within it only")
        return GroupReading(self._group, self._identity, self.meta)


class GroupReading:
    """A ``ports.ReadTransaction`` within a group's transaction, which it does not end."""

    __slots__ = ("_get", "_group", "_identity", "_meta")

    def __init__(self, group: Group, identity: int, meta: object) -> None:
        """Read the rows of ``group`` under this identity."""
        self._group = group
        self._get: Callable[..., Any] = group.rows.txn.get
        self._identity = identity
        self._meta = meta

    def id(self) -> int:
        """Return the identity of what is read."""
        return self._identity

    def get(self, key: bytes, *, db: object) -> bytes | None:
        """Return a row's value."""
        if db is self._meta and key == layout.HEAD_KEY:
            # Within a group the head is kept beside the rows, and written once at the end.
            return self._group.rows.current.encode()
        value: bytes | None = self._get(key, db=db)
        return value

    def abort(self) -> None:
        """Do nothing: the transaction is the group's."""
