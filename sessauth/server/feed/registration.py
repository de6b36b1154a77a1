"""Registration of hosts: none gets a barrier before its row is durable in the cluster's log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ...errors import NotLeader
from ...model.caller_statement import ItemProof
from ...model.host import HostRecord
from ...state.lmdb import cluster_rows
from ...state.writer.state_writer import StateWriter
from ...v1 import feed_service_pb2 as pb
from ..rpc.call import CallContext
from ..rpc.pipeline import HandOn, shows_always
from ..status import refused

COMMIT_SECONDS: Final = 5.0
APPLY_MS: Final = 500
METHOD: Final = "/sessauth.v1.FeedService/RegisterHost"


def _no_leader(
    name: str,
    request: bytes,
    call: CallContext,
    error: NotLeader,
    proofs: Sequence[ItemProof] = (),
    shows: Callable[[bytes], bool] = shows_always,
) -> bytes:
    raise error


class HostRegistration:
    """Registers hosts by the log of this server, or by its leader."""

    def __init__(self, log: StateWriter, wait_for: Callable[[int, int], bool]) -> None:
        """Write to ``log``; ``wait_for(number, ms)`` waits until the folder holds a record."""
        self._log = log
        self._wait_for = wait_for
        # Asks the leader as the caller; it returns once this folder holds the leader's answer.
        self.hand_on: HandOn = _no_leader

    def store(self, wanted: HostRecord) -> None:
        """Register a host; returns once that is durable.

        Raises NotLeader, NAME_TAKEN, LIMIT, and as the log does.
        """
        work = partial(cluster_rows.store_host, wanted=wanted)
        self._log.decide(work, cluster_rows.HOST_ROW_BYTES).result(COMMIT_SECONDS)

    def require(self, wanted: HostRecord, call: CallContext) -> None:
        """Register a host unless it is registered. Raises as :meth:`store` and the hand-on do."""
        if self._is_registered(wanted):
            return
        try:
            self.store(wanted)
        except NotLeader as error:
            request = pb.RegisterHostRequest(
                host=wanted.name, instance=wanted.instance, staleness_ms=wanted.staleness_ms
            )
            self.hand_on(METHOD, request.SerializeToString(), call, error)

    def require_at(self, wanted: HostRecord, number: int) -> None:
        """Require the row by a folder that holds record ``number``, the head that a barrier found.

        So an end after that record finds the row. Raises ENGINE_UNREACHABLE: then no freshness may follow.
        """
        if not self._wait_for(number, APPLY_MS):
            raise refused("ENGINE_UNREACHABLE", f"record {number} is not here yet; ask another server")
        if not self._is_registered(wanted):
            raise refused("ENGINE_UNREACHABLE", "the host is not registered here yet; ask again")

    def _is_registered(self, wanted: HostRecord) -> bool:
        with self._log.source().rows() as rows:
            record = cluster_rows.host(rows, wanted.name)
            return record is not None and record.admits(wanted) and cluster_rows.is_current(rows, record)
