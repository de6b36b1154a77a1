"""Package and oracle agree on whether a call is approved, for every generated heap of approvals."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.oracle import approvals as oracle
from tests.oracle.approvals import Held, Verdict, Wanted
from tests.oracle.crypto import digest
from tests.oracle.wire import decode, encode
from tests.support.approvals_judged import judged
from tests.support.cases import CASES
from tests.support.token_forger import id16
from tests.vectors.cases_approvals import APPROVAL, NAMES, OTHER, SMALL_ORDER, WANTED, sign, statement
from tests.vectors.world import NOW

ROUNDS = CASES // 10
SEED = int(os.environ.get("SESSAUTH_SEED", "1"))

# What a statement may say instead; most of it makes it count for nothing.
FIELDS: dict[str, tuple[Any, ...]] = {
    "id": (OTHER, OTHER, b"", APPROVAL[:15]),
    "session_id": (id16("another"),),
    "block_id": (digest(b"another"), b""),
    "block": (0, 2),
    "scope": (1, 3),
    "epoch": (6, 8),
    "request_digest": (digest(b"another"),),
    "expires_at_ms": (0, NOW, NOW + 1, NOW + 1, NOW + 2, 2**53 - 1, 2**53),
}


def statement_of(random: Random) -> bytes:
    """An encoded statement, often the right one."""
    changes = {}
    if random.random() < 0.3:
        name = random.choice(sorted(FIELDS))
        changes[name] = random.choice(FIELDS[name])
    return statement(**changes)


def signed(random: Random) -> bytes:
    """An encoded SignedApproval, by a key that is named or by another, sometimes changed afterwards."""
    name = random.choice([*NAMES, *NAMES, "dan"])
    data = sign(name, statement_of(random))
    if random.random() < 0.1:
        data = random.choice(CHANGES)(data, random)
    return data


def _flip(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def _more(data: bytes, random: Random) -> bytes:
    return data + bytes(random.randrange(1, 4))


def _small_order(data: bytes, random: Random) -> bytes:
    return encode(
        "SignedApproval",
        {**decode("SignedApproval", data), "public_key": SMALL_ORDER, "signature": bytes(64)},
    )


CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _cut, _more, _small_order)


def held_of(random: Random) -> Held | None:
    """Return a possible record of the state: statements valid when they were stored, of distinct keys."""
    if random.random() < 0.4:
        return None
    names = random.sample(NAMES, random.choice([0, 1, 1, 2]))
    ends = (NOW - 1, NOW, NOW + 1, NOW + 1000)
    statements = [sign(name, statement(expires_at_ms=random.choice(ends))) for name in names]
    ends_ms = random.choice([NOW, NOW + 1, NOW + 1000, NOW + 1000])
    return Held(APPROVAL, ends_ms, random.random() < 0.15, statements)


def wanted_of(random: Random) -> Wanted:
    """The call; its scope names some keys, and some of them must sign."""
    keys = random.sample(WANTED.keys, random.choice([1, 2, 3, 3, 3]))
    if random.random() < 0.1:
        keys = [SMALL_ORDER, *keys]
    return replace(WANTED, keys=tuple(keys), threshold=random.randint(1, min(2, len(keys))))


def test_package_agrees_with_oracle() -> None:
    """No heap has two outcomes, and each outcome comes up often."""
    found: Counter[Verdict] = Counter()
    for number in range(ROUNDS):
        random = Random(f"{SEED} {number}")
        given = [signed(random) for _ in range(random.choice([0, 0, 1, 1, 2, 2, 3]))]
        used = {random.choice([APPROVAL, OTHER])} if random.random() < 0.1 else set()
        case = (given, held_of(random), used, wanted_of(random), NOW)

        expected = oracle.judge(*case)

        assert judged(*case) == expected, f"case {SEED} {number}"
        found[expected[0]] += 1
    assert all(found[verdict] >= ROUNDS // 100 for verdict in Verdict), found
