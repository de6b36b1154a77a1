"""The listening server that agentgateway asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...server.rpc.call import parse
from ..grpc_server import ListeningServer
from .policy import ExtMcpPolicy
from .v1 import ext_mcp_pb2 as messages

SERVICE: Final = "agentgateway.dev.ext_mcp.ExtMcp"


class ExtMcpServer(ListeningServer):
    """Serves a policy."""

    def __init__(self, policy: ExtMcpPolicy) -> None:
        """Prepare to serve; nothing listens yet. Raises ConfigError without libnghttp2."""
        super().__init__(
            "extmcp",
            {
                f"/{SERVICE}/CheckRequest": _encoded(policy.check_request, messages.McpRequest),
                f"/{SERVICE}/CheckResponse": _encoded(policy.check_response, messages.McpResponse),
            },
        )


def _encoded(answer: Callable[[Any], Any], kind: Any) -> Callable[[bytes], bytes]:
    def encoded(data: bytes) -> bytes:
        answered: bytes = answer(parse(kind, data)).SerializeToString()
        return answered

    return encoded
