"""Heads of all known hosts of a cluster: an operator compares them before a decision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...errors import ConfigError, SessauthError
from ...model.group_record import CarriedPosition
from ...model.host import SERVER_PREFIX, HostRecord
from ...model.standing import ClusterStanding, HostStanding
from ...state.host import brake
from ...state.layout import BRAKE_FILE
from ...state.lmdb.cluster_rows import hosts, read_position
from ...state.lmdb.reader import StateReader
from ...state.replication.follower import StoredAlarm
from ..config.config import Config

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
            if other is None or _weighs_more(head, other):
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
    reader = StateReader.open(folder)
    try:
        head = reader.head()
        with reader.rows() as rows:
            position: CarriedPosition | None = read_position(rows)
            known = hosts(rows)
    finally:
        reader.close()
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
        [_known(record) for record in known],
    )


def _weighs_more(head: HostHead, other: HostHead) -> bool:
    """Return True if this answer of two in one host's name permits less: a copy of a host may be behind."""
    return (head.number, not head.alarm) > (other.number, not other.alarm)


def _known(record: HostRecord) -> HostStanding:
    return HostStanding(record.name, record.address)


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
