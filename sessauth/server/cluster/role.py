"""A process's role in its cluster: the source of its folder's rows, and the server for work it may not do.

Usage over the hosts of the cluster is composed here for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ...clock import Clock
from ...errors import NotLeader, RecordRefused
from ...state.replication.carrier import CarrierError, EngineRoom
from ...state.replication.follower import ReplicationThread
from ...state.writer.group import GroupLog
from ...state.writer.state_writer import StateWriter
from ...usage.session_usage import UseAfterEnd
from ...v1 import usage_service_pb2 as pb
from ..config import Config
from ..evidence.host_evidence import HostEvidence
from ..keys.issuer_keyring import KeyRing, SignProofKey
from ..process.subsystems import ControlSubsystems
from ..rpc.authenticate import Authenticator
from ..rpc.pipeline import Forward
from ..usage.cluster_usage import ClusterUsage, RemovedHosts
from ..usage.host_report import UsagePassOn
from .cluster_feed import Feed

SETTLE_MS: Final = 1_000


class ClusterRole:
    """The role of a single host: none. ``Membership`` is a server's, ``FollowerRole`` a follower's.

    ``carried`` orders the groups of the folder. ``forward`` asks the current leader for the work this process
    may not do. ``feed`` passes the log on to other hosts, ``hosts`` knows them for receipts. ``refusal()`` is
    the error of a process that never writes; None: it may lead. ``host`` is the name of this host in the
    cluster, empty for a single host; ``term()`` is the term that it leads in, 0 if it does not.
    """

    host: str = ""
    carried: GroupLog | None = None
    forward: Forward | None = None
    feed: Feed | None = None
    hosts: HostEvidence | None = None
    refusal: Callable[[], NotLeader] | None = None
    # Set when it is attached.
    _follower: ReplicationThread | None = None

    def open_keyring(self, folder: Path) -> KeyRing:
        """Return the issuer keys of this host. Raises KeyFolderError."""
        return KeyRing(folder)

    def proof_key_signer(self, keyring: KeyRing) -> SignProofKey:
        """Return the function that has an issuer key sign the host's proof keys."""
        return keyring.sign_proof_key

    def attach(self, writer: StateWriter, clock: Clock, authenticator: Authenticator) -> None:
        """Prepare to follow, prove and lead with an opened writer, from :meth:`start` on.

        A server has ``authenticator`` accept callers that other hosts state.
        """

    def start(self) -> None:
        """Start the threads."""

    @property
    def alarm(self) -> RecordRefused | None:
        """The reason why this host denies every call until an operator decides; None: there is none."""
        return None if self._follower is None else self._follower.alarm

    @property
    def record(self) -> int:
        """The number of the last record that this host holds, 0 without one."""
        return 0 if self._follower is None else self._follower.position.number

    @property
    def clock_differs(self) -> str:
        """The servers whose clocks differ from this one's, and by how much; empty: none is known."""
        return ""

    @property
    def room(self) -> EngineRoom:
        """The space of the engine, as last reported to this process."""
        return EngineRoom(0, 0, full=False)

    @property
    def refused_by(self) -> Sequence[str]:
        """The addresses of the servers that refuse this host as a follower."""
        return ()

    def term(self) -> int:
        """Return the term that this process leads in, 0 if it does not lead."""
        return 0

    def report_usage(self, request: pb.ReportHostUsageRequest) -> pb.ReportHostUsageResponse:
        """Report this host's usage to the current leader. Raises NotLeader if no server can be reached."""
        raise NotLeader("this is a single host")

    def tasks(self) -> Sequence[tuple[str, Callable[[], object]]]:
        """Return tasks that run once a second."""
        return ()

    def drain(self) -> None:
        """Send the hosts fed by this process to others."""
        if self.feed is not None:
            self.feed.close()

    def close(self) -> None:
        """End the threads, before the writer is closed."""

    def disconnect(self) -> None:
        """Close the connections, also of a part that was never attached."""


def settle(follower: ReplicationThread) -> None:
    """Wait until a folder has reached the engine's present head, after a change that another host made.

    Raises CarrierError if the source does not answer, or if the folder is still behind after a second.
    """
    number = follower.barrier().head.number
    if not follower.wait_for(number, SETTLE_MS):
        raise CarrierError(f"record {number} is not here after {SETTLE_MS} ms")


class HostUsagePart:
    """One host's part in the usage of its cluster: its own reports, and the sum of all while it leads."""

    def __init__(
        self,
        config: Config,
        part: ClusterRole,
        writer: StateWriter,
        subsystems: ControlSubsystems,
        clock: Clock,
    ) -> None:
        """Compose it around the usage of ``subsystems``; nothing is sent before :meth:`start`."""
        store, uses = subsystems.usage, subsystems.uses_after_end
        removed = RemovedHosts(config.usage_dir, config.usage.keep_ms)
        self._host = part.host
        self._uses_after_end = uses
        self.cluster = ClusterUsage(part.host, writer, store, removed, uses, config.usage, part.term, clock)
        self._pass_on = UsagePassOn(
            part.host,
            store,
            uses,
            part.report_usage,
            lambda: writer.leads,
            clock,
            watchers=lambda: subsystems.events.watchers,
        )
        store.on_change = self._pass_on.mark
        store.on_used_after_end = self._on_used_after_end
        subsystems.receipts.last_allow_ms = self.cluster.last_allow_ms

    def start(self) -> None:
        """Begin to report."""
        self._pass_on.start()

    def tasks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return tasks that run once a second."""
        return [("hosts of usage", self.cluster.poll)]

    def close(self) -> None:
        """Report the rest, and end."""
        self._pass_on.close()

    def _on_used_after_end(self, session_id: bytes, verifier: str, use: UseAfterEnd) -> None:
        self._uses_after_end.on_used_after_end(session_id, f"{self._host}/{verifier}", use)
        self.cluster.on_used_after_end(session_id, verifier, use)
        self._pass_on.on_used_after_end(session_id, verifier, use)
