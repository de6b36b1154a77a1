"""Changes that make a chain or request wrong, or only different: in bytes, in records, in structure."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from tests.oracle.wire import MESSAGES, encode
from tests.property.random_chains import Draft
from tests.property.random_values import TEXTS
from tests.support.token_forger import Record, assemble, key, sign

_ODD_TEXTS = (
    *TEXTS,
    "a\x00",
    "x" * 1024,
    "x" * 1025,
    "{a}",
    "a\u0085",
    "**",
    "..",
    "1a",
    "10.0.0.0/33",
    "/a/",
)
_ODD_BYTES = (
    b"",
    bytes(16),
    bytes(31),
    bytes(32),
    b"\x01" + bytes(31),
    b"\xff" * 32,
    key("odd").public,
    bytes(33),
)


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, drop, insert, repeat or cut bytes."""
    if not data:
        return b"\x00"
    at = rng.randrange(len(data))
    roll = rng.randrange(7)
    if roll == 0:
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if roll == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if roll == 2:
        return data[:at]
    if roll == 3:
        return data[:at] + data[at + 1 :]
    if roll == 4:
        return data[:at] + bytes([rng.randrange(256)]) + data[at:]
    if roll == 5:
        end = min(len(data), at + rng.randint(1, 40))
        return data[:end] + data[at:end] + data[end:]
    return data + bytes([rng.randrange(256) for _ in range(rng.randint(1, 4))])


def _odd_value(rng: Random, kind: str) -> Any:
    if kind == "string":
        return rng.choice(_ODD_TEXTS)
    if kind == "bytes":
        return rng.choice(_ODD_BYTES)
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "sint64":
        return rng.choice((0, -1, 2**63 - 1, -(2**63)))
    top = {"enum": (0, 1, 2, 3, 4, 5, 6, 9, 15, 16, 77), "uint32": (0, 1, 2, 16, 17, 10**9, 2**32 - 1)}
    return rng.choice(top.get(kind, (0, 1, 2**53 - 1, 2**53, 1_800_000_000_000)))


def edit_record(rng: Random, message: str, record: Record) -> None:
    """Change one field somewhere in a record, in place."""
    while True:
        field = rng.choice(MESSAGES[message])
        value = record.get(field.name)
        nested = field.type in MESSAGES
        if field.repeated:
            items = list(value or [])
            record[field.name] = items
            roll = rng.random()
            if nested and items and roll < 0.7:
                index = rng.randrange(len(items))
                items[index] = dict(items[index])
                message, record = field.type, items[index]
                continue
            if items and roll < 0.8:
                items.append(copy.deepcopy(rng.choice(items)))
            elif items and roll < 0.9:
                items.pop(rng.randrange(len(items)))
            else:
                items.append({} if nested else _odd_value(rng, field.type))
            return
        if nested:
            if value and rng.random() < 0.9:
                record[field.name] = dict(value)
                message, record = field.type, record[field.name]
                continue
            record[field.name] = None if rng.random() < 0.5 else {}
            return
        record[field.name] = _odd_value(rng, field.type)
        return


def edited(rng: Random, draft: Draft) -> bytes:
    """A token with one field of one block changed, rightly signed."""
    blocks = [dict(block) for block in draft.blocks]
    edit_record(rng, "Block", blocks[rng.randrange(len(blocks))])
    return resigned(draft, [encode("Block", block) for block in blocks])


def with_unknown_kind(rng: Random, draft: Draft) -> bytes:
    """A token with one kind that nobody knows, rightly signed."""
    blocks = copy.deepcopy(draft.blocks)
    places: list[tuple[Record, str]] = []
    for block in blocks:
        scopes = block.get("scopes") or []
        conditions = [c for part in (block, *scopes) for c in part.get("where") or []]
        places.extend((segment, "kind") for scope in scopes for segment in scope["resource"])
        places.extend((path, "source") for scope in scopes for path in scope.get("free") or [])
        places.extend((c, name) for c in conditions for name in ("operator", "accessor"))
        places.extend((c["path"], "source") for c in conditions)
    if places:
        record, name = rng.choice(places)
        record[name] = rng.choice((6, 16, 77, 2**31 - 1, 2**31))
    return resigned(draft, [encode("Block", block) for block in blocks])


def resigned(draft: Draft, payloads: list[bytes]) -> bytes:
    """A token of other payloads, signed by the signers of the draft."""
    return assemble(payloads, sign(payloads, draft.signers[: len(payloads)]))


def mutated_payload(rng: Random, draft: Draft) -> bytes:
    """A token with bytes of one payload changed, rightly signed."""
    payloads = list(draft.payloads)
    index = rng.randrange(len(payloads))
    payloads[index] = mutate_bytes(rng, payloads[index])
    return resigned(draft, payloads)


def restructured(rng: Random, draft: Draft, other: Draft) -> bytes:
    """A token with blocks dropped, swapped, repeated or taken from another, not signed again."""
    signatures = sign(draft.payloads, draft.signers)
    pairs = list(zip(draft.payloads, signatures, strict=True))
    theirs = list(zip(other.payloads, sign(other.payloads, other.signers), strict=True))
    roll = rng.randrange(5)
    if roll == 0:
        pairs.pop(rng.randrange(len(pairs)))
    elif roll == 1:
        rng.shuffle(pairs)
    elif roll == 2:
        pairs.insert(rng.randint(0, len(pairs)), rng.choice(pairs))
    elif roll == 3:
        pairs[rng.randrange(len(pairs))] = rng.choice(theirs)
    else:
        pairs = pairs[:1] + theirs[1:]
    return assemble([p for p, _ in pairs], [s for _, s in pairs])


def forged(rng: Random, draft: Draft) -> bytes:
    """A token of which one block is signed by a key that nobody named."""
    signers = list(draft.signers)
    signers[rng.randrange(len(signers))] = key("forger")
    return assemble(draft.payloads, sign(draft.payloads, signers))
