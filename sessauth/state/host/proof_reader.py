"""What a verifier needs for proofs, from the folder of its state: the host's keys and the replay table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from ..._fast.nonces.table import ReplayTable, TableError
from ..._fast.token.proof import ProofKeys
from ...errors import SessauthError
from .proof_keys import HostProofKeys, keys_path, replay_path

_Identity = tuple[int, ...]
_NOTHING: Final[_Identity] = ()


class TakesProofs(Protocol):
    """A checker, as far as proofs go."""

    proofs: ProofKeys | None


class ProofReader:
    """Keeps a checker's proof keys those of a state folder; without them bound tokens are denied there.

    Nothing here raises: a verifier works without, but for bound tokens (``PROOF_UNAVAILABLE``).
    """

    __slots__ = ("_checker", "_seen", "_state_dir", "_tell", "problem")

    problem: str
    """Why the checker has no proof keys; empty if it has."""

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        checker: TakesProofs,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        """Give ``checker`` what the folder has now; ``tell`` hears each new problem."""
        self._state_dir = Path(state_dir)
        self._checker = checker
        self._tell = tell
        self._seen: _Identity = _NOTHING
        self.problem = ""
        self.refresh()

    def refresh(self) -> None:
        """Look whether the files were replaced, and take the new ones. Two stat calls if they were not."""
        try:
            # Taken before the files are read: if they are replaced in between, the next look differs.
            found = _identity(self._state_dir)
            if found == self._seen:
                return
            self._checker.proofs = self._load()
            self._seen, self.problem = found, ""
        except (OSError, ValueError, SessauthError, TableError) as error:
            self._checker.proofs = None
            problem, self._seen = str(error), _NOTHING
            if self._tell is not None and problem != self.problem:
                self._tell(problem)
            self.problem = problem

    def close(self) -> None:
        """Take the keys away from the checker."""
        self._checker.proofs = None
        self._seen, self.problem = _NOTHING, "closed"

    def _load(self) -> ProofKeys:
        host = HostProofKeys.read(self._state_dir)
        table = ReplayTable.open(replay_path(self._state_dir))
        keys = [(key.public_key, key.secret, key.not_before_ms, key.expires_at_ms) for key in host.keys]
        return ProofKeys(host.verifier_id, keys, table)


def _identity(state_dir: Path) -> _Identity:
    """Return what tells these two files from others under their names."""
    keys, replay = keys_path(state_dir).stat(), replay_path(state_dir).stat()
    # A change of the mode counts too. The times of the replay table move with its content.
    return keys.st_dev, keys.st_ino, keys.st_ctime_ns, replay.st_dev, replay.st_ino, replay.st_size
