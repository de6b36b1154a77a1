"""One read-only LMDB environment for all readers of a folder in one process.

LMDB permits no second environment of the same files in one process. So the readers of a folder share it, and
the last one that closes closes it. The writer's own environment is not among them: beside it a reader is
refused ``IN_USE``. A forked child shares nothing that was open before: it opens an environment of its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any

import lmdb

from .. import layout
from .environment import open_environment, open_tables

# Device, inode and size of the data file, and of the lock file, which counts as of size 0.
FilesKey = tuple[tuple[int, int, int], ...]


class _Shared:
    """An open environment with its tables, and one object for each of its users."""

    def __init__(self, env: lmdb.Environment, tables: dict[str, Any]) -> None:
        self.env = env
        self.tables = tables
        self.users: set[object] = set()
        self.closed = False


class _Registry:
    """The environments of this process, each for as long as it has a user."""

    def __init__(self) -> None:
        # Reentrant, for a close in a finalizer or a signal handler.
        self.lock = threading.RLock()
        self.shared: weakref.WeakValueDictionary[FilesKey, _Shared] = weakref.WeakValueDictionary()


_registry = _Registry()


class EnvironmentUse:
    """One reader's use of an environment. Safe between threads."""

    def __init__(self, folder: Path, key: FilesKey) -> None:
        """Use the environment of the files with this ``key``; open it in ``folder`` if none does yet.

        Raises StateUnusable as :func:`open_environment` and :func:`open_tables` do.
        """
        registry, user = _registry, object()
        with registry.lock:
            while True:
                shared = registry.shared.get(key)
                if shared is None:
                    shared = registry.shared[key] = _open(folder)
                shared.users.add(user)
                # The collector may have ended the last other use before this one counted.
                if not shared.closed:
                    break
        self._shared = shared
        # A use that is collected has ended, even if others still refer to the environment.
        self._end = weakref.finalize(self, _end, registry, shared, user)
        self._end.atexit = False

    @property
    def env(self) -> lmdb.Environment:
        """The environment."""
        return self._shared.env

    @property
    def tables(self) -> dict[str, Any]:
        """The handles of its tables."""
        return self._shared.tables

    def close(self) -> None:
        """End this use, and close the environment if it was the last one. A second close does nothing."""
        self._end()


def _end(registry: _Registry, shared: _Shared, user: object) -> None:
    if registry is not _registry:
        # The environment is the parent's.
        return
    with registry.lock:
        shared.users.discard(user)
        if shared.users or shared.closed:
            return
        shared.closed = True
        for key in [key for key, value in registry.shared.items() if value is shared]:
            del registry.shared[key]
        shared.env.close()


def _open(folder: Path) -> _Shared:
    env = open_environment(folder, readonly=True, map_size=(folder / layout.DATA_FILE).stat().st_size)
    try:
        return _Shared(env, open_tables(env, create=False))
    except BaseException:
        env.close()
        raise


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock.
    global _registry
    _registry = _Registry()


os.register_at_fork(after_in_child=_after_fork_in_child)
