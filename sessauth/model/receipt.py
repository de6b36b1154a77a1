"""Closure receipts: signed statements that no verifier can allow a call of an ended session any more.

    signed = SignedReceipt.from_text(text)
    receipt = verify(signed, jwks, session_id=session_id)
    receipt.state is ReceiptState.CLOSED

docs/receipts.md defines the states and the bytes. Public keys are enough to verify one.

Receipts depend on the registrations of verifiers: :class:`Registration` is a verifier's message to the
server, :class:`RegistrationRecord` the record in the state folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, Self

from .._fast import _check as kernel
from .._fast.codec.record import Record
from ..crypto.armor import RECEIPT_PREFIX, checked_text, read_checked
from ..crypto.keys import IssuerKey, IssuerKeys, load_trusted_keys
from ..errors import InvalidReceipt, MalformedToken, UsageError
from ..limits import MAX_TIME_MS, MAX_VERIFIERS
from .host import MAX_HOSTS
from .session import EndCause


@dataclass(frozen=True, slots=True)
class RegistrationRecord(Record):
    """A verifier that may run for ``staleness_ms`` without a report, stored for the next control process.

    ``principal`` is the owner of its credential, ``instance`` 16 random bytes of the verifier.
    ``process_started`` is the start of its process in clock ticks since the machine's; 0: not known. It
    first registered under this name at ``registered_revision``.
    """

    name: str
    principal: str
    instance: bytes
    process_id: int = 0
    process_started: int = 0
    staleness_ms: int = 0
    registered_revision: int = 0
    registered_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Registration:
    """A verifier's message to its server: its identity, and the state that it uses."""

    name: str
    instance: bytes
    staleness_ms: int
    cluster_id: bytes = b""
    incarnation: bytes = b""
    revision: int = 0
    process_id: int = 0
    process_started: int = 0
    leave: bool = False


LABEL: Final = b"sessauth/receipt/v1\x00"
VERSION: Final = 1
# The version of a receipt that names hosts of a cluster.
HOSTS_VERSION: Final = 2
# 256 verifiers and 1,024 hosts of some 100 bytes each, and a reason.
MAX_TEXT_CHARS: Final = 262_144

# The time for which a host may allow calls after an end that it does not know of, and 2 s between clocks.
LATE_MS: Final = 3_000 + 2_000

_SIZES: Final = {"cluster_id": 16, "incarnation": 16, "session_id": 16}


class ReceiptState(IntEnum):
    """The statement of a receipt. Only ``CLOSED`` is true as a bool."""

    UNSPECIFIED = 0
    CLOSED = 1
    PARTIAL = 2
    UNKNOWN = 3

    def __bool__(self) -> bool:
        """Return True if no call can be allowed any more."""
        return self is ReceiptState.CLOSED


class VerifierState(IntEnum):
    """The state of a verifier with regard to the end of a session."""

    UNSPECIFIED = 0
    ACKNOWLEDGED = 1
    OUTLIVED = 2
    WAITING = 3
    LEFT = 4


class ReceiptFault(StrEnum):
    """The reasons for which a receipt proves nothing; stable."""

    NOT_CANONICAL = "NOT_CANONICAL"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
    INCONSISTENT = "INCONSISTENT"
    OTHER_CLUSTER = "OTHER_CLUSTER"
    OTHER_SESSION = "OTHER_SESSION"
    TOO_OLD = "TOO_OLD"


