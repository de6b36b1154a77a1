"""``sessauth gateway``: authorizers for gateways of others."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ...errors import UsageError
from ..context import Settings, with_settings
from ..io import read_text
from ..output import fields
from ..params import PATH

Command = TypeVar("Command", bound=Callable[..., Any])

GRACE_SECONDS = 1.0
POLL_SECONDS = 0.25


@click.group()
def gateway() -> None:
    """Answer gateways that ask before they pass a request on."""


def verifier_options(command: Command) -> Command:
    """Add the options of the verifier that judges."""
    for option in reversed(
        (
            click.option("--state", type=PATH, help="The state folder. Default: that of the home folder."),
            click.option("--audience", required=True, help="The name that a token's audience must hold."),
            click.option("--server", help="Socket or HOST:PORT of the server that charges costs."),
            click.option("--credential-file", type=PATH, help="File with a gateway's API key for --server."),
            click.option("--register-as", default="", help="Name under which receipts count this verifier."),
            click.option("--audit", type=PATH, help="Folder for an audit stream of these decisions."),
        )
    ):
        command = option(command)
    return command


def open_verifier(settings: Settings, **options: Any) -> Any:
    """Return the embedded verifier that :func:`verifier_options` describe. Raises as Verifier.embedded."""
    from ...audit.recording.options import AuditOptions
    from ...verifier.verifier import Verifier

    audit = options["audit"]
    common: dict[str, Any] = {
        "audience": options["audience"],
        "audit": None if audit is None else AuditOptions(audit),
    }
    folder = settings.state_dir(options["state"])
    if options["server"] is None:
        if options["register_as"] or options["credential_file"] is not None:
            raise UsageError("register_as, credential_file: give server too")
        return Verifier.embedded(folder, **common)
    return Verifier.embedded(
        folder,
        **common,
        server=options["server"],
        credential_file=options["credential_file"],
        timeout_ms=settings.timeout_ms,
        register_as=options["register_as"],
    )


@gateway.command()
@click.option(
    "--listen", required=True, help="Path of a Unix socket, or HOST:PORT of the loopback, that Envoy asks."
)
@verifier_options
@click.option(
    "--catalogue", "catalogues", type=PATH, multiple=True, help="File of an MCP server's tools; repeat it."
)
@click.option(
    "--mcp-path", "paths", multiple=True, help="The server's path, one for each catalogue. Default: /mcp."
)
@click.option("--http", default="", help="Judge all other paths too, as resources below this one, e.g. api.")
@click.option("--log-level", default="INFO", show_default=True, help="Least level of what is logged.")
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
    from ...decisions.tool_catalog import ToolCatalog
    from ...gateways.extauthz.authorizer import ExtAuthz
    from ...gateways.extauthz.server import AuthorizerServer
    from ...gateways.request import RequestMapper
    from ...server import log

    paths = paths or (["/mcp"] if len(catalogues) == 1 else [])
    if len(paths) != len(catalogues) or len(set(paths)) < len(paths):
        raise UsageError("mcp_path: give a path of its own for each catalogue")
    if not catalogues and not http:
        raise UsageError("catalogue: give a catalogue, http or both: nothing would be served")
    mcp = {
        path: ToolCatalog.from_json(read_text(str(file), "--catalogue"))
        for path, file in zip(paths, catalogues, strict=True)
    }
    mapper = RequestMapper(mcp=mcp, http=http)
    log.configure(log_level.upper())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_verifier(settings, **options) as verifier:
        authorizer = ExtAuthz(verifier, mapper)
        server = AuthorizerServer(authorizer, verifier)
        try:
            address = server.listen(listen, insecure_tcp=settings.insecure_tcp)
            server.start()
            served = {"listening": address, "transport": server.transport, "audience": options["audience"]}
            settings.show(served, fields(list(served.items())))
            # Polled: a signal that another thread gets does not interrupt a wait of this one.
            while not stop.wait(POLL_SECONDS):
                pass
        finally:
            server.stop(GRACE_SECONDS)
