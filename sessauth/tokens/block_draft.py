"""Blocks of a token: read from its bytes, drafted within the format's limits, and added to a chain.

Reading verifies nothing: no signature and no state. A draft comes from the caller's parameters, and its
errors name the parameter to change. The kernel checks the rest when it parses the signed chain.

A new block is compared with the blocks above it. Since authority is intersected, a block can never add any:
the comparison is for people, so that a mistake is reported when it is made and not when a call is denied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from typing import TypedDict, TypeVar

from .. import limits
from .._fast import _check as kernel
from .._fast._check import Chain
from ..clock import Clock
from ..crypto.armor import presented_chars
from ..crypto.keys import HolderPublicKey, HolderSigner
from ..errors import NotExtendable, UsageError, WidensAuthority
from ..scopes import containment
from ..scopes.containment import unmet_need
from ..scopes.scope import Condition, Scope


class Ending(IntEnum):
    """The ending of a block, which determines the blocks that may follow it; numbers of ``token.proto``."""

    SEALED = 1
    OPEN = 2
    BOUND = 3


_UNCHANGED = (
    *("label", "issued_at_ms", "expires_at_ms", "not_before_ms"),
    *("max_blocks", "next_key", "proof_key", "may_seal"),
)


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One block. Times are ms since 1970, 0 where not stated; ``index`` 0 is the root block."""

    index: int
    block_id: bytes
    ending: Ending
    label: str
    issued_at_ms: int
    expires_at_ms: int
    not_before_ms: int
    audience: tuple[str, ...]
    scopes: tuple[Scope, ...]
    where: tuple[Condition, ...]
    source: tuple[str, ...]
    peer: tuple[str, ...]
    max_blocks: int
    next_key: bytes
    proof_key: bytes
    may_seal: bool

    @classmethod
    def read(cls, index: int, block_id: bytes, payload: bytes) -> BlockInfo:
        """Read the payload of a block of a well-formed chain."""
        record = kernel.decode_message("Block", payload)
        return cls(
            index=index,
            block_id=block_id,
            ending=Ending(record["ending"]),
            audience=tuple(record["audience"]),
            scopes=tuple(map(Scope.from_record, record["scopes"])),
            where=tuple(map(Condition.from_record, record["where"])),
            source=tuple(record["source"]),
            peer=tuple(record["peer"]),
            **{name: record[name] for name in _UNCHANGED},
        )

    @property
    def name(self) -> str:
        """Its name in messages: ``block 1 (label 'sub-agent')``."""
        return f"block {self.index} (label {self.label!a})" if self.label else f"block {self.index}"

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: ids and keys in hex, scopes as text; only fields that are set."""
        stated = {name: _json_value(getattr(self, name)) for name in self.__slots__[3:]}
        return {
            "index": self.index,
            "block_id": self.block_id.hex(),
            "ending": self.ending.name.lower(),
            **{name: value for name, value in stated.items() if value},
        }


def _json_value(value: object) -> object:
    if isinstance(value, tuple):
        return list(map(str, value))
    return value.hex() if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """The chain of a token as its bytes state it. No signature and no state was checked.

    ``expires_at_ms`` is the earliest and ``not_before_ms`` the latest that a block states;
    ``max_blocks`` the smallest.
    """

    issuer_key_id: bytes
    session_id: bytes
    token_id: bytes
    min_revision: int
    expires_at_ms: int
    not_before_ms: int
    max_blocks: int
    size_bytes: int
    blocks: tuple[BlockInfo, ...]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON: ids in hex, scopes as text, and ``verified`` false."""
        values = {name: _json_value(getattr(self, name)) for name in self.__slots__ if name != "blocks"}
        return {"verified": False, **values, "blocks": [block.to_dict() for block in self.blocks]}


