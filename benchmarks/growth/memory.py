"""Weight of a cached chain, in a fresh process, against three times its bytes and 512 more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import tokens
from benchmarks.growth import rss_process
from benchmarks.growth.growing_state import ISSUER_SEED, Grown, session_id
from benchmarks.growth.rss_process import WARM_UP
from benchmarks.measure import Measurement
from sessauth.crypto.keys import IssuerKey
from sessauth.tokens.token import Issuer

FLOOR: Final = "3 x bytes + 512"
# Chains of so many blocks, and how many of them are weighed: some megabytes, so that pages are many.
CHAINS: Final = {1: 2000, 4: 500, 16: 160}
# Every row, and the floor that it is measured against.
ROWS: Final = {f"memory/chain-{blocks}": FLOOR for blocks in CHAINS}
ROUNDS: Final = {True: 3, False: 7}
# No session's share of it and nothing else bounds what is kept while it is weighed.
CACHE_BYTES: Final = 1 << 30


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``."""
    chosen = [blocks for blocks in CHAINS if only in f"memory/chain-{blocks}"]
    if not chosen:
        return
    grown = Grown(folder / "memory")
    grown.open_to(WARM_UP)
    for blocks in chosen:
        yield _row(grown, folder / f"chains-{blocks}", blocks, ROUNDS[quick])


def _row(grown: Grown, file: Path, blocks: int, rounds: int) -> Measurement:
    """Weigh chains of which no two share a block.

    They are of the sessions that the first few are of, which are not weighed: nor are those sessions.
    """
    issuer = Issuer(IssuerKey(ISSUER_SEED))
    count = CHAINS[blocks]
    made = [
        tokens.chain(issuer, session_id(number % WARM_UP), blocks).data for number in range(count + WARM_UP)
    ]
    size = sum(map(len, made)) / len(made)
    rss_process.write_tokens(file, made)
    order = {"state_dir": str(grown.folder), "tokens": str(file), "cache_bytes": CACHE_BYTES}
    answers = [rss_process.ask(order) for _ in range(rounds)]
    file.unlink()
    if any(answer["chains"] != count for answer in answers):
        raise RuntimeError(f"memory/chain-{blocks}: not every chain was kept")
    return Measurement(
        name=f"memory/chain-{blocks}",
        floor=FLOOR,
        rounds=tuple(answer["anon"] / count for answer in answers),
        floor_rounds=(3 * size + 512,) * rounds,
        unit="bytes",
        extra={
            "chain bytes": size,
            "by the cache's own count": answers[-1]["cached_bytes"] / (count + WARM_UP),
            "chains": count,
        },
    )
