"""The status of a server as JSON and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...model.server_status import ServerStatus
from ...model.standing import ClusterStanding, HostStanding
from ..output import fields, json_fields, moment_and_distance, printable, span

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
