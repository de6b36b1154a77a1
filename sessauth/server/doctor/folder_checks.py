"""The state folder, its disk and its sessions; the audit folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from ...audit import layout as audit_layout
from ...audit import stream_register
from ...audit.recording.missing_changes import lacking
from ...audit.verify.verify import verify as verify_audit
from ...errors import KeyFolderError, SessauthError, StateError, StateUnusable
from ...model.session import SessionStatus
from ...state import layout
from ...state.host import brake
from ...state.lmdb.cluster_rows import read_position
from ...state.lmdb.effective_status import effective_session, judged_at_ms
from ...state.lmdb.feed import LocalFeed
from ...state.lmdb.reader import StateReader
from ..keys.credentials import CredentialFile
from .finding import Finding, of_error
from .host import Host

FILLING_SHARE: Final = 0.7
LEAST_DISK_BYTES: Final = 64 << 20
# Names of owners that a finding lists.
_SHOWN: Final = 5


def find(host: Host) -> Iterator[Finding]:
    """Yield the findings."""
    try:
        if host.state_fault is not None:
            raise host.state_fault
        reader = StateReader.open(host.config.state_dir)
    except StateUnusable as error:
        yield of_error("state_unusable", StateUnusable(f"{error.problem}: {error}", error.problem))
        return
    except StateError as error:
        yield of_error("state_unusable", error)
        return
    try:
        yield from _brake(host)
        yield from _membership(host, reader)
        yield from _clock(host, reader)
        yield from _room(host, reader)
        yield from _sessions(host, reader)
        yield from _audit(host, reader)
    except StateUnusable as error:
        yield of_error("state_unusable", error)
    finally:
        reader.close()


def _brake(host: Host) -> Iterator[Finding]:
    with brake.reader_page(host.config.state_dir / layout.BRAKE_FILE) as page:
        reason, alarm, stale = brake.reason_of(page), brake.alarm_of(page), brake.is_stale(page)
        remedies = (
            (
                brake.failed_of(page),
                "remove the cause of the failed write, then start the server again, which tries a write",
            ),
            (
                brake.by_hand_of(page).engaged,
                "'sessauth thaw --this-host' ends the freeze of this host, once you know that all is well",
            ),
            (
                bool(brake.cluster_reason_of(page)),
                "'sessauth thaw' at a server ends the cluster's freeze, once you know that all is well",
            ),
        )
    if reason is not None:
        remedy = "; ".join(text for holds, text in remedies if holds)
        yield Finding("brake", f"every check on this host is denied: {reason}", remedy or "see the message")
    if alarm:
        yield Finding(
            "cluster_alarm",
            f"this host left its cluster's log: {alarm}",
            "'sessauth cluster heads' compares the hosts; then 'sessauth cluster clear-alarm', or a new join",
        )
    elif stale:
        yield Finding(
            "stale",
            "the state of this host is not known to be current, which denies every check",
            "start the server, or see that it reaches its cluster: its log says 'no proof of freshness'",
        )


def _membership(host: Host, reader: StateReader) -> Iterator[Finding]:
    """Find settings that name a cluster which the folder does not belong to, and the reverse."""
    config = host.config
    with reader.rows() as rows:
        member = read_position(rows) is not None
    if member and not config.cluster.enabled and not config.follow.servers:
        yield Finding(
            "membership",
            f"{config.state_dir} belongs to a cluster, and the settings name none",
            "configure [cluster] or [follow]; 'sessauth cluster leave' makes it a single host's",
        )
    elif not member and (config.cluster.enabled or config.follow.servers):
        section = "cluster" if config.cluster.enabled else "follow"
        yield Finding(
            "membership",
            f"section [{section}] is there, and {config.state_dir} belongs to no cluster",
            f"'sessauth cluster begin', or join with another state folder; else remove [{section}]",
        )


def _clock(host: Host, reader: StateReader) -> Iterator[Finding]:
    with reader.rows() as rows:
        ahead_ms = rows.head().clock_floor_ms - host.clock.now_ms()
    if ahead_ms > 0:
        yield Finding(
            "clock_floor",
            f"the state was written {ahead_ms} ms ahead of this machine's clock",
            "set the clock right before anything is served; if it is right, restore a backup into a new home",
        )


def _room(host: Host, reader: StateReader) -> Iterator[Finding]:
    size = int(reader.env.info()["map_size"])
    with reader.rows() as rows:
        used = rows.used_bytes(int(reader.env.stat()["psize"]))
    filled = f"{used} of the {size} bytes of the state's map hold rows"
    raise_it = "stop the service, raise server.map_size_bytes, start it again; or end unneeded sessions"
    if used > layout.FULL_SHARE * size:
        yield Finding("map_full", f"{filled}: only what takes authority away is written", raise_it)
    elif used > FILLING_SHARE * size:
        yield Finding("map_filling", filled, raise_it)
    disk = os.statvfs(host.config.state_dir)
    free, growth = disk.f_bavail * disk.f_frsize, size - used
    where = f"the file system of {host.config.state_dir} has {free} bytes free"
    if free < LEAST_DISK_BYTES:
        yield Finding("disk_full", f"{where}; a commit that fails sets the brake", "free some space")
    elif free < growth:
        yield Finding("disk_small", f"{where}, and the map may grow by {growth}", "free space, or move it")


def _sessions(host: Host, reader: StateReader) -> Iterator[Finding]:
    """Find living sessions whose owner is no caller any more: they outlive its credential."""
    if host.config.cluster.enabled or host.config.follow.servers:
        # Other hosts have callers of their own.
        return
    known = {entry.name for entry in host.config.identities}
    try:
        known |= {each.principal.name for each in CredentialFile(host.config.credentials_file).list()}
    except (SessauthError, OSError):
        # The checks of the file find it.
        return
    owners: dict[str, int] = {}
    after, now_ms = b"", host.clock.now_ms()
    while True:
        with reader.rows() as rows:
            ids = rows.ids_after(after, 1_024)
            for after in ids:
                session = effective_session(rows, after, judged_at_ms(rows, now_ms))
                if session is not None and session.status is not SessionStatus.ENDED:
                    owners[session.owner] = owners.get(session.owner, 0) + 1
        if len(ids) < 1_024:
            break
    gone = {owner: number for owner, number in owners.items() if owner not in known}
    if gone:
        names = sorted(gone, key=lambda owner: -gone[owner])
        shown = ", ".join(f"{name!r} ({gone[name]})" for name in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield Finding(
            "orphaned_sessions",
            f"{sum(gone.values())} living sessions belong to callers that were removed: {shown}{more}",
            "'sessauth session list --owner NAME' shows them, 'sessauth session end' ends each",
        )


def _audit(host: Host, reader: StateReader) -> Iterator[Finding]:
    config = host.config
    if not config.audit.enabled:
        return
    try:
        register = stream_register.read(config.state_dir)
    except StateUnusable as error:
        yield of_error("audit_fault", error)
        return
    folder = config.audit_dir
    if register is not None and register.anchors:
        last = register.anchors[-1]
        files = audit_layout.files(folder).get(last.stream, {}) if folder.is_dir() else {}
        if last.file not in files:
            yield Finding(
                "audit_missing",
                f"{folder} lacks file {last.file} of stream {last.stream.hex()}, which the state vouches for",
                "restore it from the copy of the audit; find out who removed it",
            )
    if host.deep and folder.is_dir():
        yield from _verified_audit(host, reader, register)


def _verified_audit(
    host: Host, reader: StateReader, register: stream_register.StreamRegister | None
) -> Iterator[Finding]:
    try:
        faults = [*verify_audit(host.config.audit_dir, register=register).faults]
        faults += lacking(host.config.audit_dir, LocalFeed(reader))
    except (KeyFolderError, StateError, OSError) as error:
        yield of_error("audit_damaged", error, "'sessauth audit verify' says more")
        return
    if faults:
        yield Finding(
            "audit_damaged",
            f"{len(faults)} findings, the first: {faults[0].kind.name}: {faults[0].words}",
            "'sessauth audit verify' lists them",
        )
