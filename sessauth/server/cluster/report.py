"""The standing of a cluster as one server's host sees it, for operators."""

from __future__ import annotations

from ...errors import ConfigError
from ...model.group_record import FORMAT, CarriedPosition
from ...state.host.brake import alarm_of, cluster_reason_of, is_stale, reader_page, reason_of
from ...state.layout import BRAKE_FILE
from ...state.lmdb.cluster_rows import hosts, read_position
from ...state.lmdb.reader import StateReader
from ...state.replication.carrier import Carrier, CarrierError, EngineRoom
from ...state.replication.election import genuine_beats
from ..config.config import Config
from .log_format import holding_back, readers
from .membership import open_carrier


def report(config: Config) -> dict[str, object]:
    """Return the leader, the last records of the engine and of this host's folder, and its hosts.

    A follower's host knows its folder alone. Raises ConfigError without ``[cluster]`` and ``[follow]``,
    StateUnusable if the folder can't be read. An engine that does not answer is part of the report.
    """
    if not config.cluster.enabled:
        if config.follow.servers:
            return _followed(config)
        raise ConfigError("cluster.engine: this home has no section [cluster]")
    standing = folder(config)
    cluster = bytes.fromhex(str(standing["cluster_id"]))
    carrier = open_carrier(config, cluster)
    room = EngineRoom(0, 0, full=False)
    try:
        room = carrier.room()
        leader = carrier.leader()
        standing |= {
            "engine": "answers",
            "engine_bytes": room.size,
            "engine_quota": room.quota,
            "engine_record": carrier.barrier(f"{config.cluster.name}/status", b"").head.number,
            "leader": leader.name if leader is not None else "",
            "leader_address": leader.address if leader is not None else "",
            "term": leader.term if leader is not None else 0,
            **_by_beats(config, carrier, led=leader is not None),
        }
    except CarrierError as error:
        standing["engine"] = (
            f"is full, and takes no write: {error}" if room.full else f"does not answer: {error}"
        )
    finally:
        carrier.close()
    return standing


def _followed(config: Config) -> dict[str, object]:
    """Return the standing of a host that only follows."""
    with reader_page(config.state_dir / BRAKE_FILE) as page:
        stale = is_stale(page)
    standing = folder(config)
    del standing["server"]
    return {**standing, "follows": ", ".join(config.follow.servers), "stale": stale}


def _by_beats(config: Config, carrier: Carrier, *, led: bool) -> dict[str, str]:
    """Return the contents of the servers' last beats.

    ``format_held_back_by``: hosts that did not say that they read the latest format; empty once it is
    written. ``not_leading``: why each does not lead, while none does. ``clock_differs``: whose clocks differ.
    """
    beats = carrier.beats()
    reader = StateReader.open(config.state_dir)
    try:
        with reader.rows() as rows:
            said, held = genuine_beats(rows, beats), list[str]()
            if (read_position(rows) or CarriedPosition()).writes < FORMAT:
                held = holding_back(hosts(rows), readers(rows, beats))
    finally:
        reader.close()
    return {
        "format_held_back_by": ", ".join(held),
        "not_leading": "; ".join(
            f"{name}: {beat.not_leading}" for name, beat in said.items() if beat.not_leading and not led
        ),
        "clock_differs": "; ".join(
            f"{name} is {beat.clock_differs}" for name, beat in said.items() if beat.clock_differs
        ),
    }


def folder(config: Config) -> dict[str, object]:
    """Return the head of this host's folder, and why its checks are denied. Raises StateUnusable."""
    reader = StateReader.open(config.state_dir)
    try:
        head = reader.head()
        with reader.rows() as rows:
            position = read_position(rows) or CarriedPosition()
            found = hosts(rows)
    finally:
        reader.close()
    with reader_page(config.state_dir / BRAKE_FILE) as page:
        brake, cluster_brake, alarm = reason_of(page) or "", cluster_reason_of(page), alarm_of(page)
    return {
        "cluster_id": head.cluster_id.hex(),
        "server": config.cluster.name,
        "connections": config.connections,
        "record": position.number,
        "revision": head.revision,
        "format": position.writes,
        "brake": brake,
        "cluster_brake": cluster_brake,
        "alarm": alarm,
        "hosts": ", ".join(record.name + (" (leaving)" if record.leaving else "") for record in found),
    }
