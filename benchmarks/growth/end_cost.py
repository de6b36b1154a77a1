"""Cost of the end of a session with a hundred thousand descendant tokens, and of one with none.

Children are made offline by whoever holds an open token: no state knows of them. So they are made here, each
with its own signature, a sample of them is presented before and after the end, and what is timed is
the one durable write that makes all of them worthless.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from benchmarks import tokens
from benchmarks.growth.growing_state import ISSUER_SEED, send
from benchmarks.measure import NS_PER_US, Measurement
from benchmarks.state_setup import opening
from benchmarks.tokens import ARGUMENTS, AUDIENCE, RESOURCE, eight_scopes
from benchmarks.workloads import WrongDecision
from sessauth._fast import _check as kernel
from sessauth._fast._check import Chain, signed_bytes
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import add_key, end_session
from sessauth.reasons import Reason
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Issuer
from sessauth.verifier.verifier import Verifier

CHILDREN: Final = {True: 2_000, False: 100_000}
SAMPLE: Final = 1_000
ROUNDS: Final = 11
SIGNATURE_BYTES: Final = 64
NAMES: Final = ("end/without-children", "end/with-children")
# Every row, and the floor that it is measured against.
ROWS: Final = {NAMES[0]: "", NAMES[1]: NAMES[0]}


@dataclass(frozen=True)
class Family:
    """A session's open root, as a holder has it: its chain, and the seed that signs its children."""

    session_id: bytes
    chain: Chain
    seed: bytes

    def children(self, count: int) -> Iterator[bytes]:
        """Yield sealed children, each of one block that says nothing but its own label.

        They are what ``attenuate`` gives, without comparing the same scopes a hundred thousand times.
        """
        secret = crypto_sign_seed_keypair(self.seed)[1]
        before, above = self.chain.raw, self.chain.signatures[-1]
        for number in range(count):
            payload = kernel.encode_message("Block", {"ending": 1, "label": f"agent-{number}"})
            message = signed_bytes(self.chain.block_count, above, payload)
            block = {"signature": crypto_sign(message, secret)[:SIGNATURE_BYTES], "payload": payload}
            yield before + kernel.encode_message("Token", {"version": 0, "blocks": [block]})


def family(issuer: Issuer, session_id: bytes) -> Family:
    """Return the family of a session; raises RuntimeError if its children are not what the format wants."""
    root = tokens.mint(issuer, session_id, eight_scopes(), "open")
    made = Family(session_id, root._chain, root._seed)
    (child,) = made.children(1)
    if child != root.attenuate(label="agent-0").data:
        raise RuntimeError("a child that was made in bulk is not what attenuate() makes")
    return made


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Yield the rows whose names hold ``only``: one end with children and one without, in turn."""
    if not any(only in name for name in NAMES):
        return
    count = CHILDREN[quick]
    key = IssuerKey(ISSUER_SEED)
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    with StateWriter.open(folder / "ending", create=True) as writer:
        send(writer, [add_key("bench-key", key.public_key, status=KeyStatus.ACTIVE)])
        verifier = Verifier(writer.source(), audience=AUDIENCE)
        for number in range(ROUNDS + 1):
            for name in NAMES:
                session_id = kernel.digest(f"{name}-{number}".encode())[:16]
                neighbour = kernel.digest(session_id)[:16]
                send(writer, [opening(session_id), opening(neighbour)])
                # The same work goes before either end: without children it is done for a neighbour's.
                parents = (session_id, count) if name == NAMES[1] else (neighbour, SAMPLE)
                sample = _sample(family(Issuer(key), parents[0]), parents[1])
                _require(verifier, sample, Reason.ALLOWED)
                times[name].append(_end(writer, session_id))
                _require(verifier, sample, Reason.SESSION_ENDED if name == NAMES[1] else Reason.ALLOWED)
    yield from _rows({name: each[1:] for name, each in times.items()}, count, only)


def _sample(made: Family, count: int) -> list[bytes]:
    """Make all the children and return an evenly drawn sample of them."""
    step = max(1, count // SAMPLE)
    return [child for number, child in enumerate(made.children(count)) if number % step == 0]


def _require(verifier: Verifier, sample: list[bytes], reason: Reason) -> None:
    for child in sample:
        decision = verifier.check(child, "read", RESOURCE, ARGUMENTS)
        if decision.reason is not reason:
            raise WrongDecision(f"a child of the session: {decision.reason.name}, not {reason.name}")


def _end(writer: StateWriter, session_id: bytes) -> float:
    """End the session; returns us until that was durable. Raises RuntimeError if it took two changes."""
    change = end_session(f"bench-end-{session_id.hex()}", session_id)
    before = writer.head().seq
    started = time.perf_counter_ns()
    outcome = writer.submit(change).result(timeout=60)
    ended = time.perf_counter_ns()
    outcome.raise_if_rejected()
    if writer.head().seq != before + 1:
        raise RuntimeError("ending a session wrote more than one change")
    return (ended - started) / NS_PER_US


def _rows(times: dict[str, list[float]], children: int, only: str) -> Iterator[Measurement]:
    without, with_children = (tuple(times[name]) for name in NAMES)
    rows = (
        Measurement(NAMES[0], "", without, ()),
        Measurement(
            NAMES[1],
            NAMES[0],
            with_children,
            without,
            extra={"children": children, "presented before and after": min(SAMPLE, children)},
        ),
    )
    yield from (row for row in rows if only in row.name)