def read_blocks(chain: Chain) -> tuple[BlockInfo, ...]:
    """Return the contents of each block of a well-formed chain."""
    pairs = zip(chain.block_ids, chain.payloads, strict=True)
    return tuple(BlockInfo.read(index, block_id, payload) for index, (block_id, payload) in enumerate(pairs))


def inspect_chain(chain: Chain) -> TokenInfo:
    """Return the contents of a well-formed chain."""
    return TokenInfo(
        issuer_key_id=chain.issuer_key_id,
        session_id=chain.session_id,
        token_id=chain.token_id,
        min_revision=chain.min_revision,
        expires_at_ms=chain.expires_at_ms,
        not_before_ms=chain.not_before_ms,
        max_blocks=chain.max_blocks,
        size_bytes=len(chain.raw),
        blocks=read_blocks(chain),
    )


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
        ttl_ms: how long it lives from now, in ms.
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

        Raises ScopeError if a scope or condition can't be read, UsageError if a parameter is beyond a limit
        or contradicts another.
        """
        parsed = tuple(Scope.of(s) for s in _items("scopes", scopes, limits.MAX_SCOPES))
        for scope in parsed:
            if scope.has_unknown_kind:
                raise UsageError(f"scopes: {scope} has a kind of a later version, which every check denies")
            if scope.exception:
                raise UsageError(
                    f"scopes: `{scope}` stands in the ceiling of a session alone, not in a token"
                )
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

        Raises UsageError if the chain would be beyond a limit or against the format.

        Args:
            signer: the issuer's key, or the secret that the block before names.
            before: the chain so far; empty for a root block.
            index: the new block's index.
            previous_signature: that of the block before; empty for a root block.
            root: the wire dict of message ``Root``, for a root block.
            issued_at_ms: the time of issue in ms since 1970, for a root block.
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

    def try_out(self, issuer_key_id: bytes, min_revision: int, issued_at_ms: int) -> None:
        """Make the root block with placeholders for its ids and its signature; raises as :meth:`sign`."""
        root = root_record(issuer_key_id, bytes(16), bytes(16), min_revision)
        self.sign(lambda _: bytes(64), root=root, issued_at_ms=issued_at_ms)

    def _record(self, seed: bytes) -> dict[str, object]:
        return {
            "expires_at_ms": self.expires_at_ms,
            "not_before_ms": self.not_before_ms,
            "audience": list(self.audience),
            "scopes": [scope.encode() for scope in self.scopes],
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


def root_record(
    issuer_key_id: bytes, session_id: bytes, token_id: bytes, min_revision: int
) -> dict[str, object]:
    """Return the wire dict of message ``Root``."""
    return {
        "issuer_key_id": issuer_key_id,
        "session_id": session_id,
        "token_id": token_id,
        "min_revision": min_revision,
    }


def check_holder(to: HolderPublicKey, used: Collection[bytes], issuer_key_id: bytes) -> None:
    """Refuse a holder's key that would make the chain malformed.

    Raises UsageError, naming the key.

    Args:
        to: the holder that the next block is to be bound to.
        used: the ``next_key`` and ``proof_key`` of all blocks so far.
        issuer_key_id: the id of the root's key, 32 bytes.
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


# The block that present() adds only states that the chain ends here.
SEAL = Draft(Ending.SEALED)

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def extend(
    chain: Chain, seed: bytes, key: HolderSigner | None, draft: Draft, *, strict: bool
) -> tuple[Signed, tuple[str, ...]]:
    """Sign ``draft`` as the next block, and return warnings beside the longer chain.

    An open chain is extended with ``seed``, a bound one with ``key``.

    Raises:
        NotExtendable: if the chain is sealed, its secret is elsewhere, it is at its length, or a block above
            requires all blocks below to be bound.
        WidensAuthority: if the chain above can never satisfy a part of the block, or, with ``strict``,
            if it isn't proven that it always does; ``part`` names it.
        UsageError: if the result would be beyond a limit or against the format.
    """
    signer = check_extendable(chain, seed, key, draft.ending)
    blocks = read_blocks(chain)
    _check_holders(chain, blocks, draft)
    _check_times(chain, blocks, draft)
    _check_max_blocks(chain, draft)
    _check_audience(blocks, draft)
    unproven = [*_check_source(blocks, draft), *_check_scopes(blocks, draft)]
    if unproven and strict:
        part, message = unproven[0]
        raise WidensAuthority(f"strict: {message}", part)
    signed = draft.sign(
        signer, before=chain.raw, index=chain.block_count, previous_signature=chain.signatures[-1]
    )
    return signed, (*(message for _, message in unproven), *warnings_of(signed.chain, draft.scopes))


