"""A state folder that grows, written by the real log, and the hot set of tokens that it is asked about."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from benchmarks.growth.bulk_tokens import Mint
from benchmarks.state_setup import CEILING, SEED
from benchmarks.tokens import ARGUMENTS, AUDIENCE, HOUR_MS, RESOURCE, eight_scopes
from benchmarks.workloads import Call, Workload
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.limits import MAX_REVOKE_BLOCK_IDS
from sessauth.model.change import Change, ChangeOutcome, add_key, open_session, revoke
from sessauth.scopes.scope import Scope
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.verifier.verifier import Verifier

HOT: Final = 1000
MAP_BYTES: Final = 4 << 30
# Changes in flight, so that they share commits and the queue never fills.
IN_FLIGHT: Final = 2048
ISSUER_SEED: Final = random.Random(SEED).randbytes(32)
_CEILING: Final = [dict(Scope.parse(CEILING[0]).to_record())]


def session_id(number: int) -> bytes:
    """Return the id of the session of a number; the first ``HOT`` are those that are asked about."""
    return hashlib.blake2b(b"session %d" % number, digest_size=16).digest()


def hot_set() -> Workload:
    """Return one call for each of the sessions that are asked about, with tokens of one block."""
    mint = Mint(ISSUER_SEED, [session_id(number) for number in range(HOT)], eight_scopes())
    calls = tuple(Call(token, "read", RESOURCE, ARGUMENTS) for token in mint.take(HOT))
    return Workload("hot-set", calls)


class Grown:
    """A state folder with an issuer key, sessions and revocations. Closed while it is not written."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self.folder = folder
        self.sessions = 0
        self.revocations = 0
        public_key = IssuerKey(ISSUER_SEED).public_key
        with StateWriter.open(folder, create=True, map_size=MAP_BYTES) as writer:
            send(writer, [add_key("bench-key", public_key, status=KeyStatus.ACTIVE)])

    def open_to(self, count: int) -> float:
        """Open sessions until there are so many; returns us per session."""
        made = range(self.sessions, count)
        started = time.perf_counter()
        with StateWriter.open(self.folder) as writer:
            send(writer, map(_opening, made))
        self.sessions = count
        return (time.perf_counter() - started) * 1e6 / len(made)

    def revoke_to(self, count: int) -> float:
        """Revoke blocks until there are so many, an equal share in each hot session; returns us for each."""
        each = (count - self.revocations) // HOT
        started = time.perf_counter()
        with StateWriter.open(self.folder) as writer:
            before = self.revocations
            send(writer, itertools.chain.from_iterable(_revoking(n, before, each) for n in range(HOT)))
        self.revocations += each * HOT
        return (time.perf_counter() - started) * 1e6 / (each * HOT)

    def read(self) -> StateReader:
        """Open it as an embedded verifier does."""
        return StateReader.open(self.folder)


def verifier(reader: StateReader, cache_bytes: int, session_cache_bytes: int = 0) -> Verifier:
    """Return a verifier with an empty cache and an empty view."""
    return Verifier(
        reader, audience=AUDIENCE, cache_bytes=cache_bytes, session_cache_bytes=session_cache_bytes
    )


def used_bytes(reader: StateReader) -> int:
    """Return how much of the data file holds something."""
    return (int(reader.env.info()["last_pgno"]) + 1) * int(reader.env.stat()["psize"])


def send(writer: StateWriter, changes: Iterable[Change]) -> None:
    """Write changes, many to a commit; raises Rejected for the first that was not applied."""
    waiting: deque[Future[ChangeOutcome]] = deque()
    for change in changes:
        waiting.append(writer.submit(change))
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().result(timeout=120).raise_if_rejected()
    while waiting:
        waiting.popleft().result(timeout=120).raise_if_rejected()


def _opening(number: int) -> Change:
    made = session_id(number)
    return open_session(f"bench-open-{number}", made, _CEILING, subject="agent-7", ttl_ms=6 * HOUR_MS)


def _revoking(number: int, before: int, count: int) -> list[Change]:
    """Return the changes that revoke ``count`` more blocks of a hot session."""
    source = random.Random(f"{number}/{before}")
    blocks = [source.randbytes(32) for _ in range(count)]
    parts = [blocks[at : at + MAX_REVOKE_BLOCK_IDS] for at in range(0, count, MAX_REVOKE_BLOCK_IDS)]
    name = f"bench-revoke-{number}-{before}"
    return [revoke(f"{name}-{part}", session_id(number), ids) for part, ids in enumerate(parts)]