@dataclass(frozen=True, slots=True)
class VerifierStatus(Record):
    """One verifier that was registered when the session ended.

    ``revision`` is the latest that it acknowledged. ``at_ms`` is the time at which it acknowledged that,
    left, or outlived its staleness bound. While WAITING it is the time at which its bound passes without a
    report (0: it has none).
    """

    name: str
    state: VerifierState
    revision: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class HostStatus(Record):
    """One host of a cluster that was registered when the session ended.

    ``record`` is the last record of the carried log that all its processes are known to use; 0: none.
    ``at_ms`` is the time at which that was known, or at which it outlived its bound. While WAITING it is the
    time at which its bound passes.
    """

    name: str
    state: VerifierState
    record: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Receipt(Record):
    """The knowledge at ``made_at_ms`` of the end of a session. Times are ms since 1970-01-01 UTC.

    A verifier that uses ``revision`` or a later one denies every token of the session. ``open_permits``
    were neither committed nor released and are not over; ``last_allow_ms`` is 0 if it is not known. In
    version 2 ``hosts`` are those of the cluster, and one that holds ``record`` of the carried log denies too.
    ``observe``: the session was in observe mode, for its life or a part of it: its ceiling refused nothing
    then.
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
    record: int = 0
    hosts: tuple[HostStatus, ...] = ()
    observe: bool = False

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read an encoded Receipt.

        Raises InvalidReceipt NOT_CANONICAL, UNSUPPORTED_VERSION, or INCONSISTENT if it contradicts itself.
        """
        try:
            record = kernel.decode_message("Receipt", payload)
        except kernel.WireError as error:
            raise InvalidReceipt(f"not a receipt: {error}", ReceiptFault.NOT_CANONICAL) from None
        version = record["version"]
        # No service makes a version 2 without hosts.
        if version != VERSION and not (version == HOSTS_VERSION and record["hosts"]):
            raise InvalidReceipt(
                f"the receipt has version {version}, this program reads up to {HOSTS_VERSION}; upgrade it",
                ReceiptFault.UNSUPPORTED_VERSION,
            )
        try:
            receipt = cls.from_record(record)
        except ValueError as error:
            raise InvalidReceipt(
                f"not a receipt of version {version}: {error}", ReceiptFault.INCONSISTENT
            ) from None
        wrong = receipt._contradiction()
        if wrong:
            raise InvalidReceipt(f"the receipt contradicts itself: {wrong}", ReceiptFault.INCONSISTENT)
        return receipt

    @property
    def allowed_late_ms(self) -> int:
        """The time from the end to the last allowed call, in ms; 0 if hosts may allow calls for as long."""
        late_ms = self.last_allow_ms - self.ended_at_ms
        return late_ms if late_ms > LATE_MS else 0

    @property
    def waiting(self) -> tuple[str, ...]:
        """The names of the verifiers and hosts that may still allow a call."""
        both: tuple[VerifierStatus | HostStatus, ...] = (*self.verifiers, *self.hosts)
        return tuple(each.name for each in both if each.state is VerifierState.WAITING)

    def signed_by(self, key: IssuerKey) -> SignedReceipt:
        """Return this receipt, signed by a key of the service."""
        payload = self.encode()
        return SignedReceipt(payload, key.key_id, key.sign(LABEL + payload))

    def _contradiction(self) -> str:
        """Return the contradiction between parts of the receipt; empty if there is none."""
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
        wrong = self._wrong_hosts()
        if wrong:
            return wrong
        if self.state is ReceiptState.UNSPECIFIED:
            return "it has no state"
        actual = closure_state((*self.verifiers, *self.hosts), self.open_permits)
        if self.state is not ReceiptState.UNKNOWN and self.state is not actual:
            return f"it says {self.state.name} of what is {actual.name}"
        return ""

    def _wrong_hosts(self) -> str:
        """Return the fault of the hosts; empty if there is none."""
        if self.version == VERSION:
            return "it names hosts, which version 1 does not" if self.hosts or self.record else ""
        names = [each.name for each in self.hosts]
        if names != sorted(set(names)) or len(names) > MAX_HOSTS or "" in names:
            return "its hosts are not in order, each with a name of its own"
        if not self.record:
            return "it names no record of the end"
        for each in self.hosts:
            if each.state not in _HOST_STATES:
                return f"the host {each.name} is {each.state.name}"
            if (each.state is VerifierState.ACKNOWLEDGED) != (each.record >= self.record):
                return f"the host {each.name} is {each.state.name} at record {each.record}"
        return ""


_HOST_STATES: Final = (VerifierState.ACKNOWLEDGED, VerifierState.OUTLIVED, VerifierState.WAITING)


