"""A hot set of tokens in a flood of one-off ones: what stays in the cache, and what memory it takes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.floors import fresh
from benchmarks.growth import growing_state as state
from benchmarks.growth import rss_process
from benchmarks.growth.bulk_tokens import Mint
from benchmarks.growth.growing_state import HOT, ISSUER_SEED, Grown, session_id
from benchmarks.measure import Measurement
from benchmarks.state_setup import SEED
from benchmarks.tokens import ARGUMENTS, RESOURCE, eight_scopes
from benchmarks.workloads import WrongDecision
from sessauth.state.lmdb.reader import StateReader
from sessauth.verifier.verifier import DEFAULT_CACHE_BYTES

# One-off tokens presented for each check of the hot set.
TIMES: Final = 9
PIECES: Final = 10
# Hot tokens, and what the cache may hold: the same share of it in both forms. The flood is several times
# what the cache holds.
HOT_TOKENS: Final = {True: 100, False: 250}
RATE_CACHE_BYTES: Final = {True: DEFAULT_CACHE_BYTES // 10, False: DEFAULT_CACHE_BYTES // 4}
RATE_ONE_OFF: Final = {True: 20_000, False: 40_000}
ONE_OFF: Final = {True: 20_000, False: 250_000}
# The cache of the memory row: such that the flood passes through it in either form.
MEMORY_CACHE_BYTES: Final = {True: 4 << 20, False: 16 << 20}
# What a process takes beside its cache while it grows: views of the sessions, the allocator's own slack.
SLACK_BYTES: Final = 8 << 20
RATE_FLOOR: Final = "every check a hit"
MEMORY_FLOOR: Final = "1.25 x cache + 8 MiB"


# By row: the sessions of the hot set, and those that the flood comes from.
RATES: Final[dict[str, tuple[range, range]]] = {
    "flood/other-sessions": (range(100), range(100, HOT)),
    "flood/one-other-session": (range(100), range(100, 101)),
    "flood/same-session": (range(1), range(1)),
}
# Every row, and the floor that it is measured against.
ROWS: Final = {**dict.fromkeys(RATES, RATE_FLOOR), "flood/memory": MEMORY_FLOOR}


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``."""
    rates = [name for name in RATES if only in name]
    memory = only in "flood/memory"
    if not rates and not memory:
        return
    grown = Grown(folder / "flood")
    grown.open_to(HOT)
    reader = grown.read()
    try:
        for name in rates:
            yield _rate(reader, name, quick=quick)
    finally:
        reader.close()
    if memory:
        yield _memory(grown, ONE_OFF[quick], MEMORY_CACHE_BYTES[quick])


def _rate(reader: StateReader, name: str, *, quick: bool) -> Measurement:
    """Return the share of the hot set's checks that needed no signature, in pieces of the flood.

    The hot set was in the cache before the first piece, in which the flood first passes through it. The
    middle of the pieces is what it settles at; ``hit rate in all`` is of every piece.
    """
    homes, springs = ([session_id(number) for number in numbers] for numbers in RATES[name])
    hot = list(Mint(ISSUER_SEED, homes, eight_scopes()).take(HOT_TOKENS[quick]))
    flood = Mint(ISSUER_SEED, springs, eight_scopes(), salt=1)
    verifier = state.verifier(reader, RATE_CACHE_BYTES[quick])
    source = random.Random(SEED)

    def signatures(token: bytes) -> int:
        before = verifier.signatures
        if not verifier.check(fresh(token), "read", RESOURCE, ARGUMENTS):
            raise WrongDecision(f"{name}: a token was denied")
        return verifier.signatures - before

    if sum(map(signatures, hot)) != len(hot) or verifier.cached_chains != len(hot):
        raise RuntimeError(f"{name}: the hot set does not fit the cache")
    checks = RATE_ONE_OFF[quick] // TIMES // PIECES
    shares = []
    for _ in range(PIECES):
        missed = 0
        for _ in range(checks):
            missed += signatures(source.choice(hot))
            if any(not signatures(token) for token in flood.take(TIMES)):
                raise RuntimeError(f"{name}: a one-off token was in the cache already")
        shares.append(1 - missed / checks)
    return Measurement(
        name=name,
        floor=RATE_FLOOR,
        rounds=tuple(shares),
        floor_rounds=(1.0,) * PIECES,
        unit="hits a check",
        extra={
            "hit rate in all": sum(shares) / PIECES,
            "hot tokens": len(hot),
            "one-off tokens": checks * PIECES * TIMES,
            "cache bytes": RATE_CACHE_BYTES[quick],
            "chains at the end": verifier.cached_chains,
        },
    )


def _memory(grown: Grown, one_off: int, cache_bytes: int) -> Measurement:
    """Return the most that a fresh process grew by while one-off tokens passed through its cache."""
    order = {
        "state_dir": str(grown.folder),
        "cache_bytes": cache_bytes,
        "one_off": one_off,
        "sessions": HOT,
    }
    answer = rss_process.ask(order)
    return Measurement(
        name="flood/memory",
        floor=MEMORY_FLOOR,
        rounds=(answer["peak"] / 1e6,),
        floor_rounds=((cache_bytes * 1.25 + SLACK_BYTES) / 1e6,),
        unit="MB",
        extra={
            "one-off tokens": one_off,
            "cache MB": cache_bytes / 1e6,
            "MB after a quarter": answer["quarter"] / 1e6,
            "chains at the end": answer["chains"],
        },
    )
