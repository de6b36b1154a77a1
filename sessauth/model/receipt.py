"""Closure receipts: signed statements of who can't allow a call of an ended session any more.

    signed = SignedReceipt.from_text(text)
    receipt = verify(signed, jwks, session_id=session_id)
    receipt.state is ReceiptState.CLOSED

docs/receipts.md says what each state means, and what the bytes are. Nobody is asked: public keys are enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from typing import Any, Final, Self

from .._fast.codec import protobuf
from .._fast.crypto import ed25519
from ..crypto.armor import RECEIPT_PREFIX, checked_text, read_checked
from ..crypto.issuer_key import IssuerKey
from ..crypto.issuer_keys import IssuerKeys, pinned
from ..errors import InvalidReceipt, MalformedToken, UsageError
from ..limits import MAX_TIME_MS, MAX_VERIFIERS
from .session import EndCause

LABEL: Final = b"sessauth/receipt/v1\x00"
VERSION: Final = 1
# 256 verifiers of some 100 bytes, and a reason.
MAX_TEXT_CHARS: Final = 65_536

_SIZES: Final = {"cluster_id": 16, "incarnation": 16, "session_id": 16}


class ReceiptState(IntEnum):
    """What a receipt says. Only ``CLOSED`` is true as a bool."""

    UNSPECIFIED = 0
    CLOSED = 1
    PARTIAL = 2
    UNKNOWN = 3

    def __bool__(self) -> bool:
        """Whether nothing can be allowed any more."""
        return self is ReceiptState.CLOSED


class VerifierState(IntEnum):
    """Where a verifier stands against the end of a session."""

    UNSPECIFIED = 0
    ACKNOWLEDGED = 1
    OUTLIVED = 2
    WAITING = 3
    LEFT = 4


class ReceiptFault(StrEnum):
    """Why a receipt proves nothing; stable."""

    NOT_CANONICAL = "NOT_CANONICAL"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
    INCONSISTENT = "INCONSISTENT"
    OTHER_CLUSTER = "OTHER_CLUSTER"
    OTHER_SESSION = "OTHER_SESSION"
    TOO_OLD = "TOO_OLD"


@dataclass(frozen=True, slots=True)
class VerifierStatus:
    """One verifier that was enrolled when the session ended.

    ``revision`` is the latest that it acknowledged. ``at_ms``: when it acknowledged that, left, or outlived
    its staleness bound; of one that is waited for, when its bound passes if it is not heard of (0: it has
    none).
    """

    name: str
    state: VerifierState
    revision: int
    at_ms: int

    def to_record(self) -> dict[str, object]:
        """Return the dict of message VerifierStatus."""
        return {**_plain(self), "state": int(self.state)}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was known at ``made_at_ms`` of the end of a session. Times are ms since 1970-01-01 UTC.

    Whoever judges by ``revision`` or a later one denies every token of the session. ``open_permits`` were
    neither committed nor released and are not over; ``last_allow_ms`` is 0 if it is not known.
    """

    cluster_id: bytes
    incarnation: bytes
    session_id: bytes
    epoch: int
    revision: int
    ended_at_ms: int
    cause: EndCause
    reason: str
    made_at_ms: int
    state: ReceiptState
    verifiers: tuple[VerifierStatus, ...] = ()
    open_permits: int = 0
    last_allow_ms: int = 0
    version: int = VERSION

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read an encoded Receipt.

        Raises:
            InvalidReceipt: NOT_CANONICAL, UNSUPPORTED_VERSION, or INCONSISTENT if it contradicts itself.
        """
        try:
            record: dict[str, Any] = protobuf.decode("Receipt", payload)
        except protobuf.WireError as error:
            raise InvalidReceipt(f"not a receipt: {error}", ReceiptFault.NOT_CANONICAL) from None
        if record["version"] != VERSION:
            raise InvalidReceipt(
                f"the receipt is of version {record['version']}, this program reads {VERSION}; upgrade it",
                ReceiptFault.UNSUPPORTED_VERSION,
            )
        try:
            record["cause"] = EndCause(record["cause"])
            record["state"] = ReceiptState(record["state"])
            record["verifiers"] = tuple(
                VerifierStatus(**{**each, "state": VerifierState(each["state"])})
                for each in record["verifiers"]
            )
        except ValueError as error:
            raise InvalidReceipt(
                f"not a receipt of version {VERSION}: {error}", ReceiptFault.INCONSISTENT
            ) from None
        receipt = cls(**record)
        wrong = receipt._contradiction()
        if wrong:
            raise InvalidReceipt(f"the receipt contradicts itself: {wrong}", ReceiptFault.INCONSISTENT)
        return receipt

    def encode(self) -> bytes:
        """Return the canonical bytes of message Receipt."""
        record = _plain(self)
        record["cause"], record["state"] = int(self.cause), int(self.state)
        record["verifiers"] = [each.to_record() for each in self.verifiers]
        return protobuf.encode("Receipt", record)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who may still allow a call, for all that is known."""
        return tuple(each.name for each in self.verifiers if each.state is VerifierState.WAITING)

    def signed_by(self, key: IssuerKey) -> SignedReceipt:
        """Return this receipt, signed by a key of the service."""
        payload = self.encode()
        return SignedReceipt(payload, key.key_id, key.sign(LABEL + payload))

    def _contradiction(self) -> str:
        """Return what of it can't be together; empty if all can."""
        for name, size in _SIZES.items():
            if len(getattr(self, name)) != size:
                return f"{name} is {size} bytes, not {len(getattr(self, name))}"
        if self.cause is EndCause.UNSPECIFIED or not self.epoch or not self.revision:
            return "it names no end: cause, epoch or revision is missing"
        if not 0 < self.ended_at_ms <= self.made_at_ms <= MAX_TIME_MS:
            return "it was made before the end"
        names = [each.name for each in self.verifiers]
        if names != sorted(set(names)) or len(names) > MAX_VERIFIERS + 1 or "" in names:
            return "its verifiers are not in order, each with a name of its own"
        for each in self.verifiers:
            if each.state is VerifierState.UNSPECIFIED:
                return f"the verifier {each.name} has no state"
            if (each.state is VerifierState.ACKNOWLEDGED) != (each.revision >= self.revision) and (
                each.state in (VerifierState.ACKNOWLEDGED, VerifierState.WAITING)
            ):
                return f"the verifier {each.name} is {each.state.name} at revision {each.revision}"
        if self.state is ReceiptState.UNSPECIFIED:
            return "it has no state"
        told = state_of(self.verifiers, self.open_permits)
        if self.state is not ReceiptState.UNKNOWN and self.state is not told:
            return f"it says {self.state.name} of what is {told.name}"
        return ""