def closure_state(verifiers: Iterable[VerifierStatus | HostStatus], open_permits: int) -> ReceiptState:
    """Return CLOSED if none of them may allow a call and no permit is open, else PARTIAL."""
    if open_permits or any(each.state is VerifierState.WAITING for each in verifiers):
        return ReceiptState.PARTIAL
    return ReceiptState.CLOSED


@dataclass(frozen=True, slots=True)
class SignedReceipt(Record):
    """An encoded Receipt, and the 64-byte signature of a key of the service over label and payload."""

    payload: bytes
    issuer_key_id: bytes
    signature: bytes

    def __repr__(self) -> str:
        """Return one line, with nothing of the payload: it is unverified."""
        return f"<SignedReceipt of {len(self.payload)} bytes, unverified, by key {self.issuer_key_id.hex()}>"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form.

        Raises InvalidReceipt NOT_CANONICAL, saying whether it is no receipt, truncated, damaged or against
        the format.
        """
        try:
            return cls.decode(read_checked(RECEIPT_PREFIX, text, "receipt", max_chars=MAX_TEXT_CHARS))
        except MalformedToken as error:
            raise InvalidReceipt(str(error), ReceiptFault.NOT_CANONICAL) from None
        except kernel.WireError as error:
            raise InvalidReceipt(f"not a receipt: {error}", ReceiptFault.NOT_CANONICAL) from None

    @property
    def text(self) -> str:
        """The text form, to keep or pass on. It is no secret."""
        return checked_text(RECEIPT_PREFIX, self.encode())

    @property
    def unverified(self) -> Receipt:
        """The receipt without any verification; raises InvalidReceipt as :meth:`Receipt.decode`."""
        return Receipt.decode(self.payload)


def verify(
    signed: SignedReceipt,
    keys: IssuerKeys,
    *,
    cluster_id: bytes = b"",
    session_id: bytes = b"",
    made_since_ms: int = 0,
) -> Receipt:
    """Return the receipt, if a key of the service signed it for the expected cluster and session.

    Args:
        signed: the receipt.
        keys: the service's public keys: a JWK set, 32 bytes each, or KeyRecords.
        cluster_id: the cluster that it must be of, 16 bytes; empty: of any that has these keys.
        session_id: the session that it must be of, 16 bytes; empty: of any.
        made_since_ms: refuse one that was made earlier, in ms since 1970: an older receipt of the same end
            knows less.

    Raises:
        InvalidReceipt: if it proves nothing; ``fault`` is the reason.
        UsageError: if ``keys`` are no keys, or an id has another size.
    """
    for name, wanted in (("cluster_id", cluster_id), ("session_id", session_id)):
        if wanted and len(wanted) != _SIZES[name]:
            raise UsageError(f"{name} is {_SIZES[name]} bytes")
    public_key = load_trusted_keys(keys).get(signed.issuer_key_id)
    if public_key is None:
        raise InvalidReceipt(
            f"signed by key {signed.issuer_key_id.hex()}, which is none of those given: it is of another "
            "cluster, or the keys are out of date",
            ReceiptFault.UNKNOWN_KEY,
        )
    if not kernel.verify(public_key, LABEL + signed.payload, signed.signature):
        raise InvalidReceipt("the signature is wrong: it was altered", ReceiptFault.BAD_SIGNATURE)
    receipt = Receipt.decode(signed.payload)
    if cluster_id and receipt.cluster_id != cluster_id:
        raise InvalidReceipt(f"of another cluster, {receipt.cluster_id.hex()}", ReceiptFault.OTHER_CLUSTER)
    if session_id and receipt.session_id != session_id:
        raise InvalidReceipt(f"of another session, {receipt.session_id.hex()}", ReceiptFault.OTHER_SESSION)
    if receipt.made_at_ms < made_since_ms:
        raise InvalidReceipt(
            f"made at {receipt.made_at_ms}, before {made_since_ms}: request a new one", ReceiptFault.TOO_OLD
        )
    return receipt
