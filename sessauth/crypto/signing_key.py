"""The base of keys that sign: an Ed25519 secret, in a file that its owner alone can read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, NoReturn, Self

from .._fast import _check as kernel
from ..errors import UsageError
from . import pem


class SigningKey:
    """An Ed25519 key. Its public half is always derived from the secret."""

    __slots__ = ("_seed", "public_key")

    made_by: ClassVar[str]
    """The command that makes a key file, for messages."""
    public_key: bytes
    """32 bytes."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of RFC 8032.

        Raises:
            UsageError: if it has another length.
        """
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise UsageError("the seed of an Ed25519 key is 32 bytes")
        self._seed = seed
        self.public_key = kernel.public_key(seed)

    @classmethod
    def generate(cls) -> Self:
        """Return a new key from the system's random source."""
        return cls(kernel.generate_seed())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file.

        Raises:
            KeyFolderError: if it is missing, no plain file, open to its group or to others, or holds
                no unencrypted Ed25519 key in PKCS#8 PEM.
        """
        make = f"make one with '{cls.made_by}' or openssl genpkey"
        return cls(*pem.load_secrets(Path(path), pem.ED25519, make=make))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a new key file with mode 0600 and wait until it is on the disk.

        Raises:
            KeyFolderError: if the file exists (it is never overwritten) or can't be written.
        """
        pem.save_secrets(Path(path), (pem.ED25519, self._seed))

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a secret leaves only through :meth:`save`."""
        raise TypeError(f"an {type(self).__name__} is not pickled; save() it to a file")


class MessageKey(SigningKey):
    """A key that signs any bytes, and is named by its id."""

    __slots__ = ("key_id",)

    key_id: bytes
    """BLAKE2b-256 of the public key, 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of RFC 8032. Raises UsageError for another length."""
        super().__init__(seed)
        self.key_id = kernel.digest(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""
        return kernel.sign(self._seed, message)

    def __repr__(self) -> str:
        """Show the key id, never the secret."""
        return f"<{type(self).__name__} {self.key_id.hex()}>"
