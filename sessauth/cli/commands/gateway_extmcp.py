"""``sessauth gateway extmcp``: a policy server for agentgateway."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...errors import UsageError
from ..context import Settings, with_settings
from ..gateway_verifier import (
    catalogue_option,
    log_option,
    open_verifier,
    read_catalogues,
    serve_until,
    stop_event,
    verifier_options,
)


@click.command()
@click.option(
    "--listen",
    required=True,
    help="Path of a Unix socket, or HOST:PORT of the loopback, that agentgateway asks.",
)
@verifier_options
@catalogue_option
@log_option
@with_settings
def extmcp(
    settings: Settings, /, listen: str, catalogues: Sequence[Path], log_level: str, **options: Any
) -> None:
    """Answer agentgateway's MCP policy calls (ExtMcp over gRPC) until SIGTERM or Ctrl-C.

    The server of each catalogue is the name of one of agentgateway's targets;
    docs/integrations/agentgateway.md has a configuration.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ...gateways.extmcp.listening import ExtMcpServer
    from ...gateways.extmcp.policy import ExtMcpPolicy
    from ...server import log

    if not catalogues:
        raise UsageError("catalogue: give one for each target: nothing would be passed on")
    read = read_catalogues(catalogues)
    log.configure(log_level.upper())
    stop = stop_event()
    with open_verifier(settings, **options) as verifier:
        server = ExtMcpServer(ExtMcpPolicy(verifier, read, audience=options["audience"]))
        targets = ", ".join(catalogue.server for catalogue in read)
        serve_until(stop, settings, server, listen, targets=targets, audience=options["audience"])
