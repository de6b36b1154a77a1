"""Decisions of an operator about a cluster, and the reports that they are based on.

After a loss of the engine's log, an operator has it go on from a folder. Before that, the operator compares
the heads of all known hosts of the cluster. The standing of the cluster, as one server's host sees it, is
here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...errors import ConfigError, NotLeader, SessauthError, StateError
from ...model.host import FORMAT, SERVER_PREFIX, CarriedPosition
from ...model.server_status import ClusterStanding, HostStanding
from ...state.host import brake
from ...state.layout import BRAKE_FILE
from ...state.lmdb.cluster_rows import hosts, read_position
from ...state.lmdb.reader import StateReader
from ...state.replication.carried_log import CarriedLog
from ...state.replication.carrier import Carrier, CarrierError, EngineRoom, Leader, LogHead
from ...state.replication.election import genuine_beats
from ...state.replication.follower import StoredAlarm
from ...state.replication.membership import end_all
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ..config import Config
from .begin import require_settings, server_key
from .membership import holding_back, open_carrier, readers

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
    # A host's statement of itself can't change once it applies nothing any more.
    settled = ("itself", "a server")
    unsure = [head.host for head in known if head.silent or not head.alarm or head.source not in settled]
    ends = force or end_sessions or (bool(unsure) and not keep_sessions)
    try:
        with closing(open_carrier(config, own.cluster_id)) as carrier:
            document = _adopt(config, carrier, keep_sessions=not ends)
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: {error}") from error
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
    size = config.server.map_size_bytes
    try:
        with closing(open_carrier(config, cluster)) as carrier:
            carried = CarriedLog(carrier, name, server_key(config))
            with StateWriter.open(config.state_dir, map_size=size, carried=carried) as writer:
                return lower_floor(writer, carried, config.cluster.address, config.cluster.lead_ttl_ms)
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: {error}") from error


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

        _decide(writer, carried, leader, barrier.engine_id, decide)
    finally:
        carrier.resign(leader)
    return {
        "server": carried.server,
        "record": position.number + 1,
        "clock_floor_ms_before": before_ms,
        "clock_floor_ms": now_ms,
        "sessions": "all ended",
    }


def _decide(
    writer: StateWriter, carried: CarriedLog, leader: Leader, engine_id: str, decide: Callable[[Group], None]
) -> None:
    """Run ``decide`` in a group of a term. Raises StateError if the lead is lost."""
    try:
        carried.lead(leader, engine_id)
        writer.run(decide)
    except NotLeader as error:
        raise StateError(f"the lead was lost meanwhile: {error}") from error
    finally:
        carried.end_term()


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
    with closing(brake.Brake(state_dir / BRAKE_FILE)) as page:
        alarm = StoredAlarm.decode(page.alarm)
        page.clear_alarm()
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
            _decide(writer, carried, leader, barrier.engine_id, decide)
        finally:
            carrier.resign(leader)
        # This host's own: the log goes on from its folder.
        writer.clear_alarm()
        return {
            "server": name,
            "engine_record_before": current.number,
            "record": position.number + 1,
            "sessions": "kept" if keep_sessions else "all ended",
        }


Ask = Callable[[str], ClusterStanding]
# A follower that is up says so to a server twice a second, in an alarm every two seconds.
RECENT_MS: Final = 6_000
MAX_AT_ONCE: Final = 32
# For hosts that are a moment behind.
ROUNDS: Final = 6
ROUND_SECONDS: Final = 0.5
FOLDER: Final = "folder"
# Differences between two heads that no waiting removes.
SAME, BEHIND, STALE = "same", "behind", "stale"
DIFFERS, FOREIGN, SILENT = "differs", "another cluster", "silent"


@dataclass(frozen=True, slots=True)
class HostHead:
    """A host's end of the log. ``source`` names its origin: the host itself, its folder, or a server.

    ``silent`` says why nothing is known of it, or only an old statement. A head by a server has no
    digest, as a follower states its number alone. ``verdict`` compares it with the others.
    """

    host: str
    address: str = ""
    source: str = ""
    cluster_id: bytes = b""
    incarnation: bytes = b""
    number: int = 0
    digest: bytes = b""
    term: int = 0
    revision: int = 0
    leading: bool = False
    fresh: bool = False
    alarm: str = ""
    alarm_message: str = ""
    brake: str = ""
    cluster_brake: str = ""
    refused_by: str = ""
    silent: str = ""
    verdict: str = ""


def compare(config: Config, ask: Ask, ask_own: Callable[[], ClusterStanding], addresses: Sequence[str],
            folders: Sequence[Path] = ()) -> list[HostHead]:  # fmt: skip
    """Return the heads of all known hosts, the most advanced first, each with a verdict.

    Hosts that are behind get three seconds to reach the head that was seen first.
    """
    heads = survey(config, ask, addresses, own=ask_own, folders=folders)
    goal = max((head.number for head in heads), default=0)
    for _ in range(ROUNDS):
        heads = judged(heads, goal)
        if not any(head.verdict in (BEHIND, STALE) and not head.alarm for head in heads):
            break
        time.sleep(ROUND_SECONDS)
        heads = survey(config, ask, addresses, own=ask_own, folders=folders)
    return judged(heads, goal)


def judged(heads: Iterable[HostHead], goal: int) -> list[HostHead]:
    """Return heads with their verdicts, by number; ``goal`` is the number that each should have reached."""
    ordered = sorted(heads, key=lambda head: (bool(head.silent), -head.number, head.host))
    first = next((head for head in ordered if head.cluster_id), None)
    digests: dict[int, bytes] = {}
    for head in ordered:
        if head.digest and first is not None and head.cluster_id == first.cluster_id:
            digests.setdefault(head.number, head.digest)
    return [replace(head, verdict=_verdict(head, first, digests, goal)) for head in ordered]


def _verdict(head: HostHead, first: HostHead | None, digests: Mapping[int, bytes], goal: int) -> str:
    if head.silent:
        return SILENT
    if first is not None and head.cluster_id and head.cluster_id != first.cluster_id:
        return FOREIGN
    if head.alarm:
        return head.alarm
    if head.digest and digests.get(head.number, head.digest) != head.digest:
        return DIFFERS
    if head.number < goal:
        return BEHIND
    return SAME if head.fresh else STALE


def survey(
    config: Config,
    ask: Ask,
    addresses: Sequence[str],
    *,
    own: Callable[[], ClusterStanding] | None = None,
    folders: Sequence[Path] = (),
) -> list[HostHead]:
    """Ask this host, each server of the settings, of the rows and of ``addresses``, and read ``folders``.

    Servers say which other hosts there are, and where. ``own`` asks this host's process; None, or no answer:
    its folder is read.
    """
    found: dict[str, HostHead] = {}
    rows: dict[str, HostStanding] = {}
    mine = own_head(config, own)
    if mine is not None:
        head, known = mine
        found[head.host] = head
        _merge(rows, known)
    for folder in folders:
        head, known = folder_head(folder, str(folder))
        found[head.host] = head
        _merge(rows, known)
    wanted = dict.fromkeys((*addresses, *config.follow.servers, *(row.address for row in rows.values())))
    own_address = config.cluster.address
    problems: dict[str, str] = {}
    visited: set[str] = {"", own_address}
    while pending := [address for address in wanted if address not in visited]:
        visited.update(pending)
        with ThreadPoolExecutor(min(len(pending), MAX_AT_ONCE)) as pool:
            answers = list(pool.map(lambda address: _answer(ask, address), pending))
        for address, answer in zip(pending, answers, strict=True):
            if isinstance(answer, str):
                problems[address] = answer
                continue
            head = _of_standing(answer, address)
            expected = next((row.name for row in rows.values() if row.address == address), head.host)
            other = found.get(head.host)
            if expected != head.host or (other is not None and other.source == FOLDER):
                problems[address] = f"it says that it is {head.host}"
                continue
            if other is not None and head.number == other.number and head.digest != other.digest:
                # Two pasts in one name: neither hides the other.
                head, other = replace(head, host=f"{head.host} at {address}"), None
            # Of two answers in one host's name the one that permits less: a copy of a host may be behind.
            if other is None or (head.number, not head.alarm) > (other.number, not other.alarm):
                found[head.host] = head
            _merge(rows, answer.hosts)
            wanted.update(dict.fromkeys(row.address for row in answer.hosts))
    by_address = {head.address for head in found.values()}
    for row in rows.values():
        if row.name not in found:
            found[row.name] = _of_row(row, problems)
            by_address.add(row.address)
    for address, problem in problems.items():
        # Named by the settings or the command line, but by no known host.
        if address not in by_address:
            found[address] = HostHead(address, address, silent=problem)
    return list(found.values())


def own_head(
    config: Config, ask: Callable[[], ClusterStanding] | None
) -> tuple[HostHead, Sequence[HostStanding]] | None:
    """Return this host's head: as its process states it, else by its folder; None without a folder."""
    name = SERVER_PREFIX + config.cluster.name if config.cluster.enabled else config.follow.host_name
    if ask is not None:
        answer = _answer(lambda _: ask(), "")
        if not isinstance(answer, str):
            return _of_standing(answer, config.cluster.address), answer.hosts
    if not config.state_dir.exists():
        return None
    head, known = folder_head(config.state_dir, name or str(config.state_dir))
    return replace(head, address=config.cluster.address), known


