"""``sessauth cluster``: begin a cluster, prepare and admit servers, and show its heads and status.

``admit`` and ``remove-host`` change the cluster by a running server. ``heads`` and ``adopt`` ask all its
servers, as the operator of this host. The others begin from the home folder. For ``begin``, ``adopt`` and
``leave`` the server of this host must be stopped.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ....errors import UsageError
from ... import params
from ...context import Settings, with_settings
from ...io import read_text
from ...output import json_fields, printable, table
from ...params import FILE, examples, state_dir_option

if TYPE_CHECKING:
    from ....model.server_status import ClusterStanding
    from ....server.cluster.repair import HostHead


def own_process(settings: Settings) -> Callable[[], ClusterStanding]:
    """Return a function that asks the process of this host. It raises SessauthError."""

    def ask() -> ClusterStanding:
        with settings.client() as client:
            return client.cluster_standing()

    return ask


def server_at(settings: Settings) -> Callable[[str], Settings]:
    """Return a function that gives the settings to call the server at an address, as this host's operator.

    Options of TLS in front of the command count before the settings of ``[cluster]`` and ``[follow]``.
    """
    config = settings.config()
    stated = settings.tls or settings.tls_ca or settings.tls_certificate or settings.insecure_tcp
    authority = config.cluster.server_ca or config.follow.server_ca
    changed = replace(settings)
    if not stated and authority:
        changed.tls_ca = config.path(authority)
        for part in (config.cluster, config.follow, config.tcp):
            if part.certificate and part.private_key:
                changed.tls_certificate = config.path(part.certificate)
                changed.tls_key = config.path(part.private_key)
                break
    elif not stated:
        changed.insecure_tcp = config.tcp.insecure_tcp or config.follow.insecure_tcp
        changed.tls = not changed.insecure_tcp
    if changed.credential_file is None:
        beside = config.home / "operator.credential"
        changed.credential_file = beside if beside.exists() else None
    return lambda address: replace(changed, target=address)


def peer(settings: Settings) -> Callable[[str], ClusterStanding]:
    """Return a function that asks the server at an address, as :func:`server_at`. It raises SessauthError."""
    at = server_at(settings)

    def ask(address: str) -> ClusterStanding:
        with at(address).client() as client:
            return client.cluster_standing()

    return ask


_DIGEST_CHARS = 12


def to_json(heads: Sequence[HostHead], *, agree: bool) -> dict[str, Any]:
    """Return heads as JSON values."""
    return {"agree": agree, "heads": [json_fields(head) for head in heads]}


def to_lines(heads: Sequence[HostHead]) -> list[str]:
    """Return a table, and a line for each alarm, brake and silence."""
    rows = [
        (
            head.host,
            head.number if head.source else "",
            head.digest.hex()[:_DIGEST_CHARS],
            head.term or "",
            head.incarnation.hex()[:_DIGEST_CHARS],
            "leads" if head.leading else "fresh" if head.fresh else "",
            head.verdict,
            head.source,
        )
        for head in heads
    ]
    headers = ("host", "record", "digest", "term", "incarnation", "is", "verdict", "by")
    lines = table(headers, rows)
    for head in heads:
        notes = (("", head.silent), ("", head.alarm_message), ("brake: ", head.brake))
        for word, text in (*notes, ("refused by ", head.refused_by)):
            if text:
                lines.append(printable(f"{head.host}: {word}{text}"))
    return lines


@click.group()
def cluster() -> None:
    """Run several servers on one log. See docs/cluster.md."""


@cluster.command("begin", epilog=examples("cluster begin"))
@with_settings
def begin(settings: Settings) -> None:
    """Make this service the first server of a cluster; it must be stopped.

    Section [cluster] of its configuration states the name, the address and the engine. No session ends.
    """
    from ....server.cluster.begin import begin as begin_cluster

    config = settings.config()
    made = begin_cluster(config)
    settings.show_fields({"cluster_id": made.hex(), "server": config.cluster.name})


@cluster.command("prepare", epilog=examples("cluster prepare --json"))
@with_settings
def prepare(settings: Settings) -> None:
    """Make the keys of a further server on its own host, and print their public halves.

    Hand them to 'sessauth cluster admit', at any server.
    """
    from ....server.cluster.begin import prepare as prepare_server

    settings.show_fields(prepare_server(settings.config()))


@cluster.command("admit", epilog=examples("cluster admit b.json"))
@click.argument("document", metavar="FILE|-", type=FILE)
@params.request_id_option
@with_settings
def admit(settings: Settings, document: str, request_id: str) -> None:
    """Have the cluster trust a further server, by the output of 'prepare' with --json."""
    try:
        stated = json.loads(read_text(document, "FILE"))
        name, address = str(stated["server"]), str(stated.get("address", ""))
        server_key, issuer_key = (bytes.fromhex(stated[key]) for key in ("server_key", "issuer_key"))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("FILE: not the output of 'sessauth cluster prepare --json'") from error
    with settings.client() as client:
        added = client.admit_server(
            name, server_key=server_key, issuer_key=issuer_key, address=address, request_id=request_id
        )
    settings.show_fields(
        {"server": name, "server_key_id": added[0].id.hex(), "issuer_key_id": added[1].id.hex()}
    )


@cluster.command("join", epilog=examples("cluster join"))
@with_settings
def join(settings: Settings) -> None:
    """Make the state folder of a further server, from one that serves; 'serve' goes on from there.

    Section [follow] of its configuration names the servers of the cluster and the credential.
    """
    from ....server import log
    from ....server.cluster.begin import join as join_cluster
    from ....server.cluster.repair import folder
    from ....server.process.signals import set_on

    config = settings.config()
    log.configure(config.server.log_level)
    stopping = threading.Event()
    set_on(stopping, signal.SIGTERM, signal.SIGINT)
    join_cluster(config, stopping)
    settings.show_fields(folder(config))


@cluster.command("heads", epilog=examples("cluster heads"))
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@click.option("--state", "folders", type=params.PATH, multiple=True, help="Read this folder too; repeatable.")
@with_settings
def heads(settings: Settings, addresses: tuple[str, ...], folders: tuple[Path, ...]) -> None:
    """Compare the last record of each host, the most advanced first; exits with 1 unless all agree.

    Asks this host, each server that the settings and the cluster know, and each ADDRESS. Works in an alarm;
    of a stopped server it reads the folder.
    """
    from ....server.cluster.repair import SAME, compare

    config = settings.config()
    found = compare(config, peer(settings), own_process(settings), addresses, folders)
    agree = bool(found) and all(head.verdict == SAME for head in found)
    settings.show(to_json(found, agree=agree), to_lines(found), ok=agree)


@cluster.command("adopt", epilog=examples("cluster adopt"))
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@click.option("--keep-sessions", is_flag=True, help="You vouch that silent hosts hold no more.")
@click.option("--end-sessions", is_flag=True, help="End every session in any case.")
@click.option("--force", is_flag=True, help="Go on though a host holds more; ends every session.")
@click.option(
    "--clock-floor",
    type=click.Choice(["now"]),
    help="The log has a time that lies ahead: have it go on by this host's clock. Ends every session.",
)
@with_settings
def adopt(
    settings: Settings,
    addresses: tuple[str, ...],
    keep_sessions: bool,
    end_sessions: bool,
    force: bool,
    clock_floor: str | None,
) -> None:
    """Have a log that the engine lost go on from this server's folder; the server must be stopped.

    Take the host that 'cluster heads' names first, and let the others run. Refused if one of them holds more.
    Ends every session, unless each known host says that it holds no more.
    """
    from ....server.cluster.repair import adopt as adopt_folder
    from ....server.cluster.repair import lower_clock_floor, survey

    if clock_floor is not None:
        if addresses or keep_sessions or end_sessions or force:
            raise UsageError("--clock-floor is given alone: nothing was lost, and every session ends")
        settings.show_fields(lower_clock_floor(settings.config()))
        return
    if keep_sessions and (end_sessions or force):
        raise UsageError("--keep-sessions excludes --end-sessions and --force")
    config = settings.config()
    others = survey(config, peer(settings), addresses)
    document = adopt_folder(
        config, others, keep_sessions=keep_sessions, end_sessions=end_sessions, force=force
    )
    settings.show_fields(document)


@cluster.command("clear-alarm", epilog=examples("cluster clear-alarm"))
@state_dir_option
@with_settings
def clear_alarm(settings: Settings, folder: Path | None) -> None:
    """Clear the alarm of this host; its process must be started again.

    You vouch that the log it follows is the cluster's. After 'cluster adopt' none of this is needed.
    """
    from ....server.cluster.repair import clear_alarm as clear

    settings.show_fields(clear(settings.state_dir(folder)))


@cluster.command("leave", epilog=examples("cluster leave"))
@with_settings
def leave(settings: Settings) -> None:
    """Make this host a single one again, with its state; it must be stopped. Ends its sessions.

    Then remove section [cluster], and distrust the server's keys at the cluster.
    """
    from ....server.cluster.begin import leave as leave_cluster

    head = leave_cluster(settings.config())
    settings.show_fields({"incarnation": head.incarnation.hex(), "revision": head.revision})


@cluster.command("remove-host", epilog=examples("cluster remove-host b"))
@click.argument("name", metavar="NAME")
@with_settings
def remove_host(settings: Settings, name: str) -> None:
    """Remove a host that is gone for good, so that receipts name it no longer.

    Refused while it may allow calls. A running host registers again on its own.
    """
    with settings.client() as client:
        client.remove_host(name)
    settings.show_fields({"removed": name})


@cluster.command("status", epilog=examples("cluster status --json"))
@with_settings
def status(settings: Settings) -> None:
    """Show the leader, how far the engine and this host are, and the list of hosts.

    A follower's host shows its own folder, and whether that is too old to allow by.
    """
    from ....server.cluster.repair import report

    settings.show_fields(report(settings.config()))
