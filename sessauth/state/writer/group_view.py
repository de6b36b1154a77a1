"""The rows of a group, as the kernel's view reads them.

The writer checks a call by the rows that its change is then applied to: those of its own write transaction,
with the uncommitted changes of earlier jobs of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmdb

from .. import layout
from ..lmdb.environment import LmdbSource
from .group import Group


class GroupSource:
    """A source of the kernel's view over one group after another; only for the writer's thread.

    Each :meth:`enter` gives later reads a new identity, so that a view reads all rows again for each job. It
    has no commit id for the same reason.
    """

    def __init__(self, source: LmdbSource) -> None:
        """Read the tables of ``source``, within the group that was entered last."""
        self.sessions = source.sessions
        self.leases = source.leases
        self.revoked = source.revoked
        self.keys = source.keys
        self.tallies = source.tallies
        self.meta = source.meta
        self.brake = source.brake
        self._identity = 0
        self._group: Group | None = None

    def enter(self, group: Group) -> None:
        """Read from ``group`` until :meth:`leave`."""
        self._identity += 1
        self._group = group

    def leave(self) -> None:
        """End reading from the group, whose transaction may be over."""
        self._group = None

    def begin(self) -> GroupReading:
        """Start a read. Raises RuntimeError outside of a group."""
        if self._group is None:
            raise RuntimeError("rows of a group are read within it only")
        return GroupReading(self._group, self._identity, self.meta)


class GroupReading:
    """A read within a group's transaction, which it does not end."""

    __slots__ = ("_get", "_group", "_identity", "_meta")

    def __init__(self, group: Group, identity: int, meta: object) -> None:
        """Read the rows of ``group`` under this identity."""
        self._group = group
        self._get: Callable[..., Any] = group.rows.txn.get
        self._identity = identity
        self._meta = meta

    def id(self) -> int:
        """Return the identity that :meth:`GroupSource.enter` gave."""
        return self._identity

    def get(self, key: bytes, *, db: object) -> bytes | None:
        """Return a row's value."""
        if db is self._meta and key == layout.HEAD_KEY:
            # A group holds the head beside the rows, and writes it once at the end.
            return self._group.rows.current.encode()
        value: bytes | None = self._get(key, db=db)
        return value

    def cursor(self, *, db: Any) -> lmdb.Cursor:
        """Return a cursor over a table."""
        return self._group.rows.txn.cursor(db=db)

    def abort(self) -> None:
        """Do nothing: the transaction is the group's."""
