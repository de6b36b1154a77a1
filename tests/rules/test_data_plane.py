"""The data plane stays light: a gateway that embeds a verifier loads no RPC stack."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("grpc", "grpc_health", "google", "click", "sessauth.server", "sessauth.client", "sessauth.v1")


@pytest.mark.parametrize(
    "module",
    [
        *("sessauth", "sessauth.verifier.verifier", "sessauth.verifier.verifier"),
        *("sessauth.tokens.token", "sessauth.tokens.token", "sessauth.tokens.prover"),
    ],
)
def test_importing_the_data_plane_loads_no_rpc_stack(module: str) -> None:
    """``import {module}`` in a fresh interpreter loads neither grpc nor protobuf nor an edge of ours."""
    program = (
        f"import sys, {module}\n"
        f"print([name for name in sys.modules if name.startswith({HEAVY!r})])\n"
        f"print('sessauth._fast._check' in sys.modules or {module!r} != 'sessauth.verifier.verifier')"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout.splitlines() == ["[]", "True"]
