"""The host's keys of transaction tokens: private halves in ``transactions/ALGORITHM/`` of the key folder.

A key is in ``<time at which it was made, in ms>.pem``, so that a listing of the folder says which one signs.
Its public half is known for a day before it signs, and for a day after, if an older key can sign meanwhile.
A key whose file was removed signs nothing from the next poll on. Keys of ES256 and RS256 need :mod:`joserfc`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ..._fast.codec import base64url
from ...crypto.keys import MessageKey, public_jwk
from ...crypto.pem import read_private, sync_path, write_private
from ...errors import ConfigError, KeyFolderError
from ..log import event
from ..sections import EDDSA, TRANSACTION_KEY_SHOWN_MS
from ..status import refused

TYPE: Final = "txntoken+jwt"


class TransactionKey(MessageKey):
    """An Ed25519 key that signs transaction tokens and nothing else."""

    __slots__ = ()

    made_by = "remove it; the server makes another"

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key, named by its RFC 7638 thumbprint."""
        jwk = public_jwk(self.public_key)
        # No token of a session names this key.
        del jwk["issuer_key_id"]
        # The name that RFC 8037 gives it, which more libraries know than that of RFC 9864.
        return {**jwk, "alg": EDDSA}


class JoseKey:
    """A key of ES256 (P-256) or RS256 (2,048 bits) that signs transaction tokens and nothing else."""

    __slots__ = ("_algorithm", "_key")

    def __init__(self, algorithm: str, pem: bytes = b"") -> None:
        """Read a private key in PEM, or generate one. Raises ValueError unless it is one of the algorithm."""
        from joserfc.jwk import ECKey, RSAKey

        self._algorithm = algorithm
        self._key: Any
        if algorithm == "ES256":
            self._key = ECKey.import_key(pem) if pem else ECKey.generate_key("P-256")
        else:
            self._key = RSAKey.import_key(pem) if pem else RSAKey.generate_key(RSA_BITS)
        bits = {"ES256": EC_BITS, "RS256": RSA_BITS}[algorithm]
        if not self._key.is_private or self._key.private_key.key_size != bits:
            raise ValueError(f"no private key of {algorithm}, {bits} bits")

    @classmethod
    def load(cls, algorithm: str, path: Path) -> JoseKey:
        """Read a file that only its owner can open. Raises KeyFolderError."""
        data = read_private(path)
        try:
            return cls(algorithm, data)
        except Exception as error:
            # The kinds of errors of joserfc and of OpenSSL are many; none has the key.
            raise KeyFolderError(
                f"{path} holds no {algorithm} private key where one is required: {TransactionKey.made_by}"
            ) from error

    def save(self, path: Path) -> None:
        """Write a new file with mode 0600. Raises KeyFolderError."""
        write_private(path, self._key.as_pem(private=True))

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key, named by its RFC 7638 thumbprint."""
        return {
            **self._key.as_dict(private=False),
            "kid": self._key.thumbprint(),
            "alg": self._algorithm,
            "use": "sig",
        }

    def sign(self, message: bytes) -> bytes:
        """Return the signature of RFC 7518, sections 3.3 and 3.4."""
        from joserfc.jws import JWSRegistry

        signature: bytes = JWSRegistry.algorithms[self._algorithm].sign(message, self._key)
        return signature


EC_BITS: Final = 256
RSA_BITS: Final = 2048


class TransactionKeys:
    """Makes, rotates and reads the keys in ``folder``. The control process has one; any thread may sign."""

    def __init__(self, keys_dir: Path, algorithm: str, lifetime_ms: int, now_ms: Callable[[], int]) -> None:
        """Use a folder in ``keys_dir``, which is made by the first poll. ``now_ms`` may raise StateError.

        Raises ConfigError if the algorithm needs what is not installed.
        """
        if algorithm != EDDSA and find_spec("joserfc") is None:
            raise ConfigError("transaction_tokens.algorithm: needs joserfc; pip install 'sessauth[identity]'")
        self._algorithm = algorithm
        self._folder = keys_dir / "transactions" / algorithm
        self._lifetime_ms = lifetime_ms
        self._now_ms = now_ms
        self._lock = threading.Lock()
        # By the time at which they were made, the oldest first.
        self._keys: dict[int, TransactionKey | JoseKey] = {}

    def poll(self) -> None:
        """Read the folder, make a key that is due and remove one that is over; called once a second.

        Raises KeyFolderError for a folder or a file that others can read, or that can't be read or written,
        StateError while the wall clock is suspect. The known keys sign on then.
        """
        now_ms = self._now_ms()
        try:
            # A host that follows has no folder of keys yet.
            for folder in (self._folder.parent.parent, self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.stat().st_mode & 0o077:
                raise KeyFolderError(
                    f"{self._folder}: must be a folder with mode 0700; run: chmod 700 {self._folder}"
                )
            names = {int(file.stem): file for file in self._folder.glob("*.pem") if file.stem.isdecimal()}
        except OSError as error:
            raise KeyFolderError(f"{self._folder}: {error.strerror}") from error
        known = self._keys
        keys = {made: known.get(made) or self._load(names[made]) for made in sorted(names)}
        if not keys or now_ms - max(keys) >= self._lifetime_ms:
            keys[now_ms] = key = self._generate()
            key.save(self._folder / f"{now_ms}.pem")
            event(logging.INFO, "transaction_key_made", kid=key.public_jwk()["kid"])
        for over in _over(list(keys), now_ms):
            event(logging.INFO, "transaction_key_removed", kid=keys.pop(over).public_jwk()["kid"])
            (self._folder / f"{over}.pem").unlink(missing_ok=True)
            sync_path(self._folder)
        with self._lock:
            self._keys = keys

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a JWT of these claims. Raises NO_TRANSACTION_KEY if no key is here."""
        key = self._signer()
        header = {"alg": self._algorithm, "typ": TYPE, "kid": key.public_jwk()["kid"]}
        signed = ".".join(base64url.encode(_json(part)) for part in (header, claims))
        return f"{signed}.{base64url.encode(key.sign(signed.encode()))}"

    def require(self) -> None:
        """Raise NO_TRANSACTION_KEY if no key is here."""
        self._signer()

    def jwks(self) -> bytes:
        """Return the public halves as a JWK set, the newest first."""
        with self._lock:
            keys = list(self._keys.values())
        return _json({"keys": [key.public_jwk() for key in reversed(keys)]})

    def _load(self, path: Path) -> TransactionKey | JoseKey:
        """Read a key. Raises KeyFolderError."""
        eddsa = self._algorithm == EDDSA
        return TransactionKey.load(path) if eddsa else JoseKey.load(self._algorithm, path)

    def _generate(self) -> TransactionKey | JoseKey:
        return TransactionKey.generate() if self._algorithm == EDDSA else JoseKey(self._algorithm)

    def _signer(self) -> TransactionKey | JoseKey:
        """Return the newest key that was known for long enough, else the oldest."""
        now_ms = self._now_ms()
        with self._lock:
            keys = self._keys
        if not keys:
            raise refused("NO_TRANSACTION_KEY", "no key of transaction tokens is here; the log says why")
        shown = [made for made in keys if now_ms - made >= TRANSACTION_KEY_SHOWN_MS]
        return keys[max(shown) if shown else min(keys)]


def _over(made: list[int], now_ms: int) -> list[int]:
    """Return the keys, in their order, whose successor has signed for a day."""
    return [key for key, later in pairwise(made) if now_ms - later >= 2 * TRANSACTION_KEY_SHOWN_MS]


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
