"""A hot set of 1,000 tokens in a cache that holds ever more chains: warm checks, and new tokens."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.growth import growing_state as state
from benchmarks.growth import rss_process
from benchmarks.growth.bulk_tokens import Mint
from benchmarks.growth.growing_state import HOT, ISSUER_SEED, Grown, hot_set, session_id
from benchmarks.growth.state_size import COLD_CALLS, KINDS, PLANS
from benchmarks.measure import Loop, Measurement, measure, not_measured
from benchmarks.stages.checks import checking, fresh_calls
from benchmarks.tokens import ARGUMENTS, RESOURCE, eight_scopes
from benchmarks.workloads import Workload, WrongDecision
from sessauth.state.lmdb.reader import StateReader
from sessauth.verifier.verifier import Verifier

SIZES: Final = {True: (10_000,), False: (10_000, 1_000_000)}
# Every row, and the floor that it is measured against.
ROWS: Final = {
    f"growth/chains-{size}-{kind}": f"growth/chains-{HOT}-{kind}" for size in SIZES[False] for kind in KINDS
}
# Nothing is dropped: the cache may hold more than the largest size takes.
CACHE_BYTES: Final = 16 << 30
# What a chain may take while it is decided whether this machine has room for a million of them.
BYTES_EACH: Final = 6_000


class Cache:
    """A verifier whose cache holds the hot set and so many other chains."""

    def __init__(self, reader: StateReader, hot: Workload, salt: int) -> None:
        """Present the hot set; another salt gives other tokens later."""
        self.verifier: Verifier = state.verifier(reader, CACHE_BYTES, CACHE_BYTES)
        self._hot = hot
        sessions = [session_id(number) for number in range(HOT)]
        self._mint = Mint(ISSUER_SEED, sessions, eight_scopes(), salt=salt)
        hot.require_decisions(self.verifier)

    def fill_to(self, count: int) -> None:
        """Present new tokens until there are so many chains; raises WrongDecision if one is denied."""
        for token in self._mint.take(count - self.verifier.cached_chains):
            if not self.verifier.check(token, "read", RESOURCE, ARGUMENTS):
                raise WrongDecision("growth/chains: a token was denied")
        if self.verifier.cached_chains != count:
            raise RuntimeError(f"the cache has {self.verifier.cached_chains} chains, not {count}")

    def warm(self, name: str) -> Loop:
        """Return checks of the hot set in turn."""
        return Loop(name, HOT, lambda count: fresh_calls(self._hot, count), checking(self.verifier))

    def cold(self, name: str) -> Loop:
        """Return checks of tokens that were never presented; each is kept."""

        def prepare(count: int) -> Sequence[Any]:
            return [(token, "read", RESOURCE, ARGUMENTS, b"") for token in self._mint.take(count)]

        return Loop(name, COLD_CALLS, prepare, checking(self.verifier))


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``; a size that this machine has no room for says so."""
    chosen = [n for n in SIZES[quick] if any(only in f"growth/chains-{n}-{kind}" for kind in KINDS)]
    if not chosen:
        return
    grown = Grown(folder / "chains")
    grown.open_to(HOT)
    reader = grown.read()
    try:
        yield from _rows(reader, chosen, quick=quick, only=only)
    finally:
        reader.close()


def _rows(reader: StateReader, sizes: Sequence[int], *, quick: bool, only: str) -> Iterator[Measurement]:
    hot = hot_set()
    base, ours = Cache(reader, hot, salt=1), Cache(reader, hot, salt=2)
    before = rss_process.memory()["RssAnon"]
    for size in sizes:
        names = {kind: f"growth/chains-{size}-{kind}" for kind in KINDS}
        names = {kind: name for kind, name in names.items() if only in name}
        floors = {kind: f"growth/chains-{HOT}-{kind}" for kind in KINDS}
        room = available_bytes()
        if room < size * BYTES_EACH:
            why = f"{size} chains need {size * BYTES_EACH / 1e9:.1f} GB, {room / 1e9:.1f} GB are free"
            yield from (not_measured(name, floors[kind], why) for kind, name in names.items())
            continue
        ours.fill_to(size)
        gc.collect()
        # A small cache fits into what the process has freed before, and its resident memory does not grow.
        extra = {
            "chains": float(ours.verifier.cached_chains),
            "MB by the cache's own count": ours.verifier.cached_bytes / 1e6,
            "own MB more": (rss_process.memory()["RssAnon"] - before) / 1e6,
        }
        if "warm" in names:
            warm = measure(ours.warm(names["warm"]), base.warm(floors["warm"]), PLANS[quick])
            yield replace(warm, extra=extra)
        if "cold" in names:
            # Those that this keeps come on top, the same number in both.
            cold = measure(ours.cold(names["cold"]), base.cold(floors["cold"]), PLANS[quick])
            yield replace(cold, extra=extra)
        base = Cache(reader, hot, salt=3 + size)


def available_bytes() -> int:
    """Return what the system could give without swapping."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
