"""The keys of a transmitter, and the security event tokens (RFC 8417) that they sign.

``keys/signing.pem`` signs; all ``keys/*.pem`` are published. So a key is replaced by renaming it and starting
again: the next one is made, and what the former one signed can still be verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ...errors import ConfigError
from ...state.host.folder import make_folder, read_file, replace_file

SIGNING_KEY: Final = "signing.pem"
KEY_BITS: Final = 2048
MAX_KEYS: Final = 8
_ALGORITHM: Final = "RS256"


class SigningKeys:
    """The RSA keys of a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the keys; makes the one that signs if there is none. Raises ConfigError."""
        if find_spec("joserfc") is None:
            raise ConfigError("transmit-events: needs joserfc; pip install 'sessauth[identity]'")
        from joserfc.jwk import RSAKey

        try:
            make_folder(folder, 0o700)
            path = folder / SIGNING_KEY
            if not path.exists():
                made = RSAKey.generate_key(KEY_BITS)
                replace_file(path, made.as_pem(private=True), 0o600)
            files = sorted(folder.glob("*.pem"))
            if len(files) > MAX_KEYS:
                raise ConfigError(f"dir: {folder} has more than {MAX_KEYS} keys; remove old ones")
            keys = {file.name: RSAKey.import_key(read_file(file, 65_536)) for file in files}
        except OSError as error:
            raise ConfigError(f"dir: {folder}: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"dir: {folder} has a file that is no RSA key: {error}") from None
        self._key = keys[SIGNING_KEY]
        if not self._key.is_private:
            raise ConfigError(f"dir: {path} is no private key")
        self._kid = self._key.thumbprint()
        self.published: dict[str, Any] = {
            "keys": [
                {
                    **{name: key.as_dict(private=False)[name] for name in ("kty", "n", "e")},
                    "kid": key.thumbprint(),
                    "use": "sig",
                    "alg": _ALGORITHM,
                }
                for key in keys.values()
            ]
        }

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a signed security event token."""
        from joserfc import jwt

        header = {"typ": "secevent+jwt", "alg": _ALGORITHM, "kid": self._kid}
        return jwt.encode(header, dict(claims), self._key, algorithms=[_ALGORITHM])
