"""Two servers and a follower in this process, each with a worker: a cluster with six processes to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessauth.clock import SystemClock
from sessauth.crypto.keys import VerifierKey
from sessauth.reasons import Reason
from sessauth.server.config import Config
from sessauth.server.process.control import Control
from sessauth.state.host.proof_keys import HostProofKeys
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.follower_host import FollowerHost, follower_host
from tests.support.loop_and_threads import OneServer
from tests.support.service import Caller, wait_until
from tests.support.watching import item, mint, open_session

CHECK = "AuthorizationService/Check"
BATCH = "AuthorizationService/CheckBatch"
COMMIT = "AuthorizationService/Commit"


class Door:
    """A process that is asked, and the host that it is of."""

    def __init__(self, name: str, control: Control, config: Config, caller: Caller) -> None:
        """Ask by ``caller``."""
        self.name, self.control, self.config, self.caller = name, control, config, caller

    def __repr__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def key(self) -> VerifierKey:
        """The proof key of the host."""
        host = HostProofKeys.read(self.config.state_dir)
        key = host.counting(SystemClock().now_ms())[0]
        cluster = self.control.writer.head().cluster_id
        return VerifierKey(host.verifier_id, key.public_key, key.not_before_ms, key.expires_at_ms, cluster)

    def check(self, token: Token | str, proof: bytes = b"", **fields: Any) -> pb.Decision:
        """Return the decision of a check."""
        return self.caller.call(CHECK, check_request(token, proof, **fields)).decision  # type: ignore[no-any-return]

    def reason(self, token: Token | str, proof: bytes = b"", **fields: Any) -> Reason:
        """Return the reason of a check."""
        return Reason(self.check(token, proof, **fields).reason)

    def reasons(self, *items: pb.CheckItem) -> list[Reason]:
        """Return the reasons of a batch."""
        request = pb.CheckBatchRequest(items=items, audience="gw")
        return [Reason(each.reason) for each in self.caller.call(BATCH, request).decisions]


def check_request(token: Token | str, proof: bytes = b"", **fields: Any) -> pb.CheckRequest:
    """Return the request of a check."""
    return pb.CheckRequest(item=item_of(token, proof, **fields), audience="gw")


def item_of(token: Token | str, proof: bytes = b"", **fields: Any) -> pb.CheckItem:
    """Return a call that reads files/a/x."""
    return item(token if isinstance(token, str) else token.data, proof=proof, **fields)


@dataclass
class ClusterHosts:
    """The first server leads; the follower follows the second one. A holder has the bound tokens."""

    one: ClusterServer
    two: ClusterServer
    follower: FollowerHost
    engine: OneEngine
    doors: dict[str, Door]
    holder: HolderKey

    def bound(self, scope: str) -> Token:
        """Return a token that is bound to the holder, once all hosts have its session."""
        operator = self.one.operator
        session = open_session(operator)
        public = self.holder.public
        fields = {"next_key": public.next_key, "proof_key": public.proof_key}
        token = Token.parse(mint(operator, session.id, scope, **fields).token)
        assert wait_until(lambda: self.hold(session.revision))
        return token

    def hold(self, revision: int) -> bool:
        """Return True if all hosts hold a revision."""
        hosts = (self.one, self.two, self.follower)
        return all(host.control.writer.head().revision >= revision for host in hosts)

    def proof(self, token: Token, door: Door) -> bytes:
        """Return a new proof of a read for the host of ``door``."""
        return self.holder.prove(token, "read", "files/a/x", b"", door.key)


@contextmanager
def cluster_hosts(home: Path) -> Iterator[ClusterHosts]:
    """Run them over an engine in memory."""
    engine = OneEngine()
    with pytest.MonkeyPatch.context() as patched, ExitStack() as opened:
        for module in ("membership", "begin"):
            patched.setattr(f"sessauth.server.cluster.{module}.open_carrier", lambda *_: engine)
        one, two = opened.enter_context(two_servers(home, ["127.0.0.1:1"]))
        follower = opened.enter_context(follower_host(home / "f", (two, one)))
        doors: dict[str, Door] = {}
        for name, host in (("leader", one), ("server", two), ("follower", follower)):
            caller = follower.gateway() if host is follower else host.operator
            doors[name] = Door(name, host.control, host.config, caller)
            worker = OneServer("w", host.control, host.config)
            opened.callback(worker.close)
            far = Caller(f"unix:{worker.socket}", caller.credential)
            opened.callback(far.close)
            doors[f"{name}'s worker"] = Door(f"{name}'s worker", host.control, host.config, far)
        yield ClusterHosts(one, two, follower, engine, doors, HolderKey.generate())