def state_of(verifiers: Iterable[VerifierStatus], open_permits: int) -> ReceiptState:
    """Return CLOSED if none of these may allow a call any more and no permit is open, else PARTIAL."""
    if open_permits or any(each.state is VerifierState.WAITING for each in verifiers):
        return ReceiptState.PARTIAL
    return ReceiptState.CLOSED


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """An encoded Receipt, and the 64-byte signature of a key of the service over label and payload."""

    payload: bytes
    issuer_key_id: bytes
    signature: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form.

        Raises:
            InvalidReceipt: NOT_CANONICAL, saying whether it is no receipt, truncated, damaged or against the
                format.
        """
        if not text.startswith(RECEIPT_PREFIX):
            raise InvalidReceipt(
                f"not a receipt: its text begins with {RECEIPT_PREFIX}", ReceiptFault.NOT_CANONICAL
            )
        try:
            data = read_checked(RECEIPT_PREFIX, text, "receipt", max_chars=MAX_TEXT_CHARS)
            return cls(**protobuf.decode("SignedReceipt", data))
        except (MalformedToken, protobuf.WireError) as error:
            raise InvalidReceipt(f"not a receipt: {error}", ReceiptFault.NOT_CANONICAL) from None

    @property
    def text(self) -> str:
        """The text form, to keep or hand on. It is no secret."""
        return checked_text(RECEIPT_PREFIX, protobuf.encode("SignedReceipt", _plain(self)))

    @property
    def unverified(self) -> Receipt:
        """What it says, for all that nobody has verified; raises InvalidReceipt as :meth:`Receipt.decode`."""
        return Receipt.decode(self.payload)


def verify(
    signed: SignedReceipt,
    keys: IssuerKeys,
    *,
    cluster_id: bytes = b"",
    session_id: bytes = b"",
    made_since_ms: int = 0,
) -> Receipt:
    """Return what a receipt says, if a key of the service signed it and it is of what is expected.

    Args:
        signed: the receipt.
        keys: the service's public keys: a JWK set, 32 bytes each, or KeyRecords.
        cluster_id: which cluster it must be of, 16 bytes; empty: of any that has these keys.
        session_id: which session it must be of, 16 bytes; empty: of any.
        made_since_ms: refuse one that was made earlier, in ms since 1970: an older receipt of the same end,
            shown again, knew less.

    Raises:
        InvalidReceipt: with the ``fault`` that says why it proves nothing.
        UsageError: if ``keys`` are none, or an id has another size.
    """
    for name, wanted in (("cluster_id", cluster_id), ("session_id", session_id)):
        if wanted and len(wanted) != _SIZES[name]:
            raise UsageError(f"{name} is {_SIZES[name]} bytes")
    public_key = pinned(keys).get(signed.issuer_key_id)
    if public_key is None:
        raise InvalidReceipt(
            f"signed by key {signed.issuer_key_id.hex()}, which is none of those given: it is of another "
            "cluster, or the keys are out of date",
            ReceiptFault.UNKNOWN_KEY,
        )
    if not ed25519.verify(public_key, LABEL + signed.payload, signed.signature):
        raise InvalidReceipt("the signature is wrong: it was altered", ReceiptFault.BAD_SIGNATURE)
    receipt = Receipt.decode(signed.payload)
    if cluster_id and receipt.cluster_id != cluster_id:
        raise InvalidReceipt(f"of another cluster, {receipt.cluster_id.hex()}", ReceiptFault.OTHER_CLUSTER)
    if session_id and receipt.session_id != session_id:
        raise InvalidReceipt(f"of another session, {receipt.session_id.hex()}", ReceiptFault.OTHER_SESSION)
    if receipt.made_at_ms < made_since_ms:
        raise InvalidReceipt(
            f"made at {receipt.made_at_ms}, before {made_since_ms}: ask for it anew", ReceiptFault.TOO_OLD
        )
    return receipt


def _plain(value: VerifierStatus | Receipt | SignedReceipt) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
