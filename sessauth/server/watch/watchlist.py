"""The watchlist of one stream: allowed calls, checked again when their answer may have changed.

They are checked by the verifier of the process alone, without proof, approvals or retry id: a call was
charged for when it was allowed, and its proof counted then. So a call that was allowed with a proof or at a
price ends here at stage proof or needs, as long as all stages before still allow it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...limits import MAX_TIME_MS, MAX_TOKEN_BYTES
from ...reasons import Stage
from ...verifier.verifier import Verifier

if TYPE_CHECKING:
    from ..._fast._check import Batch
    from ...decisions.decision import Decision

# Memory of a watched call beside its bytes. Its token's chain is held too, at up to three times its size.
CALL_BYTES: Final = 1024
CHAIN_FACTOR: Final = 3
# Recheck period of a due call that is still allowed (its lease was renewed, and a denial has no new time).
RECHECK_MS: Final = 100


def weight_of(request_bytes: int) -> int:
    """Return the memory of a watched call, in bytes, by the size of its request."""
    return request_bytes + CHAIN_FACTOR * min(request_bytes, MAX_TOKEN_BYTES) + CALL_BYTES


@dataclass(slots=True)
class Watched:
    """An allowed call.

    ``call`` is an item of ``Verifier.check_batch``. ``expires_at_ms`` is the earliest moment at which time
    alone can end the allow. ``paid`` is the stage, proof or needs, at which the call ends here although it is
    allowed; NONE for most.
    """

    id: int
    call: tuple[Any, ...]
    audience: str
    token: bytes
    weight: int
    expires_at_ms: int
    paid: Stage = Stage.NONE

    def is_allowed(self, decision: Decision) -> bool:
        """Return True if the allow still holds by this decision."""
        return decision.allowed or decision.stage == self.paid != Stage.NONE


class Withdrawal(NamedTuple):
    """A call that is no longer allowed, with its decision's batch and place in it."""

    watched: Watched
    batch: Batch
    place: int


class Watchlist:
    """The watched calls of one stream. Safe to use from several threads.

    ``on_withdrawn`` is called with withdrawals while the list is locked. So once :meth:`remove` returned
    there is no later withdrawal of that id.
    """

    def __init__(self, verifier: Verifier, on_withdrawn: Callable[[Sequence[Withdrawal]], None]) -> None:
        """Check by ``verifier``."""
        self._verifier = verifier
        self._on_withdrawn = on_withdrawn
        self._lock = threading.Lock()
        self._calls: dict[int, Watched] = {}
        self.weight = 0
        # The earliest moment at which time alone can end an allow.
        self.due_ms = MAX_TIME_MS

    def __len__(self) -> int:
        """Return the number of watched calls."""
        return len(self._calls)

    def add(self, watched: Watched) -> None:
        """Watch a call. It is checked at once: the state may have changed since it was allowed."""
        with self._lock:
            self._calls[watched.id] = watched
            self.weight += watched.weight
            # Its decision was recorded when it was answered.
            batch = self._verifier._check_batch([watched.call], audience=watched.audience, record=False)
            decision = batch[0]
            if decision.stage in (Stage.PROOF, Stage.NEEDS):
                watched.paid = decision.stage
            self._judge(batch, [watched], 0, [])
            self.due_ms = min(self.due_ms, watched.expires_at_ms or MAX_TIME_MS)

    def remove(self, stream_id: int) -> bool:
        """Stop watching a call; True if it was watched."""
        with self._lock:
            return self._drop(stream_id)

    def recheck(self, now_ms: int) -> None:
        """Check all calls again, those of one audience by one state and one time."""
        with self._lock:
            by_audience: defaultdict[str, list[Watched]] = defaultdict(list)
            for watched in self._calls.values():
                by_audience[watched.audience].append(watched)
            due = [MAX_TIME_MS]
            for audience, calls in by_audience.items():
                batch = self._verifier._check_batch(
                    [watched.call for watched in calls], audience=audience, record=False
                )
                if batch.all_allowed and now_ms < self.due_ms:
                    due.append(self.due_ms)
                else:
                    self._judge(batch, calls, now_ms, due)
            self.due_ms = min(due)

    def _judge(self, batch: Batch, calls: Sequence[Watched], now_ms: int, due: list[int]) -> None:
        """Withdraw the calls no longer allowed; add the others' next recheck times to ``due``."""
        withdrawn = []
        for place, (watched, decision) in enumerate(zip(calls, batch, strict=True)):
            if not watched.is_allowed(decision):
                withdrawn.append(Withdrawal(watched, batch, place))
                self._verifier.record_batch_item(batch, place, watched=True)
                continue
            if decision.allowed:
                watched.expires_at_ms = decision.expires_at_ms
            if watched.expires_at_ms:
                ahead = watched.expires_at_ms > now_ms
                due.append(watched.expires_at_ms if ahead else now_ms + RECHECK_MS)
        for withdrawal in withdrawn:
            self._drop(withdrawal.watched.id)
        if withdrawn:
            self._on_withdrawn(withdrawn)

    def _drop(self, stream_id: int) -> bool:
        watched = self._calls.pop(stream_id, None)
        if watched is not None:
            self.weight -= watched.weight
        return watched is not None
