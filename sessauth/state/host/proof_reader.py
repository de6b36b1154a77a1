"""Proof keys of a verifier, read from its state folder: the host's keys and the replay table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from ..._fast._check import ProofKeys, ReplayTable, TableError
from ...errors import SessauthError
from .proof_keys import HostProofKeys, keys_path, replay_path

_Identity = tuple[int, ...]
_NOTHING: Final[_Identity] = ()


class TakesProofs(Protocol):
    """A checker with proof keys."""

    proofs: ProofKeys | None


class ProofReader:
    """Gives a checker the proof keys of a state folder, and follows their rotation.

    Nothing here raises: without keys a verifier only denies bound tokens (``PROOF_UNAVAILABLE``).
    """

    __slots__ = ("_checker", "_loaded", "_on_problem", "_state_dir", "problem")

    problem: str
    """The reason why the checker has no proof keys; empty if it has."""

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        checker: TakesProofs,
        on_problem: Callable[[str], object] | None = None,
    ) -> None:
        """Give ``checker`` the folder's current keys; each new problem calls ``on_problem``."""
        self._state_dir = Path(state_dir)
        self._checker = checker
        self._on_problem = on_problem
        self._loaded: _Identity = _NOTHING
        self.problem = ""
        self.refresh()

    def refresh(self) -> None:
        """Load the files if they were replaced. Two stat calls if they were not."""
        try:
            # Taken before the files are read: if they are replaced in between, the next identity differs.
            current = _identity(self._state_dir)
            if current == self._loaded:
                return
            self._checker.proofs = self._load()
            self._loaded, self.problem = current, ""
        except (OSError, ValueError, SessauthError, TableError) as error:
            self._checker.proofs = None
            problem, self._loaded = str(error), _NOTHING
            if self._on_problem is not None and problem != self.problem:
                self._on_problem(problem)
            self.problem = problem

    def close(self) -> None:
        """Remove the keys from the checker."""
        self._checker.proofs = None
        self._loaded, self.problem = _NOTHING, "closed"

    def _load(self) -> ProofKeys:
        host = HostProofKeys.read(self._state_dir)
        table = ReplayTable.open(replay_path(self._state_dir))
        keys = [(key.public_key, key.secret, key.not_before_ms, key.expires_at_ms) for key in host.keys]
        return ProofKeys(host.verifier_id, keys, table)


def _identity(state_dir: Path) -> _Identity:
    """Return the identities of the two files under their names."""
    keys, replay = keys_path(state_dir).stat(), replay_path(state_dir).stat()
    # A change of the mode counts too. The times of the replay table move with its content.
    return keys.st_dev, keys.st_ino, keys.st_ctime_ns, replay.st_dev, replay.st_ino, replay.st_size
