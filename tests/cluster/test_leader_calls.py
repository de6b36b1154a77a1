"""The channel by which calls are handed on, when the leader changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.client._transport import RenewedChannel
from sessauth.clock import SystemClock
from sessauth.errors import NotLeader, ServerError
from sessauth.model.host import ServerKey
from sessauth.server.cluster.forwarding import REPORT_USAGE, LeaderCalls, StatementSigner, own_call
from sessauth.server.config import Config
from sessauth.server.status import refused
from sessauth.state.replication.carrier import Leader

HOST = "server/two"
# Nobody listens there.
FIRST, SECOND = "127.0.0.1:1", "127.0.0.1:2"


class Calls:
    """Calls to a leader that a test names; no channel can be made to the second one."""

    def __init__(self, home: Path) -> None:
        """Begin with the first one."""
        self.address = FIRST
        signer = StatementSigner(b"c" * 16, HOST, ServerKey.generate(), SystemClock())
        self.calls = LeaderCalls(
            Config(home=home),
            signer,
            lambda: Leader("one", self.address, 1),
            lambda: None,
            lambda name: b"",
            connect=self.connect,
        )

    def connect(self, address: str) -> RenewedChannel:
        """Return a channel to the first leader."""
        if address == SECOND:
            raise refused("NOT_LEADER", "its certificate files can't be used")
        return RenewedChannel(address, None, ())

    def forward(self) -> bytes:
        """Hand a call on."""
        return self.calls.forward(REPORT_USAGE, b"", own_call(HOST), NotLeader("elsewhere", self.address))


def test_a_channel_that_can_not_be_made_leaves_the_former_one(tmp_path: Path) -> None:
    """A leader that leads again is reached, and not by a closed channel."""
    calls = Calls(tmp_path)
    channel = calls.calls._connected(FIRST)
    calls.address = SECOND
    with pytest.raises(ServerError, match="certificate files"):
        calls.forward()
    assert calls.calls._connected(FIRST) is channel
    channel.unary_unary(REPORT_USAGE).future(b"", timeout=1.0).cancel()
    calls.calls.close()


def test_a_channel_that_another_call_closed_sent_nothing(tmp_path: Path) -> None:
    """The caller is told who leads, and asks again."""
    calls = Calls(tmp_path)
    calls.calls._connected(FIRST).close()
    with pytest.raises(NotLeader, match="elsewhere"):
        calls.forward()
