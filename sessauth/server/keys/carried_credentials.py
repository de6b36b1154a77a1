"""The credentials of a cluster, by the rows of this host's folder, beside those of its own file."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ...errors import ConfigError, StateError
from ...model.credential import CredentialRecord
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.reader import CredentialReader
from ..log import event
from .credentials import (
    RELOAD_SECONDS,
    CredentialFile,
    CredentialSource,
    Loaded,
    Principal,
    StoredCredential,
)


def stored(record: CredentialRecord) -> StoredCredential:
    """Return a record as an entry."""
    principal = Principal(record.name, record.role, record.audiences)
    return StoredCredential(principal, record.secret_hash)


class CarriedCredentials(CredentialSource):
    """Those of the cluster, and those of this host's file.

    The first count on all hosts, so an entry of the file that has the name of one does not count.
    """

    def __init__(self, path: Path, source: LmdbSource) -> None:
        """Use the file at ``path`` and the rows of ``source``."""
        super().__init__()
        self._file = CredentialFile(path)
        self._reader = CredentialReader(source)
        self._lock = threading.Lock()
        # The two objects that ``loaded`` was made of.
        self._parts: tuple[object, object] = (None, None)

    @property
    def file(self) -> CredentialFile:
        """The host's own file."""
        return self._file

    def drop_copies(self) -> None:
        """Remove credentials that all hosts have from this host's file, where a removal would not reach them.

        Raises ConfigError.
        """
        carried = self.current().carried
        entries = self._file.current().entries
        copies = [
            entry
            for name, entry in entries.items()
            if name in carried and carried[name].secret_hash == entry.secret_hash
        ]
        if copies:
            self._file.exclude(copies)
            event(logging.INFO, "credentials_of_cluster", names=[entry.principal.name for entry in copies])

    def is_current(self) -> bool:
        """Return True if ``loaded`` has the rows of the last commit, and the file's entries of 200 ms ago."""
        # In this order: another thread may have read the rows, and not yet replaced ``loaded``.
        return super().is_current() and self._reader.unchanged() and self._parts[1] is self._reader.records

    def current(self) -> Loaded:
        """Return the rows of now and the file's entries, those at most 200 ms old."""
        if self.is_current():
            return self.loaded
        with self._lock:
            try:
                own = self._file.current()
                records = self._reader.read()
            except BaseException as error:
                self.loaded, self._parts, self.fresh_until = Loaded(), (None, None), 0.0
                if isinstance(error, StateError):
                    raise ConfigError(str(error)) from error
                raise
            if self._parts[0] is not own or self._parts[1] is not records:
                carried = {record.name: stored(record) for record in records.values()}
                self.loaded = Loaded({**own.entries, **carried}, carried=carried)
                self._parts = own, records
            # Zero while there is no file: then a new one is seen as late as a changed one.
            self.fresh_until = self._file.fresh_until or time.monotonic() + RELOAD_SECONDS
            return self.loaded
