"""Stage ``proof``: warm checks of bound tokens, each with a proof that is taken, against one signature.

Every call has a new proof, made when the inputs are, so the replay table takes a nonce for each that is
timed. The agreement of a token's holder with the host, once for a token, is behind the first check.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks import floors, tokens, workloads
from benchmarks.floors import fresh
from benchmarks.measure import Extra, NotMeasured, Row
from benchmarks.state_setup import World
from benchmarks.tokens import ARGUMENTS, RESOURCE
from benchmarks.workloads import WrongDecision
from sessauth._fast._check import ProofKeys, ReplayTable, x25519_public
from sessauth.clock import SystemClock
from sessauth.crypto.keys import VerifierKey
from sessauth.reasons import Reason
from sessauth.tokens.prover import HolderKey

# Holders that take turns, so that none uses up its share of the table.
HOLDERS: Final = 64
# What a server makes.
SLOTS: Final = 1 << 20
# Nonces that are taken before anything is timed: by then each page of the table was written once, as in a
# table that is in use.
TAKEN_BEFORE: Final = 1 << 14
# Checks of a block, by kind: less than a millisecond.
CALLS: Final = {"mac": 200, "ed25519": 12}


class Host:
    """Keys and replay table by which a host judges proofs; holders prove for ``key``."""

    def __init__(self, world: World) -> None:
        """Make a key that counts from now on, and a table beside the state."""
        secret, now_ms = os.urandom(32), SystemClock().now_ms()
        verifier_id, ends_ms = os.urandom(16), now_ms + 6 * tokens.HOUR_MS
        public = x25519_public(secret)
        path = world.state_dir.parent / f"replay-{verifier_id.hex()}"
        table = ReplayTable.create(path, SLOTS, now_ms)
        for _ in range(TAKEN_BEFORE):
            nonce, holder = os.urandom(16), os.urandom(32)
            table.insert(bytes(64), nonce, holder, now_ms, now_ms)
        # A key that counts a minute ago: blocks are prepared with the clock of the moment.
        self.proofs = ProofKeys(verifier_id, [(public, secret, now_ms - 60_000, ends_ms)], table)
        self.key = VerifierKey(verifier_id, public, now_ms - 60_000, ends_ms, bytes(16))


class Proved:
    """Warm checks of bound roots of eight scopes by a proof of one kind, ``mac`` or ``ed25519``."""

    def __init__(self, name: str, world: World, host: Host, kind: str) -> None:
        """Raise WrongDecision if a proof is refused, or is good twice."""
        self.name = name
        self.calls = CALLS[kind]
        self._kind, self._host = kind, host
        self._verifier = world.verifier()
        self._verifier.proofs = host.proofs
        keys = [HolderKey.generate() for _ in range(HOLDERS)]
        self._holders = [
            (key, tokens.mint(world.issuer, world.session_id, tokens.eight_scopes(), to=key.public))
            for key in keys
        ]
        self._turn = 0
        for call in self.prepare(HOLDERS):
            self._require(call, Reason.ALLOWED)
            self._require(call, Reason.REPLAYED)

    def prepare(self, count: int) -> Sequence[Any]:
        """Return calls of the holders in turn, each with a proof that was not used."""
        calls = []
        for _ in range(count):
            key, token = self._holders[self._turn % HOLDERS]
            self._turn += 1
            proof = key.prove(token, "read", RESOURCE, ARGUMENTS, self._host.key, kind=self._kind)
            calls.append((fresh(token.data), "read", RESOURCE, fresh(ARGUMENTS), proof))
        return calls

    def run(self, items: Sequence[Any]) -> None:
        """Check each."""
        check = self._verifier.check
        for token, action, resource, arguments, proof in items:
            check(token, action, resource, arguments, proof=proof)

    def extra(self) -> Extra:
        """Raise NotMeasured if the table had no room in the end."""
        if not all(self._check(call).allowed for call in self.prepare(HOLDERS)):
            raise NotMeasured("the replay table is full")
        return {}

    def _check(self, call: Any) -> Any:
        token, action, resource, arguments, proof = call
        return self._verifier.check(token, action, resource, arguments, proof=proof)

    def _require(self, call: Any, reason: Reason) -> None:
        found = self._check(call).reason
        if found is not reason:
            raise WrongDecision(f"{self.name}: {found.name}, not {reason.name}")


def rows(world: World, module: Any) -> Iterator[Row]:
    """Yield a row for each kind."""
    host = Host(world)
    roots = [call.token for call in workloads.root(world, 4).calls]
    bare = floors.signatures(module, "floor/signatures-1", roots, world.key.public_key)
    for kind in CALLS:
        proved = Proved(f"proof/{kind}", world, host, kind)
        yield Row(proved, bare, proved.extra)
