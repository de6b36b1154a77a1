"""A block before it is signed: the caller's parameters within the format's limits.

Messages name the parameter to change. The kernel checks the rest when the signed chain is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar

from .. import limits
from .._fast import _check as kernel
from ..clock import Clock
from ..crypto.keys import HolderPublicKey
from ..errors import UsageError
from ..scopes.scope import Condition, Scope
from .inspection import Ending

_T = TypeVar("_T")

Signer = Callable[[bytes], bytes]
"""Returns the 64-byte Ed25519 signature over a message."""


@dataclass(frozen=True, slots=True, repr=False)
class Signed:
    """A chain that the kernel found well-formed, and the seed of its next key (empty unless open)."""

    chain: kernel.Chain
    seed: bytes


class BlockTerms(TypedDict, total=False):
    """Terms of a new block beside its scopes and audience. One that is left out states nothing.

    Attributes:
        ttl_ms: how long it lives from now.
        ending: ``sealed`` (the default), to be presented, or ``open``, to be narrowed further offline.
            With ``to`` it is ``bound``, and no other value is accepted.
        to: the public key, or its text, of the holder that it is bound to: each call then needs a proof by
            that holder's key.
        may_seal: whether that holder may make sealed and open tokens of it.
        where: conditions that must hold on every call.
        source: the CIDR blocks that calls may come from.
        peer: certificate identities, one of which the caller must have.
        not_before_ms: when it begins, in ms since 1970.
        max_blocks: how many blocks the chain may ever have.
        label: a name for its recipient; shown in audit.
    """

    ttl_ms: int
    ending: str
    to: HolderPublicKey | str | None
    may_seal: bool
    where: Sequence[Condition | str]
    source: Sequence[str]
    peer: Sequence[str]
    not_before_ms: int
    max_blocks: int
    label: str


@dataclass(frozen=True, slots=True)
class Draft:
    """The statements of a block; times in ms since 1970, 0 where it states none.

    ``to`` is the holder that a BOUND block names; None for other blocks.
    """

    ending: Ending
    scopes: tuple[Scope, ...] = ()
    where: tuple[Condition, ...] = ()
    audience: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()
    expires_at_ms: int = 0
    not_before_ms: int = 0
    max_blocks: int = 0
    label: str = ""
    to: HolderPublicKey | None = None
    may_seal: bool = False

    @classmethod
    def of(
        cls,
        *,
        clock: Clock,
        ending: str = "",
        to: HolderPublicKey | str | None = None,
        may_seal: bool = False,
        scopes: Sequence[Scope | str] = (),
        where: Sequence[Condition | str] = (),
        audience: Sequence[str] = (),
        source: Sequence[str] = (),
        peer: Sequence[str] = (),
        ttl_ms: int = 0,
        expires_at_ms: int = 0,
        not_before_ms: int = 0,
        max_blocks: int = 0,
        label: str = "",
    ) -> Draft:
        """Read the parameters of ``mint`` and ``attenuate``.

        Raises:
            ScopeError: if a scope or condition can't be read.
            UsageError: if a parameter is beyond a limit or contradicts another.
        """
        parsed = tuple(Scope.of(s) for s in _items("scopes", scopes, limits.MAX_SCOPES))
        for scope in parsed:
            if scope.has_unknown_kind:
                raise UsageError(f"scopes: {scope} has a kind of a later version, which every check denies")
        conditions = _items("where", where, limits.MAX_CONDITIONS)
        holder = None if to is None else _holder(to)
        if may_seal and holder is None:
            raise UsageError("may_seal restricts the holder of a bound token: give to= as well")
        return cls(
            ending=_ending(ending, bound=holder is not None),
            to=holder,
            may_seal=bool(may_seal),
            scopes=parsed,
            where=tuple(Condition.parse(c) if isinstance(c, str) else c for c in conditions),
            audience=_texts("audience", audience, limits.MAX_AUDIENCES),
            source=_texts("source", source, limits.MAX_SOURCES),
            peer=_texts("peer", peer, limits.MAX_PEERS),
            expires_at_ms=_expiry(clock, ttl_ms, expires_at_ms),
            not_before_ms=_number("not_before_ms", not_before_ms, limits.MAX_TIME_MS),
            max_blocks=_number("max_blocks", max_blocks, limits.MAX_BLOCKS),
            label=_texts("label", (label,), 1)[0] if label else "",
        )

    def sign(
        self,
        signer: Signer,
        *,
        before: bytes = b"",
        index: int = 0,
        previous_signature: bytes = b"",
        root: dict[str, object] | None = None,
        issued_at_ms: int = 0,
    ) -> Signed:
        """Append the block to the encoded chain ``before`` and return the longer chain.

        Args:
            signer: the issuer's key, or the secret that the block before names.
            before: the chain so far; empty for a root block.
            index: the new block's index.
            previous_signature: that of the block before; empty for a root block.
            root: the wire dict of message ``Root``, for a root block.
            issued_at_ms: the time of issue in ms since 1970, for a root block.

        Raises:
            UsageError: if the chain would be beyond a limit or against the format.
        """
        seed = kernel.generate_seed() if self.ending is Ending.OPEN else b""
        record = self._record(seed) | {"root": root, "issued_at_ms": issued_at_ms}
        try:
            payload = kernel.encode_message("Block", record)
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"the block can't be encoded: {error}") from None
        signature = signer(kernel.signed_bytes(index, previous_signature, payload))
        version = 0 if before else 1
        block = {"signature": signature, "payload": payload}
        data = before + kernel.encode_message("Token", {"version": version, "blocks": [block]})
        if len(data) > limits.MAX_TOKEN_BYTES:
            raise UsageError(
                f"the token would have {len(data)} bytes, the limit is {limits.MAX_TOKEN_BYTES}"
                " (MAX_TOKEN_BYTES): state fewer or shorter scopes"
            )
        try:
            return Signed(kernel.Chain.parse(data), seed)
        except kernel.FormError as error:
            raise UsageError(f"the token would be against the format: {error.detail}") from None

    def _record(self, seed: bytes) -> dict[str, object]:
        return {
            "expires_at_ms": self.expires_at_ms,
            "not_before_ms": self.not_before_ms,
            "audience": list(self.audience),
            "scopes": [scope.to_record() for scope in self.scopes],
            "where": [condition.to_record() for condition in self.where],
            "source": list(self.source),
            "peer": list(self.peer),
            "max_blocks": self.max_blocks,
            "ending": int(self.ending),
            "next_key": self.to.next_key if self.to else kernel.public_key(seed) if seed else b"",
            "proof_key": self.to.proof_key if self.to else b"",
            "may_seal": self.may_seal,
            "label": self.label,
        }


def check_holder(to: HolderPublicKey, used: Collection[bytes], issuer_key_id: bytes) -> None:
    """Refuse a holder's key that would make the chain malformed.

    Args:
        to: the holder that the next block is to be bound to.
        used: the ``next_key`` and ``proof_key`` of all blocks so far.
        issuer_key_id: the id of the root's key, 32 bytes.

    Raises:
        UsageError: naming the key.
    """
    if kernel.digest(to.next_key) == issuer_key_id:
        raise UsageError("to: its next_key is the issuer's own key, which is never a holder's")
    for name, key in (("next_key", to.next_key), ("proof_key", to.proof_key)):
        if key in used:
            raise UsageError(f"to: its {name} is in this chain already; no key may occur twice: give another")


def _holder(to: HolderPublicKey | str) -> HolderPublicKey:
    try:
        return HolderPublicKey.of(to)
    except UsageError as error:
        raise UsageError(f"to: {error}") from None


def _ending(ending: str, *, bound: bool) -> Ending:
    if bound:
        if ending not in ("", "bound"):
            raise UsageError(f"ending={ending!r} and to= exclude each other: to= makes the token bound")
        return Ending.BOUND
    if ending == "bound":
        raise UsageError("ending='bound' needs to=: the public key of the holder that it is bound to")
    try:
        return {"": Ending.SEALED, "sealed": Ending.SEALED, "open": Ending.OPEN}[ending]
    except KeyError:
        raise UsageError(f"ending is 'sealed', 'open' or 'bound', not {ending!r}") from None


def _expiry(clock: Clock, ttl_ms: int, expires_at_ms: int) -> int:
    if ttl_ms and expires_at_ms:
        raise UsageError("ttl_ms and expires_at_ms exclude each other: give one")
    if ttl_ms:
        expires_at_ms = clock.now_ms() + _number("ttl_ms", ttl_ms, limits.MAX_TIME_MS)
    return _number("expires_at_ms", expires_at_ms, limits.MAX_TIME_MS)


def _number(name: str, value: int, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} is a whole number, not {type(value).__name__}")
    if not 0 <= value <= limit:
        raise UsageError(f"{name} is {value}: it is at most {limit} and not negative")
    return value


def _items(name: str, items: Sequence[_T], limit: int) -> tuple[_T, ...]:
    # A single text is a sequence too: of its characters.
    if isinstance(items, str | bytes):
        raise UsageError(f"{name} is a list: write [{items!r}]")
    if len(items) > limit:
        raise UsageError(f"{name} has {len(items)} elements, a block holds at most {limit}")
    return tuple(items)


def _texts(name: str, items: Sequence[str], limit: int) -> tuple[str, ...]:
    texts = _items(name, items, limit)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{name} holds texts, not {type(text).__name__}")
        if not text or len(text.encode("utf-8", "replace")) > limits.MAX_STRING_BYTES:
            raise UsageError(f"{name}: a text has 1 to {limits.MAX_STRING_BYTES} bytes (MAX_STRING_BYTES)")
    if len(set(texts)) != len(texts):
        raise UsageError(f"{name} names something twice")
    return texts