def check_extendable(chain: Chain, seed: bytes, key: HolderSigner | None, ending: Ending) -> Signer:
    """Return the signer of the next block; refuse a chain that can't take one more with this ending.

    Raises NotExtendable as :func:`extend`, UsageError if a key was given for an open chain.
    """
    signer = _signer(chain, seed, key)
    # An open block needs space for the sealed one that present() adds.
    space = chain.max_blocks - chain.block_count - (ending is Ending.OPEN)
    if space < 1:
        more = ", one of them for present()" if ending is Ending.OPEN else ""
        raise NotExtendable(
            f"the chain has {chain.block_count} blocks and may have {chain.max_blocks} (max_blocks){more}"
        )
    return signer


def _signer(chain: Chain, seed: bytes, key: HolderSigner | None) -> Signer:
    ending = Ending(chain.ending)
    if ending is Ending.SEALED:
        raise NotExtendable("a sealed token can't be extended: ask the holder of an open one")
    if ending is Ending.BOUND:
        if key is None:
            raise NotExtendable("a bound token is extended only by the holder of its key: give key=")
        if key.public.next_key != chain.next_key:
            raise NotExtendable("this token is bound to another holder's key than key= is")
        return key.sign
    if key is not None:
        raise UsageError("key extends a bound token, and this one is open: leave it out")
    if not seed:
        raise NotExtendable("this open token came without its secret: extend the stored form")
    return lambda message: kernel.sign(seed, message)


def warnings_of(chain: Chain, scopes: Sequence[Scope]) -> tuple[str, ...]:
    """Warn of scopes whose needs no call can meet, and of a text that may not pass through gRPC metadata."""
    unmet = [f"{scope}: {why}" for scope in scopes if (why := unmet_need(scope))]
    chars = presented_chars(len(chain.raw))
    if chars <= limits.WARN_TEXT_BYTES:
        return tuple(unmet)
    return (
        *unmet,
        f"the text form has {chars} bytes: above {limits.WARN_TEXT_BYTES} (WARN_TEXT_BYTES)"
        " gRPC metadata and proxies may refuse it",
    )


def _check_holders(chain: Chain, blocks: tuple[BlockInfo, ...], draft: Draft) -> None:
    """Compare the ending, and the keys that it names, with the blocks above."""
    strict = next((block for block in blocks if block.ending is Ending.BOUND and not block.may_seal), None)
    if strict is not None and draft.ending is not Ending.BOUND:
        raise NotExtendable(
            f"{strict.name} requires later blocks to be bound: give to=, or have it made with may_seal=True"
        )
    if strict is not None and draft.may_seal:
        raise WidensAuthority(f"may_seal: {strict.name} requires later blocks to be bound", "may_seal")
    if draft.to is not None:
        used = {key for block in blocks for key in (block.next_key, block.proof_key) if key}
        check_holder(draft.to, used, chain.issuer_key_id)


