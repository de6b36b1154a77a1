"""The holder of bound tokens: proves each call, and alone can narrow a token that is bound to it.

    key = HolderKey.generate()
    ...                                   # the issuer is given key.public.text
    proof = key.prove(token, "read", "files/a", b"{}", verifier_key)

A bound token that is stolen is worth nothing without the key. See docs/token-format.md, section 9.9.
"""

from __future__ import annotations

import os
import secrets
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn

from .. import limits
from .._fast import _check as kernel
from ..clock import Clock, SystemClock
from ..crypto import pem
from ..crypto.keys import HolderPublicKey, VerifierKey
from ..errors import UsageError
from ..scopes.value import Arguments, encode, text_bytes
from .token import Binding, Token


class ProofKind(IntEnum):
    """The kind of a proof; the numbers of ``token.proto``."""

    ED25519 = 1
    MAC = 2


# A host has two keys at most, and a holder few hosts.
MAX_AGREEMENTS: Final = 64
_NONCE_BYTES: Final = 16
_SECRET_BYTES: Final = 32


class HolderKey:
    """An Ed25519 key and an X25519 key, both random. The public halves are always derived from the secrets.

    Safe to share between threads.
    """

    __slots__ = ("_agreed", "_proof_secret", "_seed", "public")

    public: HolderPublicKey
    """The keys that a token is bound to; their text is no secret."""

    def __init__(self, seed: bytes, proof_secret: bytes) -> None:
        """Take the 32-byte seed of an Ed25519 key and the 32-byte secret of an X25519 key.

        Raises:
            UsageError: if one has another length, or the two are the same.
        """
        for secret in (seed, proof_secret):
            if not isinstance(secret, bytes) or len(secret) != _SECRET_BYTES:
                raise UsageError("a holder's key is two secrets of 32 bytes: make one with generate()")
        if seed == proof_secret:
            raise UsageError("the two secrets of a holder's key are separate ones: make them with generate()")
        self._seed = seed
        self._proof_secret = proof_secret
        self.public = HolderPublicKey(kernel.public_key(seed), kernel.x25519_public(proof_secret))
        self._agreed: dict[tuple[bytes, bytes], bytes] = {}

    @classmethod
    def generate(cls) -> HolderKey:
        """Return a new key from the system's random source."""
        return cls(kernel.generate_seed(), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HolderKey:
        """Read a key file.

        Raises:
            KeyFolderError: if it is missing, no plain file, open to its group or to others, or holds
                anything but an Ed25519 and an X25519 key in PKCS#8 PEM, unencrypted.
        """
        make = "make one with 'sessauth holder-key new'"
        return cls(*pem.load_secrets(Path(path), pem.ED25519, pem.X25519, make=make))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a new key file with mode 0600 and wait until it is on the disk.

        Raises:
            KeyFolderError: if the file exists (it is never overwritten) or can't be written.
        """
        pairs = ((pem.ED25519, self._seed), (pem.X25519, self._proof_secret))
        pem.save_secrets(Path(path), *pairs)

    def holds(self, token: Token) -> bool:
        """Return True if a token is bound to this key."""
        return token.binding is not None and token.binding.next_key == self.public.next_key

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message`` by the Ed25519 key."""
        return kernel.sign(self._seed, message)

    def prove(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments,
        verifier_key: VerifierKey,
        *,
        kind: str = "",
        now_ms: int = -1,
        clock: Clock | None = None,
    ) -> bytes:
        """Return a proof, encoded, that this call of ``token`` is made by the holder of this key.

        A proof counts once, for 30 s, for these bytes of action, resource and arguments, on one host.

        Args:
            token: the bound token, as it is presented.
            action: as it will be checked.
            resource: as it will be checked.
            arguments: as they will be checked, in any form of :mod:`sessauth.scopes.value`.
            verifier_key: the key of the checking host, verified: ``VerifierKeys.current``.
            kind: ``mac``, a fraction of a signature's cost; ``ed25519``, a signature. Default: ``mac``
                where the token names this key's ``proof_key``, else ``ed25519``.
            now_ms: the time of the call, in ms since 1970; -1 reads ``clock``.
            clock: the source of the time; default: the machine's.

        Raises:
            MalformedToken: if ``token`` is none.
            UsageError: if it is not bound to this key, ``kind`` is none, or can't be made for this token; for
                values of ``arguments`` that JSON can't express.
        """
        binding = (token if isinstance(token, Token) else Token.parse(token)).binding
        if binding is None:
            raise UsageError("token: is not bound, so it needs no proof")
        if binding.next_key != self.public.next_key:
            raise UsageError("token: is bound to another holder's key")
        number = self._kind(kind, binding)
        time_ms = now_ms if now_ms >= 0 else (clock or SystemClock()).now_ms()
        if not 0 <= time_ms <= limits.MAX_TIME_MS:
            raise UsageError("now_ms: is beyond the range of the format")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        key_id = verifier_key.key_id
        digest = kernel.request_digest(text_bytes(action), text_bytes(resource), encode(arguments))
        proven = kernel.covered_bytes(
            number, binding.signature, verifier_key.verifier_id, key_id, digest, time_ms, nonce
        )
        if number is ProofKind.MAC:
            tag = kernel.mac(self._agree(verifier_key, key_id), proven)
        else:
            tag = self.sign(proven)
        return kernel.encode_message(
            "Proof",
            {
                "kind": number,
                "verifier_id": verifier_key.verifier_id,
                "key_id": key_id,
                "time_ms": time_ms,
                "nonce": nonce,
                "tag": tag,
            },
        )

    def _kind(self, kind: str, binding: Binding) -> ProofKind:
        can_mac = binding.proof_key == self.public.proof_key
        match kind:
            case "":
                return ProofKind.MAC if can_mac else ProofKind.ED25519
            case "ed25519":
                return ProofKind.ED25519
            case "mac" if can_mac:
                return ProofKind.MAC
            case "mac":
                raise UsageError(
                    "kind: 'mac' needs a token that names this holder's proof_key; use 'ed25519'"
                )
        raise UsageError(f"kind: is 'mac' or 'ed25519', not {kind!r}")

    def _agree(self, verifier_key: VerifierKey, key_id: bytes) -> bytes:
        """Return the key of the MACs for a host's key: agreed once, since it costs as much as a signature."""
        name = (verifier_key.verifier_id, key_id)
        agreed = self._agreed.get(name)
        if agreed is None:
            try:
                agreed = kernel.mac_key_of_holder(
                    self._proof_secret,
                    verifier_key.public_key,
                    self.public.next_key,
                    verifier_key.verifier_id,
                )
            except ValueError as error:
                raise UsageError(f"verifier_key: {error}") from None
            if len(self._agreed) >= MAX_AGREEMENTS:
                self._agreed.clear()
            self._agreed[name] = agreed
        return agreed

    def __repr__(self) -> str:
        """Show the public half, never a secret."""
        return f"<HolderKey {self.public.next_key.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a secret leaves only through :meth:`save`."""
        raise TypeError("a HolderKey is not pickled; save() it to a file")
