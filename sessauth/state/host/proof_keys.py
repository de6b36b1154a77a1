"""The secrets that the verifiers of a host share: the X25519 keys for proofs of bound tokens.

They are in ``proof/keys`` of the state folder. The control process creates and rotates them, and every
verifier of the host reads them. The folder's group has access (docs/threat-model.md). The file is replaced as
a whole, never changed. It states the incarnation of its state, so that a restored folder gets new keys.

A verifier reads them with the host's replay table.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from ... import limits
from ..._fast import _check as kernel
from ..._fast._check import ProofKeys, ReplayTable, TableError
from ...errors import SessauthError, StateUnusable
from .. import layout
from .folder import make_folder, replace_file

FILE_FORMAT: Final = 1
_MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, repr=False)
class HostProofKey:
    """One X25519 key of a host, 32 bytes each half, and its validity in ms since 1970."""

    secret: bytes
    public_key: bytes
    not_before_ms: int
    expires_at_ms: int

    @classmethod
    def of(cls, secret: bytes, not_before_ms: int, expires_at_ms: int) -> Self:
        """Return the key of a secret, from which the public half is derived."""
        return cls(secret, kernel.x25519_public(secret), not_before_ms, expires_at_ms)

    @property
    def key_id(self) -> bytes:
        """The id that proofs name: BLAKE2b-256 of the public key."""
        return kernel.digest(self.public_key)

    def counts(self, now_ms: int) -> bool:
        """Return True if proofs for it are accepted at ``now_ms``."""
        return self.not_before_ms <= now_ms < self.expires_at_ms

    def __repr__(self) -> str:
        """Show the id, never the secret."""
        return f"<HostProofKey {self.key_id.hex()}>"


@dataclass(frozen=True, slots=True)
class HostProofKeys:
    """The keys of a host, the newest first; ids of its verifiers and of the incarnation, 16 bytes each."""

    incarnation: bytes
    verifier_id: bytes
    keys: tuple[HostProofKey, ...]

    @classmethod
    def generate(cls, incarnation: bytes, now_ms: int, lifetime_ms: int) -> Self:
        """Return a new host's keys: a single one, valid from ``now_ms`` on."""
        return cls(incarnation, os.urandom(16), (_new_key(now_ms, lifetime_ms),))

    @classmethod
    def read(cls, state_dir: Path) -> Self:
        """Read ``proof/keys``.

        Raises:
            StateUnusable: MISSING, WRONG_MODE (others may read it, or this user may not), FOREIGN or CORRUPT.
        """
        path = keys_path(state_dir)
        data = _read_shared(path)
        try:
            raw: dict[str, Any] = json.loads(data)
            if raw["format"] != FILE_FORMAT:
                raise ValueError(f"format {raw['format']!r}")
            keys = tuple(
                HostProofKey.of(
                    _hex(each["secret"], 32), _ms(each["not_before_ms"]), _ms(each["expires_at_ms"])
                )
                for each in raw["keys"]
            )
            if not 1 <= len(keys) <= 2:
                raise ValueError(f"{len(keys)} keys")
            return cls(_hex(raw["incarnation"], 16), _hex(raw["verifier_id"], 16), keys)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # The message does not repeat the content, which may be half a secret.
            message = (
                f"{path} was not written by the server; remove it and restart the server to make new keys"
            )
            raise StateUnusable(message, "CORRUPT") from None

    def write(self, state_dir: Path) -> None:
        """Write ``proof/keys`` atomically; creates the folder if it is missing."""
        make_folder(state_dir / layout.PROOF_DIR, layout.DIR_MODE)
        document = {
            "format": FILE_FORMAT,
            "incarnation": self.incarnation.hex(),
            "verifier_id": self.verifier_id.hex(),
            "keys": [
                {
                    "secret": key.secret.hex(),
                    "not_before_ms": key.not_before_ms,
                    "expires_at_ms": key.expires_at_ms,
                }
                for key in self.keys
            ],
        }
        replace_file(keys_path(state_dir), json.dumps(document).encode() + b"\n", layout.DATA_MODE)

    def rotated(self, now_ms: int, lifetime_ms: int) -> Self:
        """Return the keys for ``now_ms``: the same while the newest is in the first half of its life.

        A key is valid for ``lifetime_ms``. After half of it a new key is added and the newest becomes the
        previous one. So a proof for it stays valid for half a lifetime.
        """
        # A key of the far future comes from a wrong clock, and would block rotation until then.
        valid = [
            key
            for key in self.keys
            if now_ms < key.expires_at_ms and key.not_before_ms <= now_ms + limits.CLOCK_STEP_MS
        ]
        if valid and now_ms < valid[0].not_before_ms + lifetime_ms // 2:
            return self
        # All verifiers of the host read the file before a holder can make a proof for the new key.
        starts_ms = now_ms + layout.PROOF_KEY_LEAD_MS if valid else now_ms
        keys = (_new_key(starts_ms, lifetime_ms), *valid[:1])
        return type(self)(self.incarnation, self.verifier_id, keys)

    def counting(self, now_ms: int) -> tuple[HostProofKey, ...]:
        """Return the keys that are valid at ``now_ms``, the newest first."""
        return tuple(key for key in self.keys if key.counts(now_ms))


def keys_path(state_dir: Path) -> Path:
    """Return the path of the secrets."""
    return state_dir / layout.PROOF_DIR / layout.PROOF_KEYS_FILE


def replay_path(state_dir: Path) -> Path:
    """Return the path of the table of used proofs."""
    return state_dir / layout.PROOF_DIR / layout.REPLAY_FILE


def _new_key(starts_ms: int, lifetime_ms: int) -> HostProofKey:
    return HostProofKey.of(os.urandom(32), starts_ms, starts_ms + lifetime_ms)


def _read_shared(path: Path) -> bytes:
    """Read a file that only its owner and group may open; checks the open file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise StateUnusable(f"{path} is missing; start the server once on this folder", "MISSING") from None
    except PermissionError:
        message = f"{path} can't be read; add this user to the folder's group"
        raise StateUnusable(message, "WRONG_MODE") from None
    except OSError as error:
        raise StateUnusable(f"{path} can't be read ({error.strerror}); remove it", "CORRUPT") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StateUnusable(f"{path} is not a regular file; remove it", "FOREIGN")
        if status.st_mode & 0o027:
            mode = stat.S_IMODE(status.st_mode)
            raise StateUnusable(f"{path} has mode {mode:04o}; run chmod 0640 {path}", "WRONG_MODE")
        return os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def _hex(text: str, size: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != size:
        raise ValueError(f"{size} bytes")
    return data


def _ms(value: int) -> int:
    if type(value) is not int or not 0 <= value <= limits.MAX_TIME_MS:
        raise ValueError("a time")
    return value


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
