"""A check worker under attack, and a bystander whose checks go on meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sessauth.v1 import authorization_service_pb2 as checks
from tests.support import http2_frames as h2
from tests.support.doors import ServerFixture, running_server
from tests.support.http2_peer import Answer, Peer
from tests.support.service import Caller, RpcError, wait_until

PAUSE_SECONDS = 0.002


@dataclass
class Witness:
    """Checks of a bystander: their number, the slowest in ms, and those that were not answered right."""

    count: int = 0
    slowest_ms: float = 0.0
    wrong: list[str] = field(default_factory=list)


class AttackedServer:
    """A server process with one check worker."""

    def __init__(self, server: ServerFixture) -> None:
        """Prepare a check that is allowed and one that is denied."""
        self.server = server
        (self.target,) = server.checks
        self.credential = server.credentials["gateway"]
        allowed = server.check()
        denied = checks.CheckRequest()
        denied.CopyFrom(allowed)
        denied.item.resource = b"secrets/a"
        self.allowed, self.denied = allowed, denied
        self.request = h2.message(allowed.SerializeToString())
        # The chain is verified, and the caller known, before anything is attacked.
        assert self.decision(self.good_call()).allowed
        (self.pid,) = server.pids()

    def peer(self, **options: Any) -> Peer:
        """Open a connection to the worker."""
        return Peer(self.target, **options)

    def entries(self, **changed: Any) -> list[h2.Entry]:
        """Return the headers of a check that is allowed."""
        return h2.call_entries(h2.CHECK, self.credential, **changed)

    def good_call(self, peer: Peer | None = None) -> Answer:
        """Check once, on a connection of its own if none is stated."""
        if peer is not None:
            return peer.call(self.entries(), self.request)
        with self.peer() as own:
            return own.call(self.entries(), self.request)

    def batch(self, count: int) -> bytes:
        """Return the message of a batch of the check that is allowed."""
        request = checks.CheckBatchRequest(items=[self.allowed.item] * count, audience="gw")
        return h2.message(request.SerializeToString())

    def cold_batch(self) -> bytes:
        """Return the message of a batch with a token that no verifier has met."""
        request = checks.CheckBatchRequest(items=[self.server.check().item], audience="gw")
        return h2.message(request.SerializeToString())

    @staticmethod
    def decision(answer: Answer) -> checks.Decision:
        """Return the decision of a check that was answered."""
        assert answer.status == "0", (answer.headers, answer.reset)
        (encoded,) = answer.messages
        return checks.CheckResponse.FromString(encoded).decision

    def allows(self, peer: Peer) -> bool:
        """Return True if a good call on a connection that was used otherwise is allowed."""
        return self.decision(self.good_call(peer)).allowed

    def sockets(self) -> int:
        """Return the number of the worker's sockets."""
        found = 0
        for each in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found += os.readlink(each).startswith("socket:")
        return found

    def memory_bytes(self) -> int:
        """Return the resident memory of the worker; 0 under a sanitizer, which keeps what was freed."""
        if "libasan" in os.environ.get("LD_PRELOAD", ""):
            return 0
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return the processor time of the worker."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def bystander(self) -> Iterator[Witness]:
        """Check all the while on a connection of gRPC's own: an allow stays one, and a denial too."""
        caller = Caller(f"unix:{self.target}", self.server.credentials["gateway"])
        witness, stop = Witness(), threading.Event()

        def check(request: checks.CheckRequest) -> None:
            began = time.perf_counter()
            try:
                decision = caller.call("AuthorizationService/Check", request).decision
                if decision.allowed != (request is self.allowed):
                    witness.wrong.append(f"allowed {decision.allowed}, reason {decision.reason}")
            except RpcError as error:
                witness.wrong.append(f"{error.code.name} {error.word} {error.message}")
            witness.slowest_ms = max(witness.slowest_ms, 1000 * (time.perf_counter() - began))
            witness.count += 1

        def run() -> None:
            while not stop.is_set():
                check(self.allowed)
                check(self.denied)
                stop.wait(PAUSE_SECONDS)

        check(self.allowed)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield witness
            # What comes behind the attack counts too.
            after = witness.count + 4
            wait_until(lambda: witness.count >= after or bool(witness.wrong), 10.0)
        finally:
            stop.set()
            thread.join(30)
            caller.close()

    @contextmanager
    def unharmed(self) -> Iterator[Witness]:
        """Require of an attack that others notice nothing, and that nothing of it stays."""
        before = self.sockets()
        faults = self.faults()
        with self.bystander() as witness:
            yield witness
        assert witness.wrong == []
        assert witness.count >= 5
        assert self.server.pids() == [self.pid]
        assert self.faults() == faults, self.server.process.log[-4_000:]
        assert wait_until(lambda: self.sockets() <= before, 10.0), (before, self.sockets())

    def faults(self) -> int:
        """Return the number of errors of the server's own in its log."""
        return self.server.process.log.count('"event": "fault"')


@contextmanager
def attacked_server(**settings: str) -> Iterator[AttackedServer]:
    """A server with one check worker that is gone behind the ``with`` block."""
    with running_server(1, **settings) as server:
        yield AttackedServer(server)
