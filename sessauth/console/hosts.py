"""Hosts and verifiers: who judges by what, how far behind, and heard when."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from ..client import RegisteredVerifier
from ..errors import PermissionDenied, Rejected
from ..model.receipt import VerifierState
from .parts import ConsoleParts


class HostsPage:
    """The view of the page."""

    def __init__(self, parts: ConsoleParts) -> None:
        """Show what ``parts`` know."""
        self._parts = parts

    async def view(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the template and its values."""
        parts, client = self._parts, self._parts.client
        verifiers = await parts.answers.get("verifiers", client.list_verifiers)
        values: dict[str, Any] = {"status": None, "standing": None, "at_ms": verifiers.at_ms}
        try:
            values["status"] = (await parts.answers.get("status", client.server_status)).value
            values["standing"] = (await parts.answers.get("standing", client.cluster_standing)).value
        except (PermissionDenied, Rejected):
            # A single host has no standing in a cluster, and a role may read less than the registry.
            pass
        head = max([parts.board.revision, *(each.revision for each in verifiers.value)])
        if values["status"] is not None:
            head = max(head, values["status"].revision)
        now_ms = parts.clock.now_ms()
        return "hosts.html", {
            **values,
            "head": head,
            "verifiers": [
                (each, max(0, head - each.revision), _freshness(each, now_ms)) for each in verifiers.value
            ],
        }


def _freshness(verifier: RegisteredVerifier, now_ms: int) -> str:
    """Return ``left``, ``outlived``, ``late`` (more than half of its bound is over) or ``fresh``."""
    if verifier.state is VerifierState.LEFT:
        return "left"
    if verifier.state is VerifierState.OUTLIVED:
        return "outlived"
    bound = verifier.staleness_ms
    if bound and now_ms - verifier.renewed_at_ms > bound // 2:
        return "late"
    return "waiting" if verifier.state is VerifierState.WAITING else "fresh"
