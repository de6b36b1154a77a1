"""What there is to tell of the end of sessions, by whoever keeps account of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...metrics.samples import family
from ...model.receipt import ReceiptState, VerifierState
from . import families as f

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from ..events.late_uses import UsesAfterEnd
    from ..events.publisher import SessionEventPublisher
    from ..evidence.receipts import ReceiptIssuer as Receipts
    from ..evidence.registry import VerifierRegistry

RECEIPT_STATES: Final = ("closed", "partial", "unknown")
VERIFIER_STATES: Final = ("current", "late")


@dataclass(frozen=True, slots=True)
class ReceiptMetrics:
    """Numbers since the control process started, and as they stand.

    ``receipts`` are those that were given, in the order of :data:`RECEIPT_STATES`; ``used_after_end`` the
    calls in sessions that had ended; ``verifiers`` those that are enrolled, in the order of
    :data:`VERIFIER_STATES`; ``event_watchers`` the open streams of events.
    """

    receipts: tuple[int, int, int] = (0, 0, 0)
    used_after_end: int = 0
    verifiers: tuple[int, int] = (0, 0)
    event_watchers: int = 0

    def families(self) -> Iterator[Family]:
        """Yield the metrics."""
        yield family(
            f.RECEIPTS, {(state,): n for state, n in zip(RECEIPT_STATES, self.receipts, strict=True)}
        )
        yield family(f.USED_AFTER_END, self.used_after_end)
        yield family(
            f.VERIFIERS, {(state,): n for state, n in zip(VERIFIER_STATES, self.verifiers, strict=True)}
        )
        yield family(f.EVENT_WATCHERS, self.event_watchers)


def numbers_of(
    receipts: Receipts, enrolment: VerifierRegistry, uses: UsesAfterEnd, events: SessionEventPublisher
) -> ReceiptMetrics:
    """Return the numbers of those who keep account in a control process."""
    states = [state for _, state in enrolment.all()]
    late = sum(state is not VerifierState.ACKNOWLEDGED for state in states)
    given = receipts.given
    return ReceiptMetrics(
        receipts=(given[ReceiptState.CLOSED], given[ReceiptState.PARTIAL], given[ReceiptState.UNKNOWN]),
        used_after_end=uses.total,
        verifiers=(len(states) - late, late),
        event_watchers=events.watchers,
    )
