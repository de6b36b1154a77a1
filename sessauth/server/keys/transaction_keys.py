"""The host's keys of transaction tokens: private halves in ``keys/transactions/``, never in the log.

A key is in ``<time at which it was made, in ms>.pem``, so that a listing of the folder says which one signs.
Its public half is known for a day before it signs, and for a day after, if an older key can sign meanwhile.
A key whose file was removed signs nothing from the next poll on.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ..._fast.codec import base64url
from ...crypto.keys import MessageKey, public_jwk
from ...crypto.pem import sync_path
from ...errors import KeyFolderError
from ..log import event
from ..sections import TRANSACTION_KEY_SHOWN_MS
from ..status import refused

ALGORITHM: Final = "EdDSA"
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
        return {**jwk, "alg": ALGORITHM}


class TransactionKeys:
    """Makes, rotates and reads the keys in ``folder``. The control process has one; any thread may sign."""

    def __init__(self, folder: Path, lifetime_ms: int, now_ms: Callable[[], int]) -> None:
        """Use ``folder``, which is made by the first poll. ``now_ms`` may raise StateError."""
        self._folder = folder
        self._lifetime_ms = lifetime_ms
        self._now_ms = now_ms
        self._lock = threading.Lock()
        # By the time at which they were made, the oldest first.
        self._keys: dict[int, TransactionKey] = {}

    def poll(self) -> None:
        """Read the folder, make a key that is due and remove one that is over; called once a second.

        Raises KeyFolderError for a folder or a file that others can read, or that can't be read or written,
        StateError while the wall clock is suspect. The known keys sign on then.
        """
        now_ms = self._now_ms()
        try:
            # A host that follows has no folder of keys yet.
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.stat().st_mode & 0o077:
                raise KeyFolderError(
                    f"{self._folder}: must be a folder with mode 0700; run: chmod 700 {self._folder}"
                )
            names = {int(file.stem): file for file in self._folder.glob("*.pem") if file.stem.isdecimal()}
        except OSError as error:
            raise KeyFolderError(f"{self._folder}: {error.strerror}") from error
        known = self._keys
        keys = {made: known.get(made) or TransactionKey.load(names[made]) for made in sorted(names)}
        if not keys or now_ms - max(keys) >= self._lifetime_ms:
            keys[now_ms] = key = TransactionKey.generate()
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
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.public_jwk()["kid"]}
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

    def _signer(self) -> TransactionKey:
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