def folder_head(folder: Path, name: str) -> tuple[HostHead, Sequence[HostStanding]]:
    """Return the head of a folder, whose process need not run. Raises StateUnusable or ConfigError."""
    with closing(StateReader.open(folder)) as reader, reader.rows() as rows:
        head, position, known = rows.head(), read_position(rows), hosts(rows)
    if position is None:
        raise ConfigError(f"{folder} belongs to no cluster")
    with brake.reader_page(folder / BRAKE_FILE) as page:
        alarm = StoredAlarm.decode(brake.alarm_of(page))
        why, cluster_brake = brake.reason_of(page) or "", brake.cluster_reason_of(page)
    return (
        HostHead(
            name,
            source=FOLDER,
            cluster_id=head.cluster_id,
            incarnation=head.incarnation,
            number=position.number,
            digest=position.digest,
            term=position.term,
            revision=head.revision,
            alarm="" if alarm is None else alarm.fault,
            alarm_message="" if alarm is None else alarm.message,
            brake=why,
            cluster_brake=cluster_brake,
        ),
        [HostStanding(record.name, record.address) for record in known],
    )


def _answer(ask: Ask, address: str) -> ClusterStanding | str:
    """Return a server's answer, or why there is none."""
    try:
        return ask(address)
    except SessauthError as error:
        return str(error)


