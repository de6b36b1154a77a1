"""The status of a control process, and of a state folder that no process serves.

The process is ready or not by its health status; its log has the cause.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from ... import __version__, limits
from ...audit.write import stream_register
from ...clock import SystemClock
from ...errors import SessauthError, StateError
from ...model.server_status import ServerStatus
from ...state import layout
from ...state.backup import read_apart
from ...state.host import brake as brake_page
from ...state.lmdb import effective_status
from ...state.lmdb.cluster_rows import read_position
from ...state.lmdb.reader import StateReader
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from ..cluster.role import ClusterRole
from ..config import Config
from ..identity.providers import settings_digest
from ..keys.certificates import certificate_end
from ..keys.issuer_keyring import KeyRing
from ..log import event
from ..metrics.service import RecentDecisions
from ..metrics.state import SessionCensus
from .supervisor import Supervisor

SINGLE: Final = "single"
LEADER: Final = "leader"
SERVER: Final = "server"
FOLLOWER: Final = "follower"


@dataclass(eq=False)
class StatusReport:
    """Reads the parts of a control process. Every method may be called from any thread."""

    config: Config
    writer: StateWriter
    part: ClusterRole
    readiness: Readiness
    supervisor: Supervisor
    census: SessionCensus
    recent: Callable[[], RecentDecisions]
    audit_fault: Callable[[], str]
    began: float = field(default_factory=time.monotonic, init=False)

    def read(self) -> ServerStatus:
        """Return the status; without the numbers of a state that can't be read, ``not_ready`` says why."""
        writer, part, recent, alarm = self.writer, self.part, self.recent(), self.part.alarm
        workers = self.supervisor.workers
        status = ServerStatus(
            version=__version__,
            uptime_ms=int((time.monotonic() - self.began) * 1000),
            role=_role(self.config, leads=writer.leads),
            host=part.host,
            not_ready=self.readiness.problem(),
            workers=len(workers),
            ready_workers=sum(worker.ready.is_set() for worker in workers),
            worker_restarts=self.supervisor.restarts,
            minute_ms=recent.ms,
            checks=recent.checks,
            denials=recent.denials,
            brake=writer.braked,
            cluster_brake=writer.cluster_brake,
            clock_suspect=writer.clock_suspect,
            fresh=alarm is None and not writer.stale,
            record=part.record,
            alarm="" if alarm is None else str(alarm),
            audit_fault=self.audit_fault(),
            identity_settings=settings_digest(self.config.identity_providers),
        )
        status = _with_files(status, self.config)
        try:
            used, size = writer.room()
            counts = self.census.statistics()
            return _with_counts(replace(status, revision=writer.head().revision), used, size, counts)
        except SessauthError:
            return status


def folder_status(config: Config) -> ServerStatus:
    """Return the status of a server that does not run, as its folder shows it. Raises StateUnusable."""
    read_apart(config.state_dir)
    with closing(StateReader.open(config.state_dir)) as reader:
        with reader.rows() as rows:
            head, position = rows.head(), read_position(rows)
            used = rows.used_bytes(int(reader.env.stat()["psize"]))
        counts = effective_status.take(reader, SystemClock().now_ms())
        size = int(reader.env.info()["map_size"])
    with brake_page.reader_page(config.state_dir / layout.BRAKE_FILE) as page:
        status = ServerStatus(
            version=__version__,
            role=_role(config, leads=False),
            host=config.host,
            revision=head.revision,
            not_ready="no server runs",
            brake=brake_page.reason_of(page) or "",
            cluster_brake=brake_page.cluster_reason_of(page),
            fresh=not brake_page.is_stale(page),
            record=0 if position is None else position.number,
            alarm=brake_page.alarm_of(page),
            identity_settings=settings_digest(config.identity_providers),
        )
    return _with_counts(_with_files(status, config), used, size, counts)


def _role(config: Config, *, leads: bool) -> str:
    if config.cluster.enabled:
        return LEADER if leads else SERVER
    return FOLLOWER if config.follow.servers else SINGLE


def _with_files(status: ServerStatus, config: Config) -> ServerStatus:
    """Add the free space of the disk, the expiry of the certificate, and the last record of the audit."""
    disk = None
    with suppress(OSError):
        disk = os.statvfs(config.state_dir)
    status = replace(
        status,
        certificate_ends_at_ms=int(certificate_end(config) * 1000),
        disk_free_bytes=0 if disk is None else disk.f_bavail * disk.f_frsize,
        disk_bytes=0 if disk is None else disk.f_blocks * disk.f_frsize,
    )
    try:
        register = stream_register.read(config.state_dir) if config.audit.enabled else None
    except StateError as error:
        return replace(status, audit_fault=status.audit_fault or str(error))
    if register is None or not register.anchors:
        return status
    last = register.anchors[-1]
    return replace(status, audit_stream=last.stream.hex(), audit_lines=last.count, audit_head=last.head)


def _with_counts(
    status: ServerStatus, used: int, size: int, counts: effective_status.StateStatistics
) -> ServerStatus:
    return replace(
        status,
        state_used_bytes=used,
        state_map_bytes=size,
        active_sessions=counts.active,
        suspended_sessions=counts.suspended,
        ended_sessions=counts.ended,
    )


@dataclass(eq=False)
class Readiness:
    """Decides if a process may answer checks, and reports that to ``set_ready``, the health service."""

    writer: StateWriter
    verifier: Verifier
    keyring: KeyRing
    part: ClusterRole
    set_ready: Callable[[bool], object]
    _before: str = field(default="", init=False)

    def problem(self) -> str:
        """Return why this process is not ready; empty if it is."""
        try:
            floor_ms = self.writer.head().clock_floor_ms
            if self.part.alarm is not None:
                return f"this host left its cluster's log: {self.part.alarm}"
            if self.writer.braked:
                return f"the brake denies every check: {self.writer.braked}"
            if not self.verifier.view.current:
                return "the state of this host is not known to be current, which denies every check"
            late_ms = floor_ms - self.writer.now_ms()
            if late_ms > limits.CLOCK_STEP_MS:
                # A clock that was wrong when the state was opened does not deviate from its own beginning.
                # In whole minutes: it is logged whenever it changes.
                minutes = -(-late_ms // 60_000)
                return (
                    f"the wall clock is {minutes} min before the state's clock floor, which denies every "
                    "check: set the clock right, then restart the server"
                )
            return self.keyring.problem(self.writer.keys())
        except SessauthError as error:
            return str(error)

    def words(self) -> str:
        """Return the state of this process at the last report, in one sentence for people."""
        return f"not ready: {self._before}" if self._before else "serving"

    def report(self) -> None:
        """Set the health status; log the cause once when this process is not ready."""
        why, before = self.problem(), self._before
        self._before = why
        self.set_ready(not why)
        if why and why != before:
            event(logging.ERROR, "not_ready", error=why)
        elif before and not why:
            event(logging.INFO, "ready")
