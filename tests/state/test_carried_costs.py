"""The model of costs, permits and approvals, on a cluster whose servers lead in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings

from sessauth.clock import FixedClock
from sessauth.state.integrity.verify import verify
from sessauth.state.writer.group import Retention
from tests.state.test_cost_model import CostsOnDisk
from tests.support.carried import begin_cluster
from tests.support.changes import NOW
from tests.support.cost_model import OnDisk


class OnTwoServers(OnDisk):
    """Writes at the leader; to open the folder again is to let the other server lead."""

    def __init__(self) -> None:
        """Make the folders; the first one leads."""
        self._folder = Path(tempfile.mkdtemp(prefix="sessauth-model-"))
        self._clock = FixedClock(NOW)
        retention = Retention(ended_ms=20)
        _, (self.leader, self.other) = begin_cluster(self._folder, self._clock, ("one", "two"), retention)
        self.writer = self.leader.writer

    def reopen(self) -> None:
        """Have the leader restart, and the other one take over."""
        self.leader.restart()
        self.leader, self.other = self.other, self.leader
        self.leader.lead()
        self.writer = self.leader.writer
        assert not self.writer.braked and not self.other.writer.braked

    def followed(self) -> None:
        """Hold that the other one comes to the very rows of the leader."""
        self.other.follow(5)
        assert self.other.tables() == self.leader.tables()
        self.other.writer.run(lambda group: verify(group.rows))

    def close(self) -> None:
        """Close both, and remove the folders."""
        self.other.writer.close()
        super().close()


class CostsOnTwoServers(CostsOnDisk):
    """Every answer is the model's, whoever leads, and both servers end with equal rows."""

    place = OnTwoServers


TestCostsOnTwoServers = CostsOnTwoServers.TestCase
TestCostsOnTwoServers.settings = settings(max_examples=8, stateful_step_count=40, deadline=None)
