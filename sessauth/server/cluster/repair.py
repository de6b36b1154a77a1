"""Decisions of an operator: a lost log goes on from a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...errors import ConfigError, NotLeader, StateError
from ...model.group_record import CarriedPosition
from ...model.host import SERVER_PREFIX
from ...state.host import brake
from ...state.layout import BRAKE_FILE
from ...state.lmdb.cluster_rows import read_position
from ...state.replication.carried_log import CarriedLog
from ...state.replication.carrier import Carrier, CarrierError, Leader, LogHead
from ...state.replication.follower import StoredAlarm
from ...state.replication.membership import end_all
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ..config.config import Config
from .begin import require_settings, server_key
from .heads import HostHead, folder_head
from .membership import open_carrier

LEAD_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.1


def adopt(
    config: Config,
    others: Sequence[HostHead] = (),
    *,
    keep_sessions: bool = False,
    end_sessions: bool = False,
    force: bool = False,
) -> dict[str, object]:
    """Have the engine's log go on after this server's folder, which must be the most advanced one.

    ``others`` are the heads of the known hosts. If one holds more than this folder, raises StateError unless
    ``force``. A new incarnation ends every session with ``end_sessions`` or ``force``; and if a host's head
    is not certain, unless ``keep_sessions``: then the operator vouches for it. This server must be stopped.
    Raises ConfigError if the engine does not answer, StateError if its log is as long as the folder's, or a
    server leads.
    """
    require_settings(config)
    name = SERVER_PREFIX + config.cluster.name
    own, _ = folder_head(config.state_dir, name)
    known = [head for head in others if head.host != name]
    ahead = [head.host for head in known if _is_ahead(head, own)]
    if ahead and not force:
        raise StateError(
            f"{', '.join(ahead)} holds more than record {own.number} of this folder, or something else: "
            "adopt from there, or give that up with --force, which ends every session"
        )
    unsure = [head.host for head in known if not _is_settled(head)]
    ends = force or end_sessions or (bool(unsure) and not keep_sessions)
    carrier = open_carrier(config, own.cluster_id)
    try:
        document = _adopt(config, carrier, keep_sessions=not ends)
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: {error}") from error
    finally:
        carrier.close()
    return {**document, "not_asked": ", ".join(unsure), "ahead": ", ".join(ahead)}


def lower_clock_floor(config: Config) -> dict[str, object]:
    """Have the cluster's clock floor be this host's time, since a leader's clock was ahead.

    It ends every session: decisions by the wrong time count no more. This server must be stopped, and
    its folder hold the whole log. Raises ConfigError if the engine does not answer, StateError if the floor
    is not ahead, if records are missing here, or if a server leads.
    """
    require_settings(config)
    name = config.cluster.name
    cluster = folder_head(config.state_dir, SERVER_PREFIX + name)[0].cluster_id
    carrier = open_carrier(config, cluster)
    carried = CarriedLog(carrier, name, server_key(config))
    try:
        with StateWriter.open(
            config.state_dir, map_size=config.server.map_size_bytes, carried=carried
        ) as writer:
            return lower_floor(writer, carried, config.cluster.address, config.cluster.lead_ttl_ms)
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: {error}") from error
    finally:
        carrier.close()


def lower_floor(writer: StateWriter, carried: CarriedLog, address: str, ttl_ms: int) -> dict[str, object]:
    """Append the record that has an opened folder's clock floor be its wall clock. Raises as above."""
    carrier, now_ms, before_ms = carried.carrier, writer.now_ms(), writer.head().clock_floor_ms
    if before_ms <= now_ms:
        raise StateError("the log's last time is not ahead of this host's clock: there is nothing to lower")
    leader = _lead(carrier, carried.server, address, ttl_ms)
    try:
        barrier = carrier.barrier(f"{carried.server}/adopt", b"")
        with writer.source().rows() as rows:
            position = read_position(rows) or CarriedPosition()
        if barrier.head != LogHead(position.number, position.digest):
            raise StateError(
                f"the log ends at record {barrier.head.number}, and this folder holds {position.number}: "
                "start the server, let it follow to the end, stop it, and ask again"
            )

        def decide(group: Group) -> None:
            """Begin a term and an incarnation in one record."""
            carried.begin_term(group)
            end_all("the clock floor was lowered", now_ms)(group)

        carried.lead(leader, barrier.engine_id)
        writer.run(decide)
    except NotLeader as error:
        raise StateError(f"the lead was lost meanwhile: {error}") from error
    finally:
        carried.end_term()
        carrier.resign(leader)
    return {
        "server": carried.server,
        "record": position.number + 1,
        "clock_floor_ms_before": before_ms,
        "clock_floor_ms": now_ms,
        "sessions": "all ended",
    }


