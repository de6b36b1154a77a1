"""Limits the work of failed signatures for each peer.

A forger who knows a live session makes the server verify a signature with every try. Each peer (the
principal, and the agent's address as the gateway read it) has a bucket of failures that refills with time.
While it is empty, a token of that peer that was not verified before is denied before its signatures are
verified. Verified tokens, and those of other peers, are checked as before.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Final

MAX_PEERS: Final = 10_000


class FailedSignatures:
    """A bucket of failures for each peer; the least recently used buckets are evicted first."""

    def __init__(self, burst: int, per_second: int) -> None:
        """Let a peer fail ``burst`` times at once, and regain ``per_second`` failures each second."""
        self._burst = float(burst)
        self._per_second = float(per_second)
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self.gates = Gates(self)

    def exhausted(self, peer: tuple[str, str]) -> bool:
        """Return True if the peer has used up its failures. One lookup for a peer that never failed."""
        if peer not in self._buckets:
            return False
        with self._lock:
            return self._left(peer) < 1.0

    def failed(self, peer: tuple[str, str]) -> None:
        """Take one failure from the peer's bucket."""
        with self._lock:
            left = self._left(peer)
            self._buckets[peer] = (max(0.0, left - 1.0), time.monotonic())
            self._buckets.move_to_end(peer)
            while len(self._buckets) > MAX_PEERS:
                self._buckets.popitem(last=False)

    def _left(self, peer: tuple[str, str]) -> float:
        now = time.monotonic()
        left, at = self._buckets.get(peer, (self._burst, now))
        return min(self._burst, left + (now - at) * self._per_second)


class Gate:
    """The buckets of one principal's peers, by the agent's address."""

    __slots__ = ("_failures", "_principal")

    def __init__(self, failures: FailedSignatures, principal: str) -> None:
        """Open to the peers of ``principal`` whose bucket in ``failures`` is not exhausted."""
        self._failures = failures
        self._principal = principal

    def may_fail(self, source: str) -> bool:
        """Return True if signatures may be verified for an agent at ``source``."""
        return not self._failures.exhausted((self._principal, source))

    def failed(self, source: str) -> None:
        """Count a signature that was wrong."""
        self._failures.failed((self._principal, source))


class Gates(dict[str, Gate]):
    """The gate of each principal, made on first use: there are as many as credentials.

    Other hosts of a cluster may state any number of principals, so not all of them are stored.
    """

    def __init__(self, failures: FailedSignatures) -> None:
        """Begin with none; each will use ``failures``."""
        super().__init__()
        self._failures = failures

    def __missing__(self, principal: str) -> Gate:
        """Make the gate of a principal."""
        gate = Gate(self._failures, principal)
        if len(self) < MAX_PEERS:
            self[principal] = gate
        return gate
