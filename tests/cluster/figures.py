"""Figures of a cluster on this machine: two servers, three members of etcd, real disks and processes.

    python -m tests.cluster.figures

Each line of docs/cluster-internals.md's table of figures is one function here.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sessauth.cli.demo.login_story import CarrierConnection, DemoProvider, carrier
from sessauth.reasons import Reason
from sessauth.testing.local_service import toml_text
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support.cluster_processes import Cluster, ServerHost, cluster_processes
from tests.support.etcd_cluster import EtcdCluster, etcd_cluster
from tests.support.service import wait_until

SCOPES = ["read:files/**"]


class Figures:
    """The cluster, with an embedded verifier on each host, and an identity provider."""

    def __init__(
        self, cluster: Cluster, engine: EtcdCluster, provider: DemoProvider, statements: CarrierConnection
    ) -> None:
        """Open the verifiers. ``statements`` carries those of the provider to the leader."""
        self.cluster = cluster
        self.engine = engine
        self.provider = provider
        self.statements = statements
        # The seconds that each session took to open.
        self.opened: list[float] = []
        self.verifiers = {
            host.name: Verifier.embedded(host.config.state_dir, audience="gw") for host in cluster.hosts
        }

    def begin(self, identity_token: str = "") -> tuple[bytes, str]:
        """Open a session, and return its id and a token that both hosts know."""
        mark = f"o{time.monotonic()}"
        opening = sessions.OpenSessionRequest(
            request_id=mark, subject="a", ceiling=SCOPES, identity_token=identity_token
        )
        began = time.monotonic()
        session_id: bytes = self.cluster.ask("SessionService/OpenSession", opening).session.id
        self.opened.append(time.monotonic() - began)
        minted = tokens.MintRequest(session_id=session_id, scopes=SCOPES, audience=["gw"])
        token: str = self.cluster.ask("TokenService/Mint", minted).token
        for verifier in self.verifiers.values():
            assert wait_until(lambda checked=verifier: checked.check(token, "read", "files/x").allowed, 10)
        return session_id, token

    def end(self, host: ServerHost, session_id: bytes, timeout: float = 30.0) -> float:
        """End a session at a server; return the seconds until it was acknowledged."""
        began = time.monotonic()
        request = sessions.EndSessionRequest(session_id=session_id)
        host.operator.call("SessionService/EndSession", request, timeout=timeout)
        return time.monotonic() - began

    def until(
        self, host: ServerHost, token: str, condition: Callable[[Reason], bool], most: float = 30
    ) -> float:
        """Return the seconds until a host's checks of a token give such a reason."""
        began, verifier = time.monotonic(), self.verifiers[host.name]
        while not condition(verifier.check(token, "read", "files/x").reason):
            assert time.monotonic() - began < most
        return time.monotonic() - began

    def ends(self, count: int) -> list[tuple[str, Sequence[float]]]:
        """Acknowledgements and denials of ends, one by one, at the leader and at the other server."""
        leader = self.cluster.leader()
        other = self.cluster.other(leader)
        found: dict[str, list[float]] = {}
        for number in range(count):
            asked = other if number % 4 == 0 else leader
            session_id, token = self.begin()
            took = self.end(asked, session_id)
            where = "handed on" if asked is other else "at the leader"
            found.setdefault(f"end with its receipt over both hosts, {where}", []).append(took)
            late = self.until(self.cluster.other(asked), token, lambda reason: reason is Reason.SESSION_ENDED)
            found.setdefault(f"denied on the other host after that, {where}", []).append(late)
        return [("session opened", self.opened[:count]), *found.items()]

    def logouts(self, count: int) -> list[tuple[str, Sequence[float]]]:
        """Denials on both hosts after logouts that the provider posts, one by one."""
        late = []
        for number in range(count):
            login_s = int(time.time()) - 60
            _, token = self.begin(self.provider.id_token(f"u{number}", f"s{number}", login_s))
            logout = self.provider.logout(f"s{number}")
            began = time.monotonic()
            self.statements.post("/logout/corp", logout)
            for host in self.cluster.hosts:
                self.until(host, token, lambda reason: reason is Reason.SESSION_ENDED)
            late.append(time.monotonic() - began)
        return [("denied on both hosts after a logout was posted", late)]

    def leader_killed(self) -> float:
        """The time from the leader's death to the next acknowledged end."""
        session_id, _ = self.begin()
        leader = self.cluster.leader()
        other = self.cluster.other(leader)
        leader.kill()
        began = time.monotonic()
        self.cluster.ask(
            "SessionService/EndSession",
            sessions.EndSessionRequest(request_id=f"k{began}", session_id=session_id),
            self.cluster.hosts.index(other),
        )
        took = time.monotonic() - began
        leader.start()
        return took

    def engine_leader_killed(self) -> float:
        """The time from the death of etcd's leader to the next acknowledged end."""
        session_id, _ = self.begin()
        leader = self.cluster.leader()
        self.engine.leading().kill()
        took = self.end(leader, session_id)
        self.engine.start()
        time.sleep(3)
        return took

    def member_silent(self, number: int) -> float:
        """The time of an end while a member is stopped: its connections stay open."""
        session_id, _ = self.begin()
        leader = self.cluster.leader()
        self.engine.members[number].stop()
        took = self.end(leader, session_id)
        self.engine.start()
        time.sleep(3)
        return took

    def majority_stopped(self) -> tuple[float, float]:
        """The time until both hosts deny while two members are stopped, and until they allow again."""
        _, token = self.begin()
        for member in self.engine.members[:2]:
            member.stop()
        began = time.monotonic()
        for host in self.cluster.hosts:
            self.until(host, token, lambda reason: reason is Reason.STALE_STATE)
        stale = time.monotonic() - began
        self.engine.start()
        began = time.monotonic()
        for host in self.cluster.hosts:
            self.until(host, token, lambda reason: reason is Reason.ALLOWED)
        again = time.monotonic() - began
        time.sleep(3)
        return stale, again

    def server_stopped(self, number: int) -> float:
        """The time until a host denies whose server is killed or stopped."""
        _, token = self.begin()
        other = self.cluster.other(self.cluster.leader())
        other.signal(number)
        took = self.until(other, token, lambda reason: reason is Reason.STALE_STATE)
        if number == signal.SIGSTOP:
            other.signal(signal.SIGCONT)
            self.until(other, token, lambda reason: reason is Reason.ALLOWED)
        else:
            other.kill()
            other.start()
        return took


