"""Keys of issuers, hosts and holders.

- A signing key is an Ed25519 secret in a file that only its owner can read.
- An issuer key signs root blocks. Its secret is in its file, its record in the state, and its public key with
  the holders that trust it.
- A verifier key is the X25519 key of a host that holders make proofs for, signed by an issuer key
  (docs/token-format.md, section 9.9). The secret halves are the host's (``state/host/proof_keys.py``).
- A holder's public key is enough to mint a token for it, or to narrow one. The secrets stay where they were
  made (``tokens.prover.HolderKey``).

Python ``bytes`` can be neither locked nor wiped for certain. So a process with an issuer's secret does
nothing else (docs/threat-model.md).

What must never happen: a holder makes a proof for a host whose key no trusted issuer key signed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, Protocol, Self

from .._fast import _check as kernel
from .._fast.codec import base64url
from .._fast.codec.record import Record
from ..clock import SystemClock
from ..errors import MalformedToken, UsageError
from ..limits import PROOF_WINDOW_MS
from . import pem
from .armor import HOLDER_PREFIX, checked_text, read_checked


class SigningKey:
    """An Ed25519 key. Its public half is always derived from the secret."""

    __slots__ = ("_secret", "_seed", "public_key")

    made_by: ClassVar[str]
    """The command that makes a key file, for messages."""
    public_key: bytes
    """32 bytes."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte seed of RFC 8032. Raises UsageError if it has another length."""
        if not isinstance(seed, bytes) or len(seed) != 32:
            raise UsageError("the seed of an Ed25519 key is 32 bytes")
        self._seed = seed
        self._secret = kernel.SecretKey(seed)
        self.public_key = self._secret.public_key

    @classmethod
    def generate(cls) -> Self:
        """Return a new key from the system's random source."""
        return cls(kernel.generate_seed())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file.

        Raises KeyFolderError if it is missing, no plain file, open to its group or to others, or holds no
        unencrypted Ed25519 key in PKCS#8 PEM.
        """
        make = f"make one with '{cls.made_by}' or openssl genpkey"
        return cls(*pem.load_secrets(Path(path), pem.ED25519, make=make))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a new key file with mode 0600 and wait until it is on the disk.

        Raises KeyFolderError if the file exists (it is never overwritten) or can't be written.
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
        return self._secret.sign(message)

    def __repr__(self) -> str:
        """Show the key id, never the secret."""
        return f"<{type(self).__name__} {self.key_id.hex()}>"


class IssuerKey(MessageKey):
    """An Ed25519 key that signs root blocks."""

    __slots__ = ()

    made_by = "sessauth keys add"

    def derived_id(self, purpose: bytes, data: bytes) -> bytes:
        """Return 16 bytes that only the holder of this key can derive from ``data``.

        ``purpose``, at most 16 bytes, keeps the ids of one use apart from those of another.
        """
        return hashlib.blake2b(data, digest_size=16, key=self._seed, person=purpose).digest()

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key."""
        return public_jwk(self.public_key)


def key_id(public_key: bytes) -> bytes:
    """Return the id that tokens name an issuer key by: BLAKE2b-256 of its 32 bytes.

    Raises UsageError if it is not an acceptable public key, canonical and not of small order.
    """
    if not kernel.acceptable_key(public_key):
        raise UsageError("not an Ed25519 public key: 32 bytes, canonical, not of small order")
    return kernel.digest(public_key)


def public_jwk(public_key: bytes) -> dict[str, str]:
    """Return an Ed25519 public key as a JSON Web Key (RFC 8037, RFC 9864).

    ``kid`` is its RFC 7638 thumbprint, ``issuer_key_id`` the id in hex that tokens and receipts name it by.
    """
    required = {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(public_key)}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    thumbprint = base64url.encode(hashlib.sha256(canonical).digest())
    named = {"kid": thumbprint, "issuer_key_id": key_id(public_key).hex()}
    return {**required, **named, "alg": "Ed25519", "use": "sig"}


class KeyStatus(IntEnum):
    """The life of an issuer key; it only ever moves down this list."""

    UNSPECIFIED = 0
    PREPARED = 1
    ACTIVE = 2
    RETIRED = 3
    DISTRUSTED = 4


@dataclass(frozen=True, slots=True)
class KeyRecord(Record):
    """An issuer key in the state: public half, status, and the owner whose sessions alone it may root."""

    id: bytes
    public_key: bytes
    status: KeyStatus
    owner: str = ""
    added_at_ms: int = 0
    activated_at_ms: int = 0
    retired_at_ms: int = 0
    distrusted_at_ms: int = 0
    revision: int = 0


IssuerKeys = bytes | str | Iterable[bytes | KeyRecord]
"""A JWK set in JSON, or public keys (32 bytes each) and KeyRecords."""


