"""Verifier keys: the X25519 keys of a host that holders make proofs for, vouched for by an issuer key.

A proof is made for one key of one host. A holder refuses a key that no trusted issuer key signed, so that it
proves nothing for a host that is not the service's. docs/token-format.md, section 9.9. The secret halves are
the host's (``state/host/proof_keys.py``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..clock import SystemClock
from ..errors import UsageError
from ..limits import PROOF_WINDOW_MS
from .issuer_key import IssuerKey, IssuerKeys, load_trusted_keys

LABEL: Final = b"sessauth/verifier-key/v1\x00"
# A key is left this long before it ends, so that a proof made with it still arrives in time.
LEAVE_MS: Final = PROOF_WINDOW_MS

_FORMAT: Final = 1
_SIZES: Final = {"verifier_id": 16, "public_key": 32, "cluster_id": 16}


@dataclass(frozen=True, slots=True)
class VerifierKey(Record):
    """The public half of a host's key, 32 bytes, and when it counts, in ms since 1970.

    ``verifier_id`` names the host's verifiers and ``cluster_id`` the state that they use, 16 bytes each.
    """

    verifier_id: bytes
    public_key: bytes
    not_before_ms: int
    expires_at_ms: int
    cluster_id: bytes

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read an encoded VerifierKey.

        Raises:
            UsageError: if it is not canonical, or a part has another size.
        """
        try:
            record = kernel.decode_message("VerifierKey", payload)
        except kernel.WireError as error:
            raise UsageError(f"not a verifier key: {error}") from None
        for name, size in _SIZES.items():
            if len(record[name]) != size:
                raise UsageError(f"not a verifier key: {name} is {size} bytes, not {len(record[name])}")
        return cls(**record)

    @property
    def key_id(self) -> bytes:
        """The id that proofs name it by: BLAKE2b-256 of the public key."""
        return kernel.digest(self.public_key)

    def signed_by(self, issuer: IssuerKey) -> SignedVerifierKey:
        """Return this key, vouched for by an issuer key."""
        payload = self.encode()
        return SignedVerifierKey(payload, issuer.key_id, issuer.sign(LABEL + payload))


@dataclass(frozen=True, slots=True)
class SignedVerifierKey:
    """An encoded VerifierKey, and the 64-byte signature of an issuer key over label and payload."""

    payload: bytes
    issuer_key_id: bytes
    signature: bytes

    def verified(self, issuers: Mapping[bytes, bytes]) -> VerifierKey:
        """Return the key, if one of ``issuers`` (public keys by key id) signed it.

        Raises:
            UsageError: if the issuer is not one of them, the signature is wrong, or the payload is no
                VerifierKey. Nothing of it may be used then.
        """
        public_key = issuers.get(self.issuer_key_id)
        if public_key is None:
            raise UsageError(
                f"the verifier key is signed by issuer key {self.issuer_key_id.hex()}, which is none of "
                "those given: it belongs to another cluster, or issuer_keys= is out of date"
            )
        if not kernel.verify(public_key, LABEL + self.payload, self.signature):
            raise UsageError("the signature of the verifier key is wrong: don't prove anything for it")
        return VerifierKey.decode(self.payload)


class VerifierKeys:
    """The keys of one host that were verified, the newest first."""

    __slots__ = ("_keys", "_signed")

    def __init__(
        self,
        signed: Iterable[SignedVerifierKey],
        issuer_keys: IssuerKeys,
        *,
        now_ms: int,
        cluster_id: bytes = b"",
    ) -> None:
        """Take those of ``signed`` that count at ``now_ms``; the server lists the newest first.

        Args:
            signed: the keys that the server sent.
            issuer_keys: the cluster's issuer keys that the caller trusts.
            now_ms: the holder's time, in ms since 1970.
            cluster_id: the cluster that the host must be of, 16 bytes; empty: of any one.

        Raises:
            UsageError: if a key is not signed by one of ``issuer_keys``, is wrongly signed, is of another
                cluster or host than the others, or none of them counts now.
        """
        issuers = load_trusted_keys(issuer_keys)
        given = tuple(signed)
        keys = [key.verified(issuers) for key in given]
        for key in keys:
            if key.cluster_id != (cluster_id or keys[0].cluster_id):
                raise UsageError(f"the verifier key belongs to another cluster, {key.cluster_id.hex()}")
            if key.verifier_id != keys[0].verifier_id:
                raise UsageError("the verifier keys belong to several hosts: a server answers for its own")
        self._keys = tuple(key for key in keys if _counts(key, now_ms))
        self._signed = tuple(each for each, key in zip(given, keys, strict=True) if _counts(key, now_ms))
        if not self._keys:
            cause = "all are over" if keys else "the server has none"
            raise UsageError(f"no verifier key counts now, {cause}: set the clocks of holder and server")

    @classmethod
    def from_json(
        cls, text: str | bytes, issuer_keys: IssuerKeys, *, now_ms: int = -1, cluster_id: bytes = b""
    ) -> Self:
        """Read the text of :meth:`to_json`; verifies it as the constructor does. ``now_ms`` -1: the clock's.

        Raises:
            UsageError: if it is something else, and as the constructor.
        """
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise UsageError(f"verifier keys of format {data['format']!r}: this version reads {_FORMAT}")
            signed = [
                SignedVerifierKey(*(bytes.fromhex(each[name]) for name in SignedVerifierKey.__slots__))
                for each in data["verifier_keys"]
            ]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"not verifier keys written by to_json(): {type(error).__name__}") from None
        time_ms = now_ms if now_ms >= 0 else SystemClock().now_ms()
        return cls(signed, issuer_keys, now_ms=time_ms, cluster_id=cluster_id)

    @classmethod
    def load(cls, path: str | os.PathLike[str], issuer_keys: IssuerKeys) -> Self:
        """Read a file with the text of :meth:`to_json`, which is no secret.

        Raises:
            UsageError: as :meth:`from_json`, and for a file that can't be read.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"verifier keys: can't read {os.fspath(path)}: {error.strerror}") from None
        return cls.from_json(text, issuer_keys)

    def to_json(self) -> str:
        """Return the keys with their signatures as JSON, to be handed over with a token. No secret is in it.

        The holder reads it with :meth:`from_json` and the issuer keys that it trusts.
        """
        keys = [{name: getattr(each, name).hex() for name in each.__slots__} for each in self._signed]
        return json.dumps({"format": _FORMAT, "verifier_keys": keys}) + "\n"

    @property
    def verifier_id(self) -> bytes:
        """The id of the host's verifiers, 16 bytes."""
        return self._keys[0].verifier_id

    def current(self, now_ms: int) -> VerifierKey | None:
        """Return the newest key if it counts at ``now_ms`` and for a while; None: ask for the keys again."""
        newest = self._keys[0]
        return newest if _counts(newest, now_ms + LEAVE_MS) else None

    def __iter__(self) -> Iterator[VerifierKey]:
        """Iterate over the keys, the newest first."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._keys)

    def __repr__(self) -> str:
        """Name host and keys."""
        keys = ", ".join(key.key_id.hex() for key in self._keys)
        return f"<VerifierKeys of {self.verifier_id.hex()}: {keys}>"


def _counts(key: VerifierKey, now_ms: int) -> bool:
    # The holder's clock may be behind the host's by as much as a proof's time may.
    return key.not_before_ms - PROOF_WINDOW_MS <= now_ms < key.expires_at_ms
