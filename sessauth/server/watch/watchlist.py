"""What one stream watches: calls that were allowed, to be judged again when that may no longer be so.

They are judged by the verifier of the process alone, without proof, approvals or retry id: what a call
costs was paid when it was allowed, and its proof counted then. So a call that was allowed with a proof or
at a price ends, judged here, at stage proof or needs, for as long as all that stands before still allows.
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
    from ..._fast.check.batch import Batch
    from ...decisions.decision import Decision

# What keeping a call weighs beside its bytes; its token's chain is kept too, at up to three times its size.
CALL_BYTES: Final = 1024
CHAIN_FACTOR: Final = 3
# Of a call that stands although its time has come (its lease was renewed, and a denial names no new time).
LOOK_AGAIN_MS: Final = 100


def weight_of(request_bytes: int) -> int:
    """Return what a watched call weighs, in bytes, by the size of its request."""
    return request_bytes + CHAIN_FACTOR * min(request_bytes, MAX_TOKEN_BYTES) + CALL_BYTES


@dataclass(slots=True)
class Watched:
    """A call that was allowed.

    ``call`` is what ``Verifier.check_batch`` takes; ``expires_at_ms`` is the moment at which the answer can
    stop being true by time alone. ``paid`` is the stage, proof or needs, at which the call ends here
    although it is allowed; NONE for most.
    """

    id: int
    call: tuple[Any, ...]
    audience: str
    token: bytes
    weight: int
    expires_at_ms: int
    paid: Stage = Stage.NONE

    def stands(self, decision: Decision) -> bool:
        """Whether the allow is still true by what was found now."""
        return decision.allowed or decision.stage == self.paid != Stage.NONE


class Withdrawal(NamedTuple):
    """A call that is no longer allowed, and the batch and place in it that say why."""

    watched: Watched
    batch: Batch
    place: int


class Watchlist:
    """The watched calls of one stream. Safe to use from several threads.

    ``tell`` is called with what was withdrawn, before anything else can be done to the list. So once
    :meth:`forget` returned nothing more is told of that id.
    """

    def __init__(self, verifier: Verifier, tell: Callable[[Sequence[Withdrawal]], None]) -> None:
        """Judge by ``verifier``."""
        self._verifier = verifier
        self._tell = tell
        self._lock = threading.Lock()
        self._calls: dict[int, Watched] = {}
        self.weight = 0
        # The earliest moment at which time alone can end an allow.
        self.due_ms = MAX_TIME_MS

    def __len__(self) -> int:
        """Return how many calls are watched."""
        return len(self._calls)

    def keep(self, watched: Watched) -> None:
        """Watch a call from now on. It is judged at once: something may have changed since it was allowed."""
        with self._lock:
            self._calls[watched.id] = watched
            self.weight += watched.weight
            # What comes of it was noted when it was answered.
            batch = self._verifier._check_batch([watched.call], audience=watched.audience, record=False)
            decision = batch[0]
            if decision.stage in (Stage.PROOF, Stage.NEEDS):
                watched.paid = decision.stage
            self._judge(batch, [watched], 0, [])
            self.due_ms = min(self.due_ms, watched.expires_at_ms or MAX_TIME_MS)

    def forget(self, stream_id: int) -> bool:
        """Watch a call no longer; whether it was watched."""
        with self._lock:
            return self._drop(stream_id)

    def look(self, now_ms: int) -> None:
        """Judge all calls again, those of one audience by one state and one time."""
        with self._lock:
            by_audience: defaultdict[str, list[Watched]] = defaultdict(list)
            for watched in self._calls.values():
                by_audience[watched.audience].append(watched)
            due = [MAX_TIME_MS]
            for audience, calls in by_audience.items():
                batch = self._verifier._check_batch(
                    [each.call for each in calls], audience=audience, record=False
                )
                if batch.all_allowed and now_ms < self.due_ms:
                    due.append(self.due_ms)
                else:
                    self._judge(batch, calls, now_ms, due)
            self.due_ms = min(due)

    def _judge(self, batch: Batch, calls: Sequence[Watched], now_ms: int, due: list[int]) -> None:
        """Withdraw what is not allowed; add to ``due`` when the others are to be looked at again."""
        withdrawn = []
        for place, (watched, decision) in enumerate(zip(calls, batch, strict=True)):
            if not watched.stands(decision):
                withdrawn.append(Withdrawal(watched, batch, place))
                self._verifier.record_batch_item(batch, place, watched=True)
                continue
            if decision.allowed:
                watched.expires_at_ms = decision.expires_at_ms
            if watched.expires_at_ms:
                ahead = watched.expires_at_ms > now_ms
                due.append(watched.expires_at_ms if ahead else now_ms + LOOK_AGAIN_MS)
        for each in withdrawn:
            self._drop(each.watched.id)
        if withdrawn:
            self._tell(withdrawn)

    def _drop(self, stream_id: int) -> bool:
        watched = self._calls.pop(stream_id, None)
        if watched is not None:
            self.weight -= watched.weight
        return watched is not None
