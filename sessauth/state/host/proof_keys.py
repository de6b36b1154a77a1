"""The secrets that the verifiers of a host share: the X25519 keys that bound tokens are proven for.

They lie in ``proof/keys`` of the state folder, made and rotated by the control process, read by every
verifier of the host: whoever is in the folder's group can read them (docs/threat-model.md). The file is
replaced as a whole, never changed. It names the incarnation of the state that it was made for, so that a
restored folder gets new ones.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from ... import limits
from ..._fast.crypto import ed25519
from ..._fast.token import proof as _kernel
from ...errors import StateUnusable
from .. import layout
from .folder import make_folder, replace_file

FILE_FORMAT: Final = 1
_MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, repr=False)
class HostProofKey:
    """One X25519 key of a host, 32 bytes each half, and when it counts, in ms since 1970."""

    secret: bytes
    public_key: bytes
    not_before_ms: int
    expires_at_ms: int

    @classmethod
    def of(cls, secret: bytes, not_before_ms: int, expires_at_ms: int) -> Self:
        """Return the key of a secret; the public half is derived from it."""
        return cls(secret, _kernel.x25519_public(secret), not_before_ms, expires_at_ms)

    @property
    def key_id(self) -> bytes:
        """What proofs name it by: BLAKE2b-256 of the public key."""
        return ed25519.digest(self.public_key)

    def counts(self, now_ms: int) -> bool:
        """Whether proofs for it are accepted at ``now_ms``."""
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
    def made(cls, incarnation: bytes, now_ms: int, lifetime_ms: int) -> Self:
        """Return a new host's keys: one, that counts from ``now_ms`` on."""
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
            # What was read is not repeated: it may be half a secret.
            message = (
                f"{path} is not what the server wrote; remove it and restart the server, which makes new keys"
            )
            raise StateUnusable(message, "CORRUPT") from None

    def write(self, state_dir: Path) -> None:
        """Put ``proof/keys`` in place, whole or not at all; the folder is made if there is none."""
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
        """Return the keys as they should be at ``now_ms``: these very ones while the newest is young.

        A key counts for ``lifetime_ms``. Once the newest has half of it behind it, a new one is made and the
        newest stays as the one before: so a proof that was made for it still counts for half a lifetime.
        """
        # A key of the far future is from a wrong clock: it would keep all others away until then.
        kept = [
            key
            for key in self.keys
            if now_ms < key.expires_at_ms and key.not_before_ms <= now_ms + limits.CLOCK_STEP_MS
        ]
        if kept and now_ms < kept[0].not_before_ms + lifetime_ms // 2:
            return self
        # Every verifier of the host has read the file before anybody can prove for the new key.
        starts_ms = now_ms + layout.PROOF_KEY_LEAD_MS if kept else now_ms
        keys = (_new_key(starts_ms, lifetime_ms), *kept[:1])
        return type(self)(self.incarnation, self.verifier_id, keys)

    def counting(self, now_ms: int) -> tuple[HostProofKey, ...]:
        """Return the keys that count at ``now_ms``, the newest first."""
        return tuple(key for key in self.keys if key.counts(now_ms))


def keys_path(state_dir: Path) -> Path:
    """Return where the secrets lie."""
    return state_dir / layout.PROOF_DIR / layout.PROOF_KEYS_FILE


def replay_path(state_dir: Path) -> Path:
    """Return where the used proofs are noted."""
    return state_dir / layout.PROOF_DIR / layout.REPLAY_FILE


def _new_key(starts_ms: int, lifetime_ms: int) -> HostProofKey:
    return HostProofKey.of(os.urandom(32), starts_ms, starts_ms + lifetime_ms)


def _read_shared(path: Path) -> bytes:
    """Read a file that nobody but its owner and group can open; judged on the open file."""
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
