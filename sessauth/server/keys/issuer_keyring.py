"""The service's own issuer keys: private halves in ``keys/``, read by the control process alone.

A key is in ``<key id in hex>.pem``. The state decides which keys count: one that it does not list signs
nothing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from ...crypto.issuer_key import IssuerKey, KeyRecord, KeyStatus
from ...crypto.pem import sync_path
from ...errors import KeyFolderError, NotLeader


class KeyRing:
    """Finds and makes private keys, and caches them."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``. Raises KeyFolderError unless it is a folder that only its owner can open."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[bytes, IssuerKey] = {}
        try:
            mode = folder.stat().st_mode
        except OSError as error:
            raise KeyFolderError(
                f"{folder}: {error.strerror}; run 'sessauth init', or name another home folder "
                "(--home, SESSAUTH_HOME)"
            ) from error
        if not folder.is_dir() or mode & 0o077:
            raise KeyFolderError(f"{folder}: must be a folder with mode 0700; run: chmod 700 {folder}")

    def find(self, key_id: bytes) -> IssuerKey | None:
        """Return the private key of an id, or None if it is not in the folder.

        Raises KeyFolderError if its file is readable by others or holds another key.
        """
        with self._lock:
            known = self._known.get(key_id)
            if known is not None:
                return known
            file = self._folder / f"{key_id.hex()}.pem"
            if not file.exists():
                return None
            key = IssuerKey.load(file)
            if key.key_id != key_id:
                raise KeyFolderError(f"{file}: holds another key than its name says")
            self._known[key_id] = key
            return key

    def newest_active(self, keys: Iterable[KeyRecord], allowed: Iterable[bytes] = ()) -> IssuerKey | None:
        """Return the service's newest active key in the folder; of ``allowed`` ids only, if there are any."""
        permitted = frozenset(allowed)
        usable = [
            key
            for key in keys
            if key.status == KeyStatus.ACTIVE and not key.owner and (not permitted or key.id in permitted)
        ]
        for record in sorted(usable, key=lambda key: (key.activated_at_ms, key.revision), reverse=True):
            found = self.find(record.id)
            if found is not None:
                return found
        return None

    def problem(self, keys: Iterable[KeyRecord]) -> str:
        """Return why this process can sign nothing for the service; empty if it can."""
        return "" if self.newest_active(keys) is not None else f"no active issuer key is in {self._folder}"

    def make(self, request_id: str) -> IssuerKey:
        """Make a key pair and save it; the same request id gives the same key again.

        The file is durable before the key is submitted to the state: no crash can lose the private half of a
        key that the state lists.
        """
        mark = self._folder / f"request-{hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()}"
        with self._lock:
            if mark.is_symlink():
                return IssuerKey.load(self._folder / mark.readlink())
            key = IssuerKey.generate()
            name = f"{key.key_id.hex()}.pem"
            key.save(self._folder / name)
            mark.symlink_to(name)
            sync_path(self._folder)
            return key


class NoKeyRing(KeyRing):
    """The key ring of a host without issuer keys: any work that needs one is requested from a server."""

    def __init__(self, refusal: Callable[[], NotLeader]) -> None:
        """Raise ``refusal()`` wherever a private key is needed."""
        self._refusal = refusal

    def find(self, key_id: bytes) -> IssuerKey | None:
        """Raise NotLeader."""
        raise self._refusal()

    def newest_active(self, keys: Iterable[KeyRecord], allowed: Iterable[bytes] = ()) -> IssuerKey | None:
        """Raise NotLeader."""
        raise self._refusal()

    def problem(self, keys: Iterable[KeyRecord]) -> str:
        """Return an empty string: servers sign."""
        return ""

    def make(self, request_id: str) -> IssuerKey:
        """Raise NotLeader."""
        raise self._refusal()
