"""Decisions of an operator: a lost log goes on from a folder."""

from __future__ import annotations

from ...errors import ConfigError, NotLeader, StateError
from ...model.group_record import CarriedPosition
from ...state.replication.carried_log import CarriedLog
from ...state.replication.carrier import Carrier, CarrierError, LogHead
from ...state.replication.leaving import end_all
from ...state.replication.position import read_position
from ...state.writer.state_writer import StateWriter
from ..config.config import Config
from .begin import require_settings, server_key
from .membership import cluster_id, open_carrier


def adopt(config: Config, *, keep_sessions: bool = False) -> dict[str, object]:
    """Have the engine's log go on behind this server's folder, which must be the most advanced one.

    A new incarnation ends every session, unless ``keep_sessions``: then whoever asks vouches that no other
    host holds more. All servers must be stopped. Raises ConfigError if the engine does not answer, StateError
    if its log is as long as the folder's, or a server leads.
    """
    require_settings(config)
    carrier = open_carrier(config, cluster_id(config.state_dir))
    try:
        return _adopt(config, carrier, keep_sessions=keep_sessions)
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: {error}") from error
    finally:
        carrier.close()


def _adopt(config: Config, carrier: Carrier, *, keep_sessions: bool) -> dict[str, object]:
    name = config.cluster.name
    carried = CarriedLog(carrier, name, server_key(config))
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
            writer.run(carried.begin_engine)
            if not keep_sessions:
                writer.run(end_all("the engine's log was lost"))
        except NotLeader as error:
            raise StateError(f"the lead was lost meanwhile: {error}") from error
        finally:
            carried.end_term()
            carrier.resign(leader)
        # This host's own: the log goes on from what it holds.
        writer.clear_alarm()
        return {
            "server": name,
            "engine_record_before": current.number,
            "record": position.number + (1 if keep_sessions else 2),
            "sessions": "kept" if keep_sessions else "all ended",
        }
