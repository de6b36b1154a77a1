"""An embedded verifier with a server that charges the costs of calls, and waits for its answers.

    with Verifier.embedded(state, audience="gw", server=socket, credential_file=file) as verifier:
        decision = verifier.check(token, "deploy", "web", arguments, permit_ms=5_000)
        if decision:
            verifier.commit(decision.permit, token, "deploy", "web", arguments)

Without an answer a call with costs stays denied. grpc is loaded when such a verifier is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._sync.server_calls import ServerCalls
from .cost_judge import CostJudge

if TYPE_CHECKING:
    from ..client import Client


class ServerBackedVerifier(ServerCalls, CostJudge):  # type: ignore[misc] # a server's decision is another class of the same surface
    """A verifier that has a server charge costs; made by :meth:`Verifier.embedded` with ``server``."""

    @property
    def _judge(self) -> CostJudge:
        return self

    def _server(self) -> Client:
        return self.require_client()
