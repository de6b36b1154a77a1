"""Commands for the service of a home folder, on its own machine.

- ``init`` makes the folder; ``serve`` and ``follow`` run it; ``demo`` makes and runs one of its own.
- ``status`` shows one server on one screen, and also works when the server does not run.
- ``doctor`` lists all faults of this host, each with its remedy, and changes nothing.
- ``state`` checks, copies and restores the state folder.

The server's libraries are imported in the functions that use them, so that other commands start fast.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ....errors import Rejected, SessauthError, StateUnusable, Unavailable, UsageError
from ....model.server_status import ClusterStanding, HostStanding, ServerStatus
from ... import output, params
from ...context import Settings, with_settings
from ...output import (
    document_fields,
    fields,
    json_fields,
    moment_and_distance,
    printable,
    show,
    span,
)
from ...params import PATH, examples, state_dir_option
from .cluster import server_at

if TYPE_CHECKING:
    from ....client import Client
    from ....server.config import Config
    from ....server.doctor.finding import Finding, Host

WORKERS = click.option(
    "--workers", type=click.IntRange(0, 64), help="Processes that only check. Overrides the file."
)


@click.command(epilog=examples("init", "--home /srv/agents init"))
@with_settings
def init(settings: Settings) -> None:
    """Make a service's folders, key and credential; overwrites nothing."""
    from ....server.process.init import initialise

    made = initialise(settings.home)
    pairs: list[tuple[str, object]] = [
        ("home", made.home),
        ("configuration", made.config_file),
        ("state", made.state_dir),
        ("keys", made.keys_dir),
        ("issuer key", made.key_id.hex()),
        ("credential", made.credential_file),
        ("socket", made.socket),
    ]
    document = {name.replace(" ", "_"): str(value) for name, value in pairs}
    serve = "sessauth serve" if settings.home is None else f"sessauth --home {made.home} serve"
    settings.show(document, [*fields(pairs), "", f"start it with: {serve}"])