def _check_times(chain: Chain, blocks: tuple[BlockInfo, ...], draft: Draft) -> None:
    if draft.expires_at_ms > chain.expires_at_ms:
        raise WidensAuthority(
            f"expires_at_ms {draft.expires_at_ms} is after the token's own {chain.expires_at_ms}:"
            " shorten it, or leave it out",
            f"expires_at_ms {draft.expires_at_ms}",
        )
    if draft.not_before_ms and draft.not_before_ms < chain.not_before_ms:
        raise WidensAuthority(
            f"not_before_ms {draft.not_before_ms} is before the token's own {chain.not_before_ms}",
            f"not_before_ms {draft.not_before_ms}",
        )
    expires = draft.expires_at_ms or chain.expires_at_ms
    starts = max(draft.not_before_ms or chain.not_before_ms, max(b.issued_at_ms for b in blocks))
    if starts >= expires:
        raise UsageError(f"the token would never be valid: it starts at {starts} and expires at {expires}")


def _check_max_blocks(chain: Chain, draft: Draft) -> None:
    if draft.max_blocks > chain.max_blocks:
        raise WidensAuthority(
            f"max_blocks {draft.max_blocks} is above the chain's own {chain.max_blocks}",
            f"max_blocks {draft.max_blocks}",
        )
    needed = chain.block_count + 1 + (draft.ending is Ending.OPEN)
    if draft.max_blocks and draft.max_blocks < needed:
        raise UsageError(
            f"max_blocks {draft.max_blocks} is too low: the chain needs {needed} to be presented"
        )


def _check_audience(blocks: tuple[BlockInfo, ...], draft: Draft) -> None:
    stated = [set(block.audience) for block in blocks if block.audience]
    if not stated:
        return
    allowed = reduce(set.intersection, stated)
    outside = [name for name in draft.audience if name not in allowed]
    if outside:
        named = ", ".join(map(ascii, outside))
        raise WidensAuthority(f"audience {named} is not one of the token's own", f"audience {named}")


def _check_source(blocks: tuple[BlockInfo, ...], draft: Draft) -> list[tuple[str, str]]:
    """Refuse source blocks that no parent admits; report those that a parent admits in part."""
    unproven: list[tuple[str, str]] = []
    for text in draft.source:
        try:
            net = ipaddress.ip_network(text)
        except ValueError as error:
            raise UsageError(f"source {text!a} is no CIDR block: {error}") from None
        for block in blocks:
            above = [ipaddress.ip_network(s) for s in block.source]
            if not above or any(_inside(net, parent) for parent in above):
                continue
            part = f"source {text}"
            if not any(_inside(parent, net) for parent in above):
                raise WidensAuthority(f"{part} is not contained in the scopes of {block.name}", part)
            unproven.append((part, f"{part} is wider than the scopes of {block.name}"))
    return unproven


def _inside(net: _Network, parent: _Network) -> bool:
    if isinstance(net, ipaddress.IPv4Network):
        return isinstance(parent, ipaddress.IPv4Network) and net.subnet_of(parent)
    return isinstance(parent, ipaddress.IPv6Network) and net.subnet_of(parent)


def _check_scopes(blocks: tuple[BlockInfo, ...], draft: Draft) -> list[tuple[str, str]]:
    """Refuse scopes that some block above can never satisfy; report those not proven inside."""
    if not draft.scopes and not draft.where:
        return []
    child = [s.to_record() for s in draft.scopes] or None
    child_where = [c.to_record() for c in draft.where]
    unproven: dict[str, str] = {}
    for block in blocks:
        verdicts = containment.compare(
            _records(block.scopes) if block.scopes or not block.index else None,
            child,
            parent_where=_records(block.where),
            child_where=child_where,
        )
        for place, (verdict, detail) in enumerate(verdicts):
            if verdict == 1:
                continue
            text = str(draft.scopes[place]) if child else "where " + " and ".join(map(str, draft.where))
            part = f"{text}: {detail}"
            if verdict < 0:
                raise WidensAuthority(f"{block.name} can never satisfy {part}", part)
            unproven.setdefault(text, f"it is not proven that {block.name} permits all of {part}")
    return list(unproven.items())


def _records(items: Iterable[Scope | Condition]) -> list[dict[str, object]]:
    return [item.to_record() for item in items]