def lines(figures: Figures, ends: int) -> list[str]:
    """Return a line for each figure."""
    found = []
    for name, seconds in (*figures.ends(ends), *figures.logouts(ends)):
        ordered = sorted(seconds)
        p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
        found.append(
            f"{name}: p50 {statistics.median(ordered) * 1000:.2f} ms, p99 {p99 * 1000:.1f} ms, "
            f"max {ordered[-1] * 1000:.1f} ms ({len(ordered)})"
        )
    found.append("leader killed, next end after " + _seconds(figures.leader_killed() for _ in range(3)))
    found.append(
        "etcd's leader killed, next end after " + _seconds(figures.engine_leader_killed() for _ in range(3))
    )
    found.append(
        "a member silent, end takes " + _seconds(figures.member_silent(number) for number in range(3))
    )
    stale, again = figures.majority_stopped()
    found.append(
        f"two of three members silent: both hosts deny after {stale:.2f} s, allow again {again:.2f} s later"
    )
    found.append(f"server killed: its host denies after {figures.server_stopped(signal.SIGKILL):.2f} s")
    found.append(f"server stopped: its host denies after {figures.server_stopped(signal.SIGSTOP):.2f} s")
    return found


def _seconds(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2f} s" for value in values)


def main() -> None:
    """Measure, and print a line for each figure."""
    provider = DemoProvider()
    with tempfile.TemporaryDirectory(prefix="sa-") as name:
        folder = Path(name)
        settings = provider.settings(folder / "corp.json")
        stated = "".join(f"{key} = {toml_text(value)}\n" for key, value in settings.items())
        with (
            etcd_cluster(folder, 3) as engine,
            cluster_processes(folder, engine.addresses, more="[[identity_providers]]\n" + stated) as cluster,
            carrier(cluster.leader().config.home) as statements,
        ):
            for line in lines(Figures(cluster, engine, provider, statements), 200):
                sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
