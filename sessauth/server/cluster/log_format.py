"""The format of the carried log that a cluster writes: raised once each of its hosts says that it reads it.

Followers say so in their barriers, servers in their beats. The leader then appends a record that changes
nothing and is of the later format: a host that can't read it stops there, and so does one that comes later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from ...model.group_record import FORMAT, OLDEST_FORMAT, CarriedPosition
from ...model.host import SERVER_PREFIX, HostRecord
from ...state.lmdb.cluster_rows import hosts, read_position
from ...state.lmdb.rows import TxnRows
from ...state.replication.carried_log import CarriedLog
from ...state.replication.election import genuine_beats
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from .. import log as server_log

# Reads a format: a server by its name, and an instance of a host.
Readers = dict[tuple[str, bytes], int]
_NO_INSTANCE: Final = b""


def readers(rows: TxnRows, beats: Mapping[str, bytes]) -> Readers:
    """Return the formats that hosts said they read, by genuine beats of this cluster's servers."""
    found = Readers()
    for server, beat in genuine_beats(rows, beats).items():
        found[SERVER_PREFIX + server, _NO_INSTANCE] = beat.reads or OLDEST_FORMAT
        for host in beat.hosts:
            if not host.name.startswith(SERVER_PREFIX):
                found[host.name, host.instance] = host.reads or OLDEST_FORMAT
    return found


def holding_back(registered: Iterable[HostRecord], known: Readers) -> list[str]:
    """Return the hosts that did not say that they read the latest format, each with the format it reads."""
    found = []
    for host in registered:
        instance = _NO_INSTANCE if host.name.startswith(SERVER_PREFIX) else host.instance
        reads = known.get((host.name, instance), 0)
        if reads < FORMAT:
            found.append(f"{host.name} ({f'reads {reads}' if reads else 'not heard of'})")
    return found


class FormatRaiser:
    """Has a cluster write the latest format, while this server leads. One thread at a time may call it."""

    def __init__(self, log: StateWriter, carried: CarriedLog) -> None:
        """Read beats through the carrier of ``carried``."""
        self._log = log
        self._carried = carried
        # Statements of hosts while this server led: they hold for a host that is away now.
        self._known = Readers()
        self._holding: list[str] = []

    def poll(self) -> None:
        """Raise the format if no host holds it back. Raises CarrierError, and as the log does."""
        if self._carried.leader is None:
            self._known.clear()
            self._holding = []
            return
        with self._log.source().rows() as rows:
            if (read_position(rows) or CarriedPosition()).writes >= FORMAT:
                return
            self._known |= readers(rows, self._carried.carrier.beats())
            holding = holding_back(hosts(rows), self._known)
        if holding:
            if holding != self._holding:
                server_log.event(logging.INFO, "format_held_back", format=FORMAT, hosts=holding)
            self._holding = holding
        elif self._log.run(self._raise):
            server_log.event(logging.INFO, "format_raised", format=FORMAT)

    def _raise(self, group: Group) -> bool:
        """Raise it, unless a host registered meanwhile."""
        if holding_back(hosts(group.rows), self._known):
            return False
        self._carried.raise_format(group)
        return True
