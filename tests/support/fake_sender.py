"""A sender that stores the batches it is handed, and fails when a test says so."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sessauth.usage.session_usage import ObservationAck, ObservationBatch, SessionObservation


@dataclass
class Listener:
    """A control process that a test has in its hand."""

    wants_usage: bool = False
    control_id: bytes = bytes(16)
    failure: Exception | None = None
    # Every batch, also those that were answered with a failure.
    received: list[ObservationBatch] = field(default_factory=list)
    acknowledged: dict[int, ObservationBatch] = field(default_factory=dict)
    came: threading.Event = field(default_factory=threading.Event)

    def report_observations(self, batch: ObservationBatch) -> ObservationAck:
        """Accept a batch, unless it is time to fail."""
        self.received.append(batch)
        self.came.set()
        if self.failure is not None:
            raise self.failure
        self.acknowledged[batch.number] = batch
        return ObservationAck(self.control_id, self.wants_usage)

    def total(self, session_id: bytes) -> SessionObservation:
        """Return the sum of a session's observations."""
        total = SessionObservation(session_id)
        # A copy: the thread of the sink may report meanwhile.
        for batch in tuple(self.acknowledged.values()):
            for seen in batch.sessions:
                if seen.session_id == session_id:
                    total.add(seen, 1 << 30)
        return total
