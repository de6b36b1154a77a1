"""The status of a server, and the standing of a host in the log of its cluster.

A control process states them about itself. A folder that no process serves shows its :class:`ServerStatus`
too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The numbers and faults of one server. Times are in ms, sizes in bytes.

    ``role`` is single, leader, server (one of a cluster that does not lead) or follower; ``host`` its name in
    the cluster. ``not_ready``, ``brake``, ``cluster_brake``, ``clock_suspect``, ``alarm`` and ``audit_fault``
    are causes, empty if there is none. ``checks`` and ``denials`` count the last ``minute_ms``, which is 0
    if they are not counted. ``audit_head`` is the chain of the audit's last line on the disk, in hex.
    ``identity_settings`` is a digest of the settings of its identity providers, to compare with another
    server's: ``none`` without them, empty if the server does not say.
    """

    version: str = ""
    uptime_ms: int = 0
    role: str = ""
    host: str = ""
    revision: int = 0
    not_ready: str = ""
    workers: int = 0
    ready_workers: int = 0
    worker_restarts: int = 0
    active_sessions: int = 0
    suspended_sessions: int = 0
    ended_sessions: int = 0
    minute_ms: int = 0
    checks: int = 0
    denials: int = 0
    brake: str = ""
    cluster_brake: str = ""
    clock_suspect: str = ""
    fresh: bool = True
    record: int = 0
    alarm: str = ""
    state_used_bytes: int = 0
    state_map_bytes: int = 0
    disk_free_bytes: int = 0
    disk_bytes: int = 0
    certificate_ends_at_ms: int = 0
    audit_stream: str = ""
    audit_lines: int = 0
    audit_head: str = ""
    audit_fault: str = ""
    identity_settings: str = ""


@dataclass(frozen=True, slots=True)
class HostStanding:
    """A host by the rows of the server that was asked; ``address`` is that of a server.

    A follower that asked this server for a barrier ``age_ms`` ago (``reported``) held record ``number``
    then, and had the alarm ``alarm``, empty without one.
    """

    name: str
    address: str = ""
    reported: bool = False
    age_ms: int = 0
    number: int = 0
    alarm: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStanding:
    """The end of the log that the folder of ``host`` holds, and the reason its checks are denied for.

    ``alarm`` is a fault, ``brake`` the reason of its brake, ``cluster_brake`` the part of it that every host
    of the cluster has, ``refused_by`` the servers that refuse a follower; each is empty if there is none.
    """

    cluster_id: bytes
    incarnation: bytes
    host: str
    number: int
    digest: bytes
    term: int
    revision: int
    leading: bool
    fresh: bool
    alarm: str = ""
    alarm_message: str = ""
    brake: str = ""
    cluster_brake: str = ""
    refused_by: str = ""
    hosts: tuple[HostStanding, ...] = ()
