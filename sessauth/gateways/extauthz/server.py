"""The listening server of an authorizer for Envoy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..._fast._codec import DirectCaller, DirectMethod
from ...verifier.base import BaseVerifier
from ..grpc_server import ListeningServer
from .authorizer import ExtAuthz

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
HEALTH: Final = "/grpc.health.v1.Health/Check"
# HealthCheckResponse: SERVING.
_SERVING: Final = b"\x08\x01"


class AuthorizerServer(ListeningServer):
    """Answers Envoy's authorization requests, and health checks."""

    def __init__(self, authorizer: ExtAuthz, verifier: BaseVerifier) -> None:
        """Prepare to serve; nothing listens yet. Raises ConfigError without libnghttp2."""
        answers = {CHECK: authorizer.answer, HEALTH: lambda _: _SERVING}
        super().__init__("extauthz", answers, _DirectChecks(authorizer, verifier))


class _DirectChecks:
    """Has the loop itself answer requests that need no thread. Any client of the socket may ask."""

    def __init__(self, authorizer: ExtAuthz, verifier: BaseVerifier) -> None:
        from ..._fast._codec import ExtAuthzCaller

        method = DirectMethod("check", verifier, lambda decision, token: "")
        self._caller = ExtAuthzCaller(method, (), authorizer.answer_now)

    @property
    def paths(self) -> Sequence[bytes]:
        return (CHECK.encode(),)

    def admit(
        self, path: bytes, authorization: bytes | None, facts: Mapping[str, Sequence[bytes]] | None
    ) -> DirectCaller | None:
        return self._caller

    def generation(self) -> int:
        return 0
