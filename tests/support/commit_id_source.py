"""The in-memory source with a pulse, epochs that differ, and commits that come when a test wants them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sessauth._fast import _check as kernel
from sessauth._fast._check import CommitId
from tests.oracle.model import OracleView
from tests.support.token_forger import Ceilings
from tests.support.vector_files import read_view
from tests.support.view_source import MemorySource
from tests.vectors.world import VIEWS

WORD = 8
LARGEST = 2**64 - 1


def set_word(words: bytearray, which: int, number: int) -> None:
    """Write one of the two words of a pulse, in the machine's byte order."""
    words[which * WORD : (which + 1) * WORD] = number.to_bytes(WORD, sys.byteorder)


class CommitIdSource(MemorySource):
    """Each ``load`` and ``touch`` is a commit: written first, then told by the pulse, one word in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.words = bytearray(2 * WORD)
        self.commit_id = CommitId(self.words, 0, WORD)
        self.epochs: dict[bytes, int] = {}
        self.begun = 0
        self.on_begin: Callable[[], None] = lambda: None

    @property
    def number(self) -> int:
        """The number of the last commit."""
        return self._number

    def begin(self) -> Any:
        """Begin a read transaction, after whatever a test lets happen first."""
        self.begun += 1
        self.on_begin()
        return super().begin()

    def load(self, view: OracleView, ceilings: Ceilings, revoked_session: bytes = b"") -> None:
        """Replace all rows; each session gets an epoch that it never had."""
        super().load(view, ceilings, revoked_session)
        self.epochs = {}
        for place, (session_id, row) in enumerate(self.sessions.items()):
            self.epochs[session_id] = self._number * 10 + place
            record = {**kernel.decode_message("SessionRecord", row), "epoch": self.epochs[session_id]}
            self.sessions[session_id] = kernel.encode_message("SessionRecord", record)
        self._beat()

    def touch(self) -> None:
        """Commit nothing that a check reads."""
        self._number += 1
        self._beat()

    def _beat(self) -> None:
        set_word(self.words, self._number % 2, self._number)


def with_commit_id(source: CommitIdSource, words: bytearray | None) -> Any:
    """The same source with a pulse over other words, or with none."""
    return SimpleNamespace(
        begin=lambda: source.begin(),
        commit_id=None if words is None else CommitId(words, 0, WORD),
        brake=source.brake,
        sessions=source.sessions,
        leases=source.leases,
        revoked=source.revoked,
        keys=source.keys,
        meta=source.meta,
    )


def of_view(view: str = "plain") -> CommitIdSource:
    """Return a source with a commit id and one of the vectors' views."""
    made = CommitIdSource()
    made.load(*read_view(VIEWS[view]))
    return made
