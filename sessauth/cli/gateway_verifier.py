"""Parts of the gateways' commands: options, the verifier that they describe, serving until a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UsageError
from .context import Settings
from .io import read_catalogue
from .output import fields
from .params import PATH

if TYPE_CHECKING:
    from ..decisions.tool_catalog import ToolCatalog

Command = TypeVar("Command", bound=Callable[..., Any])

_GRACE_SECONDS = 1.0
_POLL_SECONDS = 0.25


def verifier_options(command: Command) -> Command:
    """Add the options of the verifier that checks."""
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
    from ..audit.recording.options import AuditOptions
    from ..verifier.verifier import Verifier

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


catalogue_option = click.option(
    "--catalogue", "catalogues", type=PATH, multiple=True, help="File of an MCP server's tools; repeat it."
)

log_option = click.option(
    "--log-level", default="INFO", show_default=True, help="Least level of the logged events."
)


def read_catalogues(files: Sequence[Path]) -> list[ToolCatalog]:
    """Return the catalogues in files. Raises UsageError for a file that is none."""
    return [read_catalogue(str(file), "--catalogue") for file in files]


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set from now on."""
    from ..server.process.signals import set_on

    event = threading.Event()
    set_on(event, signal.SIGTERM, signal.SIGINT)
    return event


def serve_until(stop: threading.Event, settings: Settings, server: Any, listen: str, **facts: object) -> None:
    """Serve at ``listen`` until ``stop`` is set; shows the address and ``facts``.

    ``server`` has ``listen(address, insecure_tcp=)``, ``start()`` and ``stop(seconds)``. Raises as these.
    """
    try:
        address = server.listen(listen, insecure_tcp=settings.insecure_tcp)
        server.start()
        served = {"listening": address, **facts}
        settings.show(served, fields([*served.items()]))
        # Polled: a signal that another thread gets does not interrupt a wait of this one.
        while not stop.wait(_POLL_SECONDS):
            pass
    finally:
        server.stop(_GRACE_SECONDS)