def _lead(carrier: Carrier, name: str, address: str, ttl_ms: int) -> Leader:
    """Take the lead. Servers that may not lead hold it for moments. Raises StateError."""
    end = time.monotonic() + LEAD_SECONDS
    while (leader := carrier.lead(name, address, ttl_ms)) is None:
        if time.monotonic() >= end:
            raise StateError("a server leads; stop all of them first")
        time.sleep(PAUSE_SECONDS)
    return leader


def clear_alarm(state_dir: Path) -> dict[str, object]:
    """Clear the alarm of a folder, and return its text. Raises StateUnusable."""
    page = brake.Brake(state_dir / BRAKE_FILE)
    try:
        alarm = StoredAlarm.decode(page.alarm)
        page.clear_alarm()
    finally:
        page.close()
    return {
        "state_dir": str(state_dir),
        "cleared": "" if alarm is None else alarm.fault,
        "message": "there was none" if alarm is None else alarm.message,
    }


def _is_ahead(head: HostHead, own: HostHead) -> bool:
    """Return True if a host of the cluster is known to hold records that a folder lacks."""
    if head.cluster_id and head.cluster_id != own.cluster_id:
        return False
    if head.number == own.number:
        return bool(head.digest) and head.digest != own.digest
    return head.number > own.number


def _is_settled(head: HostHead) -> bool:
    """Return True if a host's statement of itself can't change: it applies nothing any more."""
    return not head.silent and bool(head.alarm) and head.source in ("itself", "a server")


def _adopt(config: Config, carrier: Carrier, *, keep_sessions: bool) -> dict[str, object]:
    name = config.cluster.name
    carried = CarriedLog(carrier, name, server_key(config))

    def decide(group: Group) -> None:
        """Decide in one record: hosts allow again after it, and a second one may never come."""
        carried.begin_engine(group)
        if not keep_sessions:
            end_all("the engine's log was lost")(group)

    with StateWriter.open(config.state_dir, map_size=config.server.map_size_bytes, carried=carried) as writer:
        with writer.source().rows() as rows:
            position = read_position(rows) or CarriedPosition()
        barrier = carrier.barrier(f"{name}/adopt", b"")
        current = barrier.head
        own = LogHead(position.number, position.digest)
        if current.number > own.number or current == own:
            raise StateError(
                f"the engine's log ends at record {current.number}, this folder at {own.number}: the engine "
                "lost nothing that is here"
            )
        if not carrier.seed(current, own):
            raise StateError("the engine's log moved meanwhile; stop all servers")
        leader = carrier.lead(name, config.cluster.address, config.cluster.lead_ttl_ms)
        if leader is None:
            raise StateError("a server leads; stop all of them first")
        try:
            carried.lead(leader, barrier.engine_id)
            writer.run(decide)
        except NotLeader as error:
            raise StateError(f"the lead was lost meanwhile: {error}") from error
        finally:
            carried.end_term()
            carrier.resign(leader)
        # This host's own: the log goes on from its folder.
        writer.clear_alarm()
        return {
            "server": name,
            "engine_record_before": current.number,
            "record": position.number + 1,
            "sessions": "kept" if keep_sessions else "all ended",
        }
