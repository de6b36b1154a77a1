"""``sessauth gateway``: serve the decision points that other gateways ask.

``authzen`` answers the AuthZEN Authorization API, ``extmcp`` agentgateway, ``extauthz`` Envoy. Each opens an
embedded verifier from ``verifier_options`` and serves until SIGTERM or Ctrl-C. The servers
themselves are in ``sessauth/gateways``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from ..context import Settings, with_settings
from ..io import read_catalogue, with_options
from ..output import fields
from ..params import PATH, examples

if TYPE_CHECKING:
    from ...decisions.tool_catalog import ToolCatalog

_GRACE_SECONDS = 1.0
_POLL_SECONDS = 0.25


# Of the verifier that checks.
verifier_options = with_options(
    click.option("--state", type=PATH, help="The state folder. Default: that of the home folder."),
    click.option("--audience", required=True, help="The name that a token's audience must hold."),
    click.option("--server", help="Socket or HOST:PORT of the server that charges costs."),
    click.option("--credential-file", type=PATH, help="File with a gateway's API key for --server."),
    click.option("--register-as", default="", help="Name under which receipts count this verifier."),
    click.option("--audit", type=PATH, help="Folder for an audit stream of these decisions."),
)


def open_verifier(settings: Settings, **options: Any) -> Any:
    """Return the embedded verifier that ``verifier_options`` describe. Raises as Verifier.embedded."""
    from ...audit.write.stream import AuditOptions
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


catalogue_option = click.option(
    "--catalogue", "catalogues", type=PATH, multiple=True, help="File of an MCP server's tools; repeat it."
)

log_option = click.option(
    "--log-level", default="INFO", show_default=True, help="Least level of the logged events."
)


def read_catalogues(files: Sequence[Path]) -> list[ToolCatalog]:
    """Return the catalogues in files. Raises UsageError for a file that is not one."""
    return [read_catalogue(str(file), "--catalogue") for file in files]


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set from now on."""
    from ...server.process.signals import set_on

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


@click.group()
def gateway() -> None:
    """Answer gateways that ask before they pass a request on."""


@gateway.command(epilog=examples("gateway authzen --audience web"))
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
    from ...gateways.authzen import AuthZenApp, AuthZenEvaluator, caller_check
    from ...gateways.http_server import address_of, bind, release, server_of
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
            _run(server, bound)
        finally:
            release(bound, address)


def _run(server: Any, bound: Any) -> None:
    """Run a uvicorn server until a signal."""
    # uvicorn raises the signal that ended it once more; without a handler it would end the process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[bound])


@gateway.command("security-events", epilog=examples("gateway security-events --listen events.sock"))
@click.option(
    "--listen",
    default="127.0.0.1:8182",
    show_default=True,
    help="HOST:PORT, or path of a Unix socket. A host that others reach needs --certificate.",
)
@click.option(
    "--poll",
    "polled",
    type=(str, str, PATH),
    multiple=True,
    metavar="NAME URL FILE",
    help="Ask a provider for its security events at URL, with the bearer token in FILE. Repeatable.",
)
@click.option(
    "--verify",
    "verified",
    type=(str, str, str),
    multiple=True,
    metavar="NAME URL STREAM",
    help="Ask a polled provider each minute for a verification event of STREAM at URL. Repeatable.",
)
@click.option(
    "--verify-pushed",
    "pushed",
    type=(str, str, str, PATH),
    multiple=True,
    metavar="NAME URL STREAM FILE",
    help="The same for a provider that pushes, with the bearer token in FILE. Repeatable.",
)
@click.option("--poll-ca", type=PATH, help="Authorities that vouch for the hosts that are asked.")
@click.option("--certificate", type=PATH, help="Certificate of this server, for TLS.")
@click.option("--key", "key_file", type=PATH, help="Its key.")
@log_option
@with_settings
def security_events(
    settings: Settings,
    /,
    listen: str,
    polled: Sequence[tuple[str, str, Path]],
    verified: Sequence[tuple[str, str, str]],
    pushed: Sequence[tuple[str, str, str, Path]],
    poll_ca: Path | None,
    certificate: Path | None,
    key_file: Path | None,
    log_level: str,
) -> None:
    """Carry identity providers' statements to the server until SIGTERM or Ctrl-C.

    docs/how-to/logouts.md says how a provider is told of it.
    """
    from ...gateways.http_server import address_of, bind, release, server_of
    from ...gateways.security_events import EventPoller, SecurityEventsApp
    from ...server import log

    if (certificate is None) != (key_file is None):
        raise UsageError("certificate: give key too")
    log.configure(log_level.upper())
    app = SecurityEventsApp(settings.async_client())
    ca_file = "" if poll_ca is None else str(poll_ca)
    asked = {name: (address, stream) for name, address, stream in verified}
    if not asked.keys() <= {name for name, *_ in polled}:
        raise UsageError("verify: the provider must be one of --poll; --verify-pushed is for the others")
    if not all(address for _, address, _ in polled):
        raise UsageError("poll: the address is required")
    pollers = [
        EventPoller(name, address, file, settings.client(), verification=asked.get(name), ca_file=ca_file)
        for name, address, file in polled
    ]
    pollers += [
        EventPoller(name, "", file, settings.client(), verification=(address, stream), ca_file=ca_file)
        for name, address, stream, file in pushed
    ]
    bound = bind(listen, reachable=certificate is not None)
    address = address_of(bound)
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=(stop,), daemon=True) for each in pollers]
    try:
        for thread in threads:
            thread.start()
        server = server_of(app, certificate=certificate, key=key_file)
        served = {"listening": address, "server": settings.address()}
        settings.show(served, fields([*served.items()]))
        _run(server, bound)
    finally:
        stop.set()
        release(bound, address)


