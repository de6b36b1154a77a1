"""The credentials of a cluster as a process reads them: once, and again when one changed."""

from __future__ import annotations

from collections.abc import Mapping

import lmdb

from ...errors import StateError
from ...model.credential import CredentialRecord
from .. import layout
from .credential_rows import CREDENTIAL, credential_values, decode_changed
from .environment import LmdbSource


class CredentialReader:
    """The rows, read again when their mark is another one."""

    def __init__(self, source: LmdbSource) -> None:
        """Read from ``source``; nothing is read yet."""
        self._source = source
        # The mark under which ``records`` were read; empty without rows, None: nothing was read yet.
        self._mark: bytes | None = None
        # The last commit that is known to have this mark.
        self._commit = 0
        self._values: Mapping[bytes, bytes] = {}
        # By key; replaced by another object when the rows change.
        self.records: Mapping[bytes, CredentialRecord] = {}

    def unchanged(self) -> bool:
        """Return True if ``records`` are those of the last commit. False if that can't be read."""
        commit_id = self._source.commit_id
        if commit_id is not None and self._commit and commit_id.number == self._commit:
            return True
        mark = self._mark
        try:
            found, commit = self._read_mark()
        except (StateError, lmdb.Error):
            return False
        if mark is None or found != mark:
            return False
        self._commit = commit
        return True

    def read(self) -> Mapping[bytes, CredentialRecord]:
        """Return the records of now. One thread at a time. Raises StateError if they can't be read."""
        if self.unchanged():
            return self.records
        self._mark = None
        try:
            with self._source.rows() as rows:
                commit = int(rows.txn.id())
                mark = rows.get(layout.EVIDENCE, CREDENTIAL) or b""
                values = credential_values(rows)
        except lmdb.Error as error:
            raise StateError(f"the credentials of the cluster can't be read: {error}") from error
        # The mark comes last: another thread may ask meanwhile if anything changed.
        self.records = decode_changed(values, self._values, self.records)
        self._values = values
        self._commit, self._mark = commit, mark
        return self.records

    def _read_mark(self) -> tuple[bytes, int]:
        """Return the mark, and the commit that it was read at.

        That is the transaction's own: a commit's id is in the file's pages a moment before a new transaction
        reads its rows.
        """
        table = self._source.tables.get(layout.EVIDENCE)
        txn = self._source.reading()
        try:
            mark = b"" if table is None else bytes(txn.get(CREDENTIAL, db=table) or b"")
            return mark, int(txn.id())
        finally:
            txn.abort()
