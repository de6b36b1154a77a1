"""``sessauth gateway``: authorizers for gateways of others."""

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
from .gateway_authzen import authzen
from .gateway_extmcp import extmcp


@click.group()
def gateway() -> None:
    """Answer gateways that ask before they pass a request on."""


gateway.add_command(authzen)
gateway.add_command(extmcp)


@gateway.command()
@click.option(
    "--listen", required=True, help="Path of a Unix socket, or HOST:PORT of the loopback, that Envoy asks."
)
@verifier_options
@catalogue_option
@click.option(
    "--mcp-path", "paths", multiple=True, help="The server's path, one for each catalogue. Default: /mcp."
)
@click.option("--http", default="", help="Check all other paths too, as resources below this one, e.g. api.")
@log_option
@with_settings
def extauthz(
    settings: Settings,
    /,
    listen: str,
    catalogues: Sequence[Path],
    paths: Sequence[str],
    http: str,
    log_level: str,
    **options: Any,
) -> None:
    """Answer Envoy's external authorization (ext_authz over gRPC) until SIGTERM or Ctrl-C.

    docs/integrations/envoy.md has a configuration for Envoy.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from ...gateways.extauthz.authorizer import ExtAuthz
    from ...gateways.extauthz.server import AuthorizerServer
    from ...gateways.request import RequestMapper
    from ...server import log

    paths = paths or (["/mcp"] if len(catalogues) == 1 else [])
    if len(paths) != len(catalogues) or len(set(paths)) < len(paths):
        raise UsageError("mcp_path: give a path of its own for each catalogue")
    if not catalogues and not http:
        raise UsageError("catalogue: give a catalogue, http or both: nothing would be served")
    mcp = dict(zip(paths, read_catalogues(catalogues), strict=True))
    mapper = RequestMapper(mcp=mcp, http=http)
    log.configure(log_level.upper())
    stop = stop_event()
    with open_verifier(settings, **options) as verifier:
        authorizer = ExtAuthz(verifier, mapper)
        server = AuthorizerServer(authorizer, verifier)
        serve_until(stop, settings, server, listen, audience=options["audience"])
