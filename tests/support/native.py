"""Control processes of tests on the native server: ``SESSAUTH_TEST_NATIVE=1``.

In the product only check workers have it. What the tests of every RPC hold for gRPC's server is held for the
native one by running them again.
"""

from __future__ import annotations

import os
from typing import Any, Final

from sessauth.server.process import control
from sessauth.server.rpc.direct import DirectChecks
from sessauth.server.rpc.grpc_server import Serving

NATIVE: Final = os.environ.get("SESSAUTH_TEST_NATIVE") == "1"
CHECK_STREAM: Final = "/sessauth.v1.AuthorizationService/CheckStream"


class NativeServing(Serving):
    """Serves what gRPC's server would."""

    def __init__(self, config: Any, methods: Any, **options: Any) -> None:
        """Take the parts of a check from the handler of an RPC."""
        methods = list(methods)
        answer: Any = next(method.answer for method in methods if method.name == CHECK_STREAM)
        service = answer.__self__
        direct = DirectChecks(service._verifier, service.explain, service._gates, options.get("meter"))
        super().__init__(config, methods, direct=direct, **options)


def use_native_server() -> None:
    """Let control processes of this process serve natively from now on."""
    control.Serving = NativeServing  # type: ignore[misc]
