"""Adding a block to a chain, and the comparison of a new block with the blocks above it.

Intersection never adds authority. So the checks here serve people: a mistake is
named when it is made and not when a call is denied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import reduce

from .. import limits
from .._fast import _check as kernel
from .._fast._check import Chain
from ..crypto.armor import presented_text
from ..crypto.keys import HolderSigner
from ..errors import NotExtendable, UsageError, WidensAuthority
from ..scopes import containment
from ..scopes.containment import unmet_need
from ..scopes.scope import Condition, Scope
from .block_draft import Draft, Signed, Signer, check_holder
from .inspection import BlockInfo, Ending, read_blocks

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
        signer,
        before=chain.raw,
        index=chain.block_count,
        previous_signature=chain.signatures[-1],
    )
    return signed, (*(message for _, message in unproven), *warnings_of(signed.chain, draft.scopes))


def check_extendable(chain: Chain, seed: bytes, key: HolderSigner | None, ending: Ending) -> Signer:
    """Return the signer of the next block; refuse a chain that can't take one more with this ending.

    Raises:
        NotExtendable: as :func:`extend`.
        UsageError: if a key was given for an open chain.
    """
    signer = _signer(chain, seed, key)
    # An open block needs space for the sealed one that present() adds.
    room = chain.max_blocks - chain.block_count - (ending is Ending.OPEN)
    if room < 1:
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
    chars = len(presented_text(chain.raw))
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
    texts = [str(s) for s in draft.scopes] or ["where " + " and ".join(map(str, draft.where))]
    unproven: dict[str, str] = {}
    for block in blocks:
        verdicts = containment.compare(
            _records(block.scopes) if block.scopes or not block.index else None,
            child,
            parent_where=_records(block.where),
            child_where=child_where,
        )
        for text, (verdict, detail) in zip(texts, verdicts, strict=True):
            part = f"{text}: {detail}"
            if verdict < 0:
                raise WidensAuthority(f"{block.name} can never satisfy {part}", part)
            if verdict == 0:
                unproven.setdefault(text, f"it is not proven that {block.name} permits all of {part}")
    return list(unproven.items())


def _records(items: Iterable[Scope | Condition]) -> list[dict[str, object]]:
    return [item.to_record() for item in items]