def load_trusted_keys(issuer_keys: IssuerKeys, *, any_owner: bool = False) -> dict[bytes, bytes]:
    """Return the public keys that vouch for a cluster's hosts and sign for it, by key id.

    A KeyRecord counts if it has no owner and is active or retired, a JWK if it names no owner. With
    ``any_owner`` the keys of owners count too: they root tokens and sign nothing for the service. Raises
    UsageError if it is not a JWK set, or a key can't be read.
    """
    if isinstance(issuer_keys, bytes | str):
        keys = _of_jwks(issuer_keys, any_owner)
    else:
        keys = [
            key.public_key if isinstance(key, KeyRecord) else key
            for key in issuer_keys
            if not isinstance(key, KeyRecord)
            or ((any_owner or not key.owner) and key.status in (KeyStatus.ACTIVE, KeyStatus.RETIRED))
        ]
    return {key_id(key): key for key in keys}


def _of_jwks(document: bytes | str, any_owner: bool) -> list[bytes]:
    try:
        keys: Any = json.loads(document)["keys"]
        return [
            base64url.decode(key["x"])
            for key in keys
            if key["kty"] == "OKP" and key["crv"] == "Ed25519" and (any_owner or not key.get("owner"))
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            "issuer_keys: not a JWK set with Ed25519 keys, as 'sessauth keys jwks' prints"
        ) from None


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

        Raises UsageError if it is not canonical, or a part has another size.
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

        Raises UsageError if the issuer is not one of them, the signature is wrong, or the payload is no
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

        Raises UsageError if a key is not signed by one of ``issuer_keys``, is wrongly signed, is of another
        cluster or host than the others, or none of them counts now.

        Args:
            signed: the keys that the server sent.
            issuer_keys: the cluster's issuer keys that the caller trusts.
            now_ms: the holder's time, in ms since 1970.
            cluster_id: the cluster that the host must be of, 16 bytes; empty: of any one.
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

        Raises UsageError if it is something else, and as the constructor.
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
        """Read a file with the text of :meth:`to_json`, which is not a secret.

        Raises UsageError as :meth:`from_json`, and for a file that can't be read.
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
    # The holder's clock may be slow by as much as a proof's time may differ.
    return key.not_before_ms - PROOF_WINDOW_MS <= now_ms < key.expires_at_ms


_KEY_BYTES = 32
_P = 2**255 - 19
# The u of the points of small order on Curve25519 and its twist: agreeing with one yields zeros for everyone.
_SMALL_ORDER_U = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


class HolderSigner(Protocol):
    """A holder of the secret of a bound token's ``next_key``."""

    @property
    def public(self) -> HolderPublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature by the secret of ``public.next_key``."""


@dataclass(frozen=True, slots=True)
class HolderPublicKey:
    """The two public keys of a holder.

    ``next_key`` is Ed25519, 32 bytes: it signs blocks, and proofs of kind Ed25519. ``proof_key`` is X25519,
    32 bytes, or empty where there is none: then a proof is always a signature.
    """

    next_key: bytes
    proof_key: bytes = b""

    def __post_init__(self) -> None:
        """Refuse keys that no token can be bound to. Raises UsageError, naming the key that is at fault."""
        if not isinstance(self.next_key, bytes) or not kernel.acceptable_key(self.next_key):
            raise UsageError("next_key: not an Ed25519 public key: 32 bytes, canonical, not of small order")
        if not isinstance(self.proof_key, bytes) or len(self.proof_key) not in (0, _KEY_BYTES):
            raise UsageError("proof_key: not an X25519 public key: 32 bytes, or none")
        if self.proof_key and has_small_order(self.proof_key):
            raise UsageError("proof_key: of small order, so that it keeps no secret: make another key")
        if self.next_key == self.proof_key:
            raise UsageError("proof_key: is next_key: the two are separate keys")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form.

        Raises UsageError, saying whether it is no such text, truncated, damaged, or holds no usable key.
        """
        try:
            data = read_checked(HOLDER_PREFIX, text.strip(), "holder's public key")
        except MalformedToken as error:
            raise UsageError(str(error)) from None
        if len(data) not in (_KEY_BYTES, 2 * _KEY_BYTES):
            raise UsageError("not a holder's public key: it holds one or two keys of 32 bytes")
        return cls(data[:_KEY_BYTES], data[_KEY_BYTES:])

    @classmethod
    def of(cls, key: HolderPublicKey | str) -> HolderPublicKey:
        """Return ``key``, read if it is text; raises UsageError as :meth:`parse`, for other types too."""
        if isinstance(key, str):
            return cls.parse(key)
        if not isinstance(key, HolderPublicKey):
            raise UsageError(f"a holder's public key or its text, not {type(key).__name__}")
        return key

    @property
    def text(self) -> str:
        """The text form, to be pasted. It is not a secret."""
        return checked_text(HOLDER_PREFIX, self.next_key + self.proof_key)

    def __str__(self) -> str:
        """Return the text form."""
        return self.text


def has_small_order(public_key: bytes) -> bool:
    """Return True for an X25519 key, 32 bytes, that agrees with every other on zeros."""
    return (int.from_bytes(public_key, "little") & (2**255 - 1)) % _P in _SMALL_ORDER_U
