"""The calls that only a verifier makes of its server: registration, and reports of observations."""

from __future__ import annotations

from ..model.receipt import Registration
from ..usage.session_usage import ObservationAck, ObservationBatch
from ._requests import operations as usage_calls
from ._requests import sessions as evidence_calls
from ._sync.client import Client


class VerifierChannel:
    """Sends a verifier's registration and observations over a client, which it does not close."""

    def __init__(self, client: Client) -> None:
        """Send with the credential and the deadline of ``client``."""
        self._client = client

    def register(self, registration: Registration) -> int:
        """Register a verifier, or renew that. Returns the server's latest revision."""
        return self._client._run(evidence_calls.register_verifier(registration))

    def report_observations(self, batch: ObservationBatch) -> ObservationAck:
        """Send observations; the server counts a batch once however often it is sent."""
        return self._client._run(usage_calls.report_observations(batch))
