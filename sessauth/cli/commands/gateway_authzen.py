"""``sessauth gateway authzen``: a decision point of the AuthZEN Authorization API."""

from __future__ import annotations

import signal
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
    verifier_options,
)
from ..output import fields
from ..params import PATH


@click.command()
@click.option(
    "--listen",
    default="127.0.0.1:8181",
    show_default=True,
    help="HOST:PORT, or path of a Unix socket. A host that others reach needs --certificate and --callers.",
)
@verifier_options
@catalogue_option
@click.option(
    "--callers",
    type=PATH,
    help="File of credentials (credentials.toml) of the gateways that may ask. Default: any caller may.",
)
@click.option("--identifier", help="URL that callers know. Default: made of --listen.")
@click.option("--certificate", type=PATH, help="Certificate of this server, for TLS.")
@click.option("--key", "key_file", type=PATH, help="Its key.")
@log_option
@with_settings
def authzen(
    settings: Settings,
    /,
    listen: str,
    catalogues: Sequence[Path],
    callers: Path | None,
    identifier: str | None,
    certificate: Path | None,
    key_file: Path | None,
    log_level: str,
    **options: Any,
) -> None:
    """Answer AuthZEN evaluations over HTTP until SIGTERM or Ctrl-C.

    docs/integrations/authzen.md says how a call is asked for.
    """
    from ...gateways.authzen.application import AuthZenApp
    from ...gateways.authzen.callers import caller_check
    from ...gateways.authzen.evaluation import AuthZenEvaluator
    from ...gateways.authzen.serving import address_of, bind, release, server_of
    from ...server import log

    if (certificate is None) != (key_file is None):
        raise UsageError("certificate: give key too")
    audience = options["audience"]
    authenticate = caller_check(callers, audience) if callers is not None else None
    read = read_catalogues(catalogues)
    log.configure(log_level.upper())
    with open_verifier(settings, **options) as verifier:
        bound = bind(listen, reachable=certificate is not None and callers is not None)
        address = address_of(bound)
        try:
            scheme = "http" if certificate is None else "https"
            host = "localhost" if address.startswith("/") else address
            identifier = (identifier or f"{scheme}://{host}").rstrip("/")
            app = AuthZenApp(AuthZenEvaluator(verifier, read), identifier, authenticate)
            server = server_of(app, certificate=certificate, key=key_file)
            served = {"listening": address, "identifier": identifier, "audience": audience}
            settings.show(served, fields([*served.items()]))
            # uvicorn raises the signal that ended it once more; without a handler it would end the process.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            server.run(sockets=[bound])
        finally:
            release(bound, address)
