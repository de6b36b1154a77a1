"""Checks of the state folder, its disk and its sessions, of the audit folder, of backups and of key files.

Of backups they check the age of the newest, and that it can be restored; of files that give authority
(credentials, keys, certificates) the modes and the contents.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from ...audit import layout as audit_layout
from ...audit.recording.change_follower import lacking
from ...audit.verify.verify import verify as verify_audit
from ...audit.write import stream_register
from ...client._target import load_credential
from ...crypto.keys import KeyStatus
from ...errors import ConfigError, KeyFolderError, SessauthError, StateError, StateUnusable
from ...model.host import ServerKey
from ...model.session import LOGINS_OWNER, SessionStatus
from ...state import layout
from ...state.backup import BACKUP, MANIFEST_FILE, read_apart
from ...state.host import brake
from ...state.host.proof_keys import HostProofKeys, keys_path
from ...state.lmdb.cluster_rows import read_position
from ...state.lmdb.effective_status import effective_session, judged_at_ms
from ...state.lmdb.feed import ChangeLog
from ...state.lmdb.reader import StateReader
from ..cluster.membership import server_key_file
from ..config import Config
from ..keys import local_files
from ..keys.certificates import WARN_DAYS, stated_certificates
from ..keys.credentials import CredentialFile
from ..keys.issuer_keyring import KeyRing
from ..rpc.access import OPERATOR
from .finding import Finding, Host, of_error

FILLING_SHARE: Final = 0.7
LEAST_DISK_BYTES: Final = 64 << 20
# Names of owners that a finding lists.
_SHOWN: Final = 5


def find_in_folder(host: Host) -> Iterator[Finding]:
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
    with closing(reader):
        try:
            yield from _brake(host)
            for part in (_membership, _clock, _room, _sessions, _audit):
                yield from part(host, reader)
        except StateUnusable as error:
            yield of_error("state_unusable", error)


# Remedies of a failed write, of a freeze by hand and of a cluster's freeze.
_RELEASES: Final = (
    "remove the cause of the failed write, then start the server again, which tries a write",
    "'sessauth thaw --this-host' ends the freeze of this host, once you know that all is well",
    "'sessauth thaw' at a server ends the cluster's freeze, once you know that all is well",
)


def _brake(host: Host) -> Iterator[Finding]:
    with brake.reader_page(host.config.state_dir / layout.BRAKE_FILE) as page:
        reason, alarm, stale = brake.reason_of(page), brake.alarm_of(page), brake.is_stale(page)
        holds = brake.failed_of(page), brake.by_hand_of(page).engaged, bool(brake.cluster_reason_of(page))
    if reason is not None:
        remedy = "; ".join(itertools.compress(_RELEASES, holds))
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
    if host.config.identity_providers:
        known.add(LOGINS_OWNER)
    try:
        known |= {each.name for each in CredentialFile(host.config.credentials_file).list()}
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
        faults += lacking(host.config.audit_dir, ChangeLog(reader))
    except (KeyFolderError, StateError, OSError) as error:
        yield of_error("audit_damaged", error, "'sessauth audit verify' says more")
        return
    if faults:
        yield Finding(
            "audit_damaged",
            f"{len(faults)} findings, the first: {faults[0].kind.name}: {faults[0].words}",
            "'sessauth audit verify' lists them",
        )


# Clocks of machines that copy backups differ by less.
_AHEAD_MS: Final = 60_000


def find_in_backups(host: Host) -> Iterator[Finding]:
    """Yield the findings of the folders that were named."""
    for folder in host.backups:
        newest = newest_backup(folder)
        if newest is None:
            yield Finding(
                "backup_missing",
                f"{folder} is no finished backup and holds none",
                f"sessauth state backup {folder}/NAME",
            )
            continue
        age_ms = host.clock.now_ms() - int((newest / MANIFEST_FILE).stat().st_mtime * 1000)
        if age_ms < -_AHEAD_MS:
            yield Finding(
                "backup_old",
                f"the newest backup, {newest}, has a time ahead of the clock, so its age is unknown",
                f"set the clock right; sessauth state backup {newest.parent}/NAME",
            )
        elif age_ms > host.backup_age_ms:
            yield Finding(
                "backup_old",
                f"the newest backup, {newest}, is {age_ms // 3_600_000} h old",
                f"sessauth state backup {newest.parent}/NAME, from a timer",
            )
        try:
            manifest = read_apart(newest, BACKUP).manifest
        except (StateUnusable, OSError) as error:
            yield of_error("backup_unusable", error)
            continue
        if manifest is not None and _cluster_id(host) not in ("", manifest.cluster_id):
            yield Finding(
                "backup_unusable",
                f"{newest} belongs to another service than {host.config.state_dir}, so a restore refuses it",
                "name the folder of this service's backups",
            )


def _cluster_id(host: Host) -> str:
    """Return the id that backups of this host's state have; empty if the state can't be read."""
    if host.state_fault is not None:
        # A finding of the folder.
        return ""
    try:
        with closing(StateReader.open(host.config.state_dir)) as reader:
            return reader.head().cluster_id.hex()
    except StateError:
        # A finding of the folder.
        return ""


def newest_backup(folder: Path) -> Path | None:
    """Return the newest finished backup, which ``folder`` is or holds; None if there is none."""
    found: list[tuple[float, Path]] = []
    for manifest in (folder / MANIFEST_FILE, *folder.glob(f"*/{MANIFEST_FILE}")):
        try:
            found.append((manifest.stat().st_mtime, manifest.parent))
        except OSError:
            continue
    return max(found)[1] if found else None


def find_in_files(host: Host) -> Iterator[Finding]:
    """Yield the findings."""
    for problem in local_files.problems(host.config):
        yield of_error("open_file", problem)
    yield from _certificates(host)
    yield from _credentials(host)
    yield from _proof_keys(host)
    yield from _issuer_key(host)
    yield from _host_key(host.config)


def _certificates(host: Host) -> Iterator[Finding]:
    now_ms = host.clock.now_ms()
    for each in stated_certificates(host.config):
        name, left = f"{each.setting} {each.path}", each.days_left(now_ms)
        if each.problem:
            yield Finding(
                "certificate_unusable",
                f"{name}: {each.problem}",
                "state a PEM certificate, and the private key that it was made for, without a passphrase",
            )
        elif left < 0 or each.begins_s * 1000 > now_ms:
            yield Finding(
                "certificate_expired",
                f"{name} is not valid now, so no client that verifies it connects",
                "put a new one in its place; it is read again by itself",
            )
        elif left < WARN_DAYS[-1]:
            yield Finding("certificate_ends", f"{name} ends in {left} days", "put a new one in its place")


def _credentials(host: Host) -> Iterator[Finding]:
    try:
        stored = CredentialFile(host.config.credentials_file).list()
    except (ConfigError, OSError) as error:
        yield of_error("credentials", error, "nobody may call: put the file back, or remove it and add again")
        return
    operators = [each for each in stored if each.role == OPERATOR]
    in_certificates = any(entry.role == OPERATOR for entry in host.config.identities)
    # The callers of a cluster are in its log; a follower has none of its own.
    alone = not host.config.cluster.enabled and not host.config.follow.servers
    if alone and not operators and not in_certificates:
        yield Finding(
            "no_operator",
            "no credential and no certificate has the role operator",
            "sessauth credential add operator --role operator --out operator.credential",
        )


def _proof_keys(host: Host) -> Iterator[Finding]:
    folder = host.config.state_dir
    if not keys_path(folder).exists():
        # Made at the first start.
        return
    try:
        keys = HostProofKeys.read(folder)
    except StateUnusable as error:
        yield of_error("proof_keys", error)
        return
    if host.status is not None and not keys.counting(host.clock.now_ms()):
        yield Finding(
            "proof_keys",
            f"no key in {keys_path(folder)} counts now, so bound tokens are denied",
            "read the log for proofs_unavailable and background_task_failed, then restart the server",
        )


def _host_key(config: Config) -> Iterator[Finding]:
    """Find a key or credential that a host can't show to its cluster: a server's or a follower's."""
    try:
        if config.cluster.enabled:
            ServerKey.load(server_key_file(config))
        elif config.follow.servers and config.follow.credential:
            file = config.path(config.follow.credential)
            if file.exists() and not file.is_file():
                raise ConfigError(f"{file} is no plain file")
            load_credential(file)
    except KeyFolderError as error:
        yield of_error(
            "host_key", error, "put the key's file back, or 'sessauth cluster prepare' and admit it"
        )
    except ConfigError as error:
        yield of_error("host_key", error, "put the credential into the file of follow.credential")


def _issuer_key(host: Host) -> Iterator[Finding]:
    if host.config.follow.servers:
        return
    try:
        ring = KeyRing(host.config.keys_dir)
    except KeyFolderError as error:
        yield of_error("issuer_key", error)
        return
    if host.state_fault is not None:
        # A finding of the folder.
        return
    try:
        reader = StateReader.open(host.config.state_dir)
    except StateError:
        # A finding of the folder.
        return
    try:
        with closing(reader), reader.rows() as rows:
            records = [record for record in map(rows.key, rows.key_ids()) if record is not None]
    except StateUnusable as error:
        yield of_error("state_unusable", error)
        return
    try:
        problem = ring.problem(records)
    except (KeyFolderError, OSError) as error:
        problem = str(error)
    if problem:
        states = ", ".join(f"{each.id.hex()[:8]} {KeyStatus(each.status).name}" for each in records)
        yield Finding(
            "issuer_key",
            f"{problem} (the state lists {states or 'none'}), so no token can be minted",
            "put the key's file back, or 'sessauth keys add' and 'sessauth keys activate'",
        )