@click.command(epilog=examples("serve", "--home /srv/agents serve --workers 2"))
@WORKERS
@with_settings
def serve(settings: Settings, workers: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain. Logs JSON lines to stderr."""
    from ....server.process import control

    control.serve(_with_workers(settings, workers))


@click.command(epilog=examples("follow --workers 2"))
@WORKERS
@with_settings
def follow(settings: Settings, workers: int | None) -> None:
    """Serve this host from a cluster's log ([follow]) until SIGTERM or Ctrl-C. Logs JSON lines to stderr.

    It answers checks and reads as a server does, and verifiers open the state folder as on a single host.
    All of them deny once the folder may lack an acknowledged change. It changes nothing.
    """
    from ....server.cluster.follower_role import run_follower

    run_follower(_with_workers(settings, workers))


def _with_workers(settings: Settings, workers: int | None) -> Config:
    """Return the settings; whenever they are read again the option counts too. Raises ConfigError."""
    if workers is not None:
        os.environ["SESSAUTH_SERVER_WORKERS"] = str(workers)
    config = settings.config()
    config.require_workers()
    return config


@click.command(epilog=examples("demo", "demo --identity"))
@click.option("--console", is_flag=True, help="A console over living sessions instead, until Ctrl-C.")
@click.option(
    "--identity", is_flag=True, help="A login, a logout and events of an identity provider instead."
)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="With --console: its port.")
@with_settings
def demo(settings: Settings, console: bool, identity: bool, port: int) -> None:
    """Run six stories against a real server of their own.

    Says of each decision whether it was the expected one, and exits with 1 if any was not.
    """
    from ....server.transport.requirements import require_libraries

    require_libraries()
    if console:
        from ...demo.living import run_console

        run_console(settings, port, lambda text: show([text]))
        return
    if identity:
        from ...demo.login_story import run_identity

        click.get_current_context().exit(run_identity(lambda text: show([text]), as_json=settings.json))
    from ...demo import run

    click.get_current_context().exit(run(lambda text: show([text]), as_json=settings.json))


_ROLES: Final = {
    "single": "single host",
    "leader": "leader of its cluster",
    "server": "server of a cluster, follows its leader",
    "follower": "follower of a cluster",
}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def status_json(status: ServerStatus, standing: ClusterStanding | None, *, serving: bool) -> dict[str, Any]:
    """Return a status as JSON values; ``hosts`` are those of the cluster, with the records they lack."""
    hosts = () if standing is None else standing.hosts
    return {
        "serving": serving,
        **json_fields(status),
        "hosts": [json_fields(host, behind=_behind(host, status)) for host in hosts],
    }


def status_lines(status: ServerStatus, standing: ClusterStanding | None, now_ms: int) -> list[str]:
    """Return one screen."""
    return fields([*_server(status), *_faults(status), *_hosts(status, standing), *_room(status, now_ms)])


def _server(status: ServerStatus) -> Iterator[tuple[str, object]]:
    yield "server", f"NOT READY: {status.not_ready}" if status.not_ready else "ready"
    name = f", {status.host}" if status.host else ""
    up = f", up {span(status.uptime_ms)}" if status.uptime_ms else ""
    yield "role", f"{_ROLES.get(status.role, status.role)}{name}, version {status.version}{up}"
    if status.workers:
        restarts = f", {status.worker_restarts} started again" if status.worker_restarts else ""
        yield "workers", f"{status.ready_workers} of {status.workers} ready{restarts}"
    living = status.active_sessions + status.suspended_sessions
    yield "sessions", f"{living} living, {status.suspended_sessions} suspended, {status.ended_sessions} ended"
    if status.minute_ms:
        rate = status.checks * 1000 / status.minute_ms
        counted = f"{rate:.1f}/s, {status.denials} of {status.checks} denied"
        yield "checks", f"{counted}, in the last {span(status.minute_ms)}"
    elif status.uptime_ms:
        yield "checks", "not counted without metrics.address"


def _faults(status: ServerStatus) -> Iterator[tuple[str, object]]:
    yield "brake", f"SET: {status.brake}" if status.brake else "not set"
    yield "clock", f"SUSPECT: {status.clock_suspect}" if status.clock_suspect else ""
    yield "alarm", status.alarm
    if status.role != "single":
        yield "freshness", f"{'fresh' if status.fresh else 'STALE'}, record {status.record}"
        if status.identity_settings not in ("", "none"):
            yield "identity", f"settings of providers {status.identity_settings}"


def _hosts(status: ServerStatus, standing: ClusterStanding | None) -> Iterator[tuple[str, object]]:
    for host in () if standing is None else standing.hosts:
        if host.reported:
            behind = f"{_behind(host, status)} records behind {span(host.age_ms)} ago"
            alarm = f", ALARM {host.alarm}" if host.alarm else ""
            yield "host", f"{printable(host.name)}, {behind}{alarm}"
        elif host.name != status.host:
            yield "host", f"{printable(host.name)}{f' at {host.address}' if host.address else ''}"


def _behind(host: HostStanding, status: ServerStatus) -> int:
    return max(0, status.record - host.number) if host.reported else 0


def _room(status: ServerStatus, now_ms: int) -> Iterator[tuple[str, object]]:
    used, size = status.state_used_bytes, status.state_map_bytes
    percent = f" ({100 * used / size:.1f} %)" if size else ""
    yield "state", f"revision {status.revision}, {byte_text(used)} of {byte_text(size)}{percent}"
    yield "disk", f"{byte_text(status.disk_free_bytes)} free of {byte_text(status.disk_bytes)}"
    yield "certificate", moment_and_distance(status.certificate_ends_at_ms, now_ms)
    if status.audit_head:
        chain = f"stream {status.audit_stream}, line {status.audit_lines}, chain {status.audit_head}"
        yield "audit", chain
    yield "audit fault", status.audit_fault


def byte_text(size: float) -> str:
    """Return a number of bytes with a decimal unit, as ``1.5 MB``."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


# A person sees a change soon; a server answers its status in a few ms.
WATCH_SECONDS: Final = 2


@click.command(epilog=examples("status", "status --watch"))
@click.option(
    "--watch", is_flag=True, help="Show it every two seconds, until Ctrl-C; with --json a line each time."
)
@with_settings
def status(settings: Settings, watch: bool) -> None:
    """Show a server: whether it is ready, its sessions, checks, free space, certificate, audit.

    Exits with 0 if it answers checks, with 1 if it denies every one, and with 4 if it does not answer. Then
    the folder of a local service is read in its place.
    """
    while watch:
        try:
            document, lines, _ = _status(settings)
        except Unavailable as error:
            document, lines = {"serving": False, "not_ready": str(error)}, fields([("server", error)])
        if settings.json:
            click.echo(json.dumps(document))
        else:
            click.clear()
            show([*lines, ""])
        time.sleep(WATCH_SECONDS)
    document, lines, code = _status(settings)
    settings.show(document, lines)
    click.get_current_context().exit(code)


def _status(settings: Settings) -> tuple[dict[str, Any], list[str], int]:
    """Return a status as JSON values and as lines, and the exit code; raises Unavailable without one."""
    standing = None
    try:
        with settings.client() as client:
            found = client.server_status()
            if found.role != "single":
                # The status is there without it: a server that is too busy, or belongs to no cluster.
                with suppress(Unavailable, Rejected):
                    standing = client.cluster_standing()
        code = output.DENIED if found.not_ready else 0
    except Unavailable as error:
        if not settings.is_local:
            raise
        from ....server.process.server_status import folder_status

        found = replace(folder_status(settings.config()), not_ready=f"no server answers: {error}")
        code = output.UNAVAILABLE
    return (
        status_json(found, standing, serving=code != output.UNAVAILABLE),
        status_lines(found, standing, settings.clock.now_ms()),
        code,
    )


def _other_servers(settings: Settings, client: Client, own: ServerStatus) -> tuple[ServerStatus, ...]:
    """Return the answers of the cluster's other servers, without those that give none."""
    if own.role not in ("leader", "server"):
        return ()
    found = []
    at = server_at(settings)
    with suppress(SessauthError):
        for host in client.cluster_standing().hosts:
            if host.address and host.name != own.host:
                with suppress(SessauthError), at(host.address).client() as other:
                    found.append(other.server_status())
    return tuple(found)


WARNINGS: Final = 1
ERRORS: Final = 2


@click.command(epilog=examples("doctor --deep", "doctor --backups /backups --backup-age 2d"))
@click.option("--deep", is_flag=True, help="Read the whole state and the whole audit, too.")
@click.option(
    "--backups",
    type=params.PATH,
    multiple=True,
    help="A backup, or a folder of backups: is the newest young enough, and can it be restored. Repeatable.",
)
@click.option(
    "--backup-age",
    "backup_age_ms",
    type=params.duration,
    default="1d",
    show_default=True,
    help="The newest backup is younger.",
)
@with_settings
def doctor(settings: Settings, deep: bool, backups: tuple[Path, ...], backup_age_ms: int) -> None:
    """Find everything that is wrong on this host, each with its remedy. Changes nothing.

    Exits with 0 if nothing is, with 1 if there are warnings, with 2 if there are errors. Run it as the user
    of the service, or as root.
    """
    from ....server.doctor.examination import examine
    from ....server.doctor.finding import Host

    if settings.target is not None:
        raise UsageError("--target: the doctor examines this host; name its home folder with --home")

    def host_of(config: Config) -> Host:
        asked = replace(settings, home=config.home)
        host = Host(config, settings.clock, deep=deep, backups=backups, backup_age_ms=backup_age_ms)
        try:
            with asked.client() as client:
                found = client.server_status()
                host = replace(host, status=found, others=_other_servers(asked, client, found))
                if config.identity_providers:
                    providers = client.get_identity_status().providers
                    silent = (
                        each.name for each in providers if each.stream is not None and each.stream.silent
                    )
                    host = replace(host, silent_streams=tuple(silent))
                return host
        except Unavailable as error:
            return replace(host, silence=str(error))
        except SessauthError as error:
            return replace(host, refusal=str(error))

    with settings.progress("examining"):
        found = examine(settings.config, host_of)
    errors = sum(each.severity == "error" for each in found)
    document = {
        "errors": errors,
        "warnings": len(found) - errors,
        "findings": [json_fields(each, severity=each.severity) for each in found],
    }
    settings.show(document, _lines(found, errors))
    if found:
        click.get_current_context().exit(ERRORS if errors else WARNINGS)


def _lines(found: list[Finding], errors: int) -> list[str]:
    lines = []
    for each in found:
        lines.append(f"{each.severity.upper()}  {each.id}: {printable(each.words)}")
        lines.append(f"  {printable(each.remedy)}")
    if not found:
        return ["nothing was found"]
    return [*lines, f"{errors} errors, {len(found) - errors} warnings"]


@click.group()
def state() -> None:
    """Check and copy the state of a local service."""


@state.command("check", epilog=examples("state check", "state check --backup /backups/monday"))
@click.option("--backup", "backed_up", type=PATH, help="Read this backup in the state's place.")
@state_dir_option
@with_settings
def check(settings: Settings, folder: Path | None, backed_up: Path | None) -> None:
    """Read the whole state and say whether it can be served from. Exits with 5 if not.

    Without --state the home folder is looked at too: whether others could read its keys or change its files.
    With --backup a backup is read, as a restore reads it first; nothing is changed.
    """
    from ....server.keys import local_files
    from ....state.backup import WHOLE, read_apart
    from ....state.host import brake
    from ....state.layout import BRAKE_FILE

    if backed_up is not None:
        if folder is not None:
            raise UsageError("--backup and --state exclude each other")
        _check_backup(settings, backed_up)
        return
    if folder is None:
        config = settings.config()
        folder = config.state_dir
        local_files.check(config)
    with settings.progress("verifying") as progress:
        read = read_apart(folder, WHOLE, progress)
    head, counts = read.head, read.counts
    if head is None or counts is None:
        raise StateUnusable(f"{folder}: the answer of the process that read it is cut short", "CORRUPT")
    with brake.reader_page(folder / BRAKE_FILE) as page:
        why, stale = brake.reason_of(page), brake.is_stale(page)
        cluster_brake, alarm = brake.cluster_reason_of(page), brake.alarm_of(page)
    document = {
        "state_dir": str(folder),
        "cluster_id": head.cluster_id.hex(),
        "incarnation": head.incarnation.hex(),
        "format": head.format,
        "revision": head.revision,
        "seq": head.seq,
        **asdict(counts),
        "braked": why is not None,
        "brake_reason": why or "",
        "cluster_brake": cluster_brake,
        "stale": stale,
        "alarm": alarm,
    }
    settings.show_fields(document)
    if why is not None or stale:
        click.get_current_context().exit(output.STATE)


def _check_backup(settings: Settings, folder: Path) -> None:
    """Show the contents of a backup. Raises StateUnusable if it can't be restored."""
    from ....state.backup import BACKUP, read_apart

    with settings.progress("verifying") as progress:
        read = read_apart(folder, BACKUP, progress)
    if read.manifest is None or read.counts is None:
        raise StateUnusable(f"{folder}: the answer of the process that read it is cut short", "CORRUPT")
    document = {"backup": str(folder), **asdict(read.manifest), **asdict(read.counts)}
    settings.show_fields(document)


@state.command("backup", epilog=examples("state backup /backups/monday"))
@click.argument("target", type=PATH)
@state_dir_option
@with_settings
def backup(settings: Settings, target: Path, folder: Path | None) -> None:
    """Copy the state into TARGET, a new folder; the server may go on running."""
    from ....state.backup import backup as copy

    with settings.progress("copying and verifying") as progress:
        manifest = asdict(copy(settings.state_dir(folder), target, progress))
    document = {"target": str(target), **manifest}
    settings.show_fields(document)


@state.command("restore", epilog=examples("state restore /backups/monday"))
@click.argument("source", type=PATH)
@click.option("--force", is_flag=True, help="Accept a backup of another cluster.")
@state_dir_option
@with_settings
def restore(settings: Settings, source: Path, force: bool, folder: Path | None) -> None:
    """Put the backup in SOURCE in the place of the state; ends every session.

    The server must be stopped. Revocations after the backup are not in it, so no earlier session or token
    survives.
    """
    from ....state.backup import restore as put_back

    folder = settings.state_dir(folder)
    map_size = settings.config().server.map_size_bytes
    with settings.progress("verifying and restoring") as progress:
        head = put_back(source, folder, force=force, map_size=map_size, on_progress=progress)
    document = {
        "state_dir": str(folder),
        "cluster_id": head.cluster_id.hex(),
        "incarnation": head.incarnation.hex(),
        "revision": head.revision,
    }
    settings.show(document, [*document_fields(document), "every session has ended; open them again"])