@gateway.command(
    "transmit-events", epilog=examples("gateway transmit-events --receivers receivers.toml --dir events")
)
@click.option(
    "--listen",
    default="127.0.0.1:8183",
    show_default=True,
    help="HOST:PORT, or path of a Unix socket. A host that others reach needs --certificate.",
)
@click.option(
    "--receivers", type=PATH, required=True, help="File of the receivers, and the transmitter's name."
)
@click.option("--dir", "folder", type=PATH, required=True, help="Folder of its keys and streams; it is made.")
@click.option("--certificate", type=PATH, help="Certificate of this server, for TLS.")
@click.option("--key", "key_file", type=PATH, help="Its key.")
@log_option
@with_settings
def transmit_events(
    settings: Settings,
    /,
    listen: str,
    receivers: Path,
    folder: Path,
    certificate: Path | None,
    key_file: Path | None,
    log_level: str,
) -> None:
    """Tell other systems of ended sessions, by security events, until SIGTERM or Ctrl-C.

    docs/how-to/transmit-events.md says how a receiver gets them.
    """
    from ...gateways.event_transmitter.app import TransmitterApp
    from ...gateways.event_transmitter.receivers import TransmitterSettings
    from ...gateways.event_transmitter.transmitter import EventTransmitter
    from ...gateways.http_server import address_of, bind, release, server_of
    from ...server import log

    if (certificate is None) != (key_file is None):
        raise UsageError("certificate: give key too")
    log.configure(log_level.upper())
    read = TransmitterSettings.read(receivers)
    transmitter = EventTransmitter(read, folder, settings.client(), settings.clock)
    bound = bind(listen, reachable=certificate is not None)
    address = address_of(bound)
    try:
        server = server_of(TransmitterApp(transmitter), certificate=certificate, key=key_file)
        transmitter.start()
        served = {"listening": address, "issuer": read.issuer, "server": settings.address()}
        settings.show(served, fields([*served.items()]))
        _run(server, bound)
    finally:
        transmitter.close()
        release(bound, address)


@gateway.command(
    epilog=examples("gateway extmcp --listen 127.0.0.1:9001 --audience tools --catalogue files.json")
)
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
    from ...gateways.extmcp.policy import ExtMcpPolicy, ExtMcpServer
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


@gateway.command(epilog=examples("gateway extauthz --listen 127.0.0.1:9000 --audience web --http api"))
@click.option(
    "--listen", required=True, help="Path of a Unix socket, or HOST:PORT of the loopback, that Envoy asks."
)
@verifier_options
@catalogue_option
@click.option(
    "--mcp-path", "paths", multiple=True, help="The server's path, one for each catalogue. Default: /mcp."
)
@click.option("--http", default="", help="Check all other paths too, as resources below this one, e.g. api.")
@click.option("--origin", default="", help="https://HOST by which clients reach Envoy.")
@click.option(
    "--authorization-server",
    "authorization_servers",
    multiple=True,
    help="Issuer at which clients without a token log in (RFC 9728), with --origin. Repeatable.",
)
@log_option
@with_settings
def extauthz(
    settings: Settings,
    /,
    listen: str,
    catalogues: Sequence[Path],
    paths: Sequence[str],
    http: str,
    origin: str,
    authorization_servers: Sequence[str],
    log_level: str,
    **options: Any,
) -> None:
    """Answer Envoy's external authorization (ext_authz over gRPC) until SIGTERM or Ctrl-C.

    docs/integrations/envoy.md has a configuration for Envoy.
    """
    from ...gateways.extauthz.authorizer import AuthorizerServer, ExtAuthz
    from ...gateways.request import RequestMapper
    from ...guard.services.resource_metadata import ResourceMetadata, checked_address
    from ...server import log

    paths = paths or (["/mcp"] if len(catalogues) == 1 else [])
    if len(paths) != len(catalogues) or len(set(paths)) < len(paths):
        raise UsageError("mcp_path: give a path of its own for each catalogue")
    if not catalogues and not http:
        raise UsageError("catalogue: give a catalogue, http or both: nothing would be served")
    mcp = dict(zip(paths, read_catalogues(catalogues), strict=True))
    mapper = RequestMapper(mcp=mcp, http=http)
    metadata = {}
    if origin or authorization_servers:
        if not (origin and authorization_servers):
            raise UsageError("origin, authorization_server: give both")
        origin = origin.rstrip("/")
        if checked_address("origin", origin).path:
            raise UsageError("origin: must be https://HOST, without a path")
        resources = {path: origin + path for path in paths} | ({"": origin} if http else {})
        metadata = {path: ResourceMetadata(each, authorization_servers) for path, each in resources.items()}
    log.configure(log_level.upper())
    stop = stop_event()
    with open_verifier(settings, **options) as verifier:
        authorizer = ExtAuthz(verifier, mapper, metadata)
        server = AuthorizerServer(authorizer, verifier)
        serve_until(stop, settings, server, listen, audience=options["audience"])