def _merge(rows: dict[str, HostStanding], more: Iterable[HostStanding]) -> None:
    """Add hosts; of the statements to several servers, the latest counts."""
    for row in more:
        before = rows.get(row.name)
        if before is None:
            rows[row.name] = row
            continue
        latest = row if row.reported and (not before.reported or row.age_ms < before.age_ms) else before
        rows[row.name] = replace(latest, address=before.address or row.address)


def _of_standing(standing: ClusterStanding, address: str) -> HostHead:
    values = {name: getattr(standing, name) for name in ClusterStanding.__slots__ if name != "hosts"}
    return HostHead(**values, address=address, source="itself")


def _of_row(row: HostStanding, problems: Mapping[str, str]) -> HostHead:
    """Return the head of a host that did not answer itself: a follower's is its last report to a server."""
    if row.reported and row.age_ms <= RECENT_MS:
        return HostHead(row.name, source="a server", number=row.number, fresh=not row.alarm, alarm=row.alarm)
    if row.name.startswith(SERVER_PREFIX):
        silent = problems.get(row.address, "") if row.address else "its address is not known: name it"
    elif row.reported:
        silent = f"said {row.age_ms // 1000} s ago that it holds {row.number}"
    else:
        silent = "no server that answers heard of it"
    return HostHead(row.name, row.address, number=row.number, silent=silent or "does not answer")


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
    with brake.reader_page(config.state_dir / BRAKE_FILE) as page:
        stale = brake.is_stale(page)
    standing = folder(config)
    del standing["server"]
    return {**standing, "follows": ", ".join(config.follow.servers), "stale": stale}


def _by_beats(config: Config, carrier: Carrier, *, led: bool) -> dict[str, str]:
    """Return the contents of the servers' last beats.

    ``format_held_back_by``: hosts that did not say that they read the latest format; empty once it is
    written. ``not_leading``: why each does not lead, while none does. ``clock_differs``: whose clocks differ.
    """
    beats = carrier.beats()
    with closing(StateReader.open(config.state_dir)) as reader, reader.rows() as rows:
        said, held = genuine_beats(rows, beats), list[str]()
        if (read_position(rows) or CarriedPosition()).writes < FORMAT:
            held = holding_back(hosts(rows), readers(rows, beats))
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
    with closing(StateReader.open(config.state_dir)) as reader, reader.rows() as rows:
        head, position, found = rows.head(), read_position(rows) or CarriedPosition(), hosts(rows)
    with brake.reader_page(config.state_dir / BRAKE_FILE) as page:
        why, cluster_brake, alarm = brake.reason_of(page), brake.cluster_reason_of(page), brake.alarm_of(page)
    return {
        "cluster_id": head.cluster_id.hex(),
        "server": config.cluster.name,
        "connections": config.connections,
        "record": position.number,
        "revision": head.revision,
        "format": position.writes,
        "brake": why or "",
        "cluster_brake": cluster_brake,
        "alarm": alarm,
        "hosts": ", ".join(record.name + (" (leaving)" if record.leaving else "") for record in found),
    }
