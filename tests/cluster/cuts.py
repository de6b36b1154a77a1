"""Cables of a cluster are pulled: each part is a host in a network namespace of its own.

    python -m tests.cluster.cuts [CASE...]

Each case prints a line for docs/cluster-internals.md, or as JSON with --json. Nothing of it needs root.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.reasons import Reason
from sessauth.server.keys.credentials import CredentialFile
from sessauth.v1 import record_pb2 as record
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support.cluster_processes import Cluster, ServerHost, cluster_processes
from tests.support.etcd_cluster import EtcdCluster
from tests.support.follower_process import FollowerProcess
from tests.support.namespaces import Cables, address, command, inside, refusal
from tests.support.service import RpcError, wait_until

SCOPES: Final = ["read:files/**"]
MEMBERS: Final = {"m0": ("a", 11), "m1": ("a", 12), "m2": ("b", 13)}
SERVERS: Final = {"one": ("a", 21), "two": ("b", 22)}
HOST: Final = "host-1"
PORT: Final = 7443
SAMPLE_SECONDS: Final = 0.002


@dataclass
class Watch:
    """Checks of one token on one host, again and again, and what came of them. Times are monotonic."""

    verifier: Verifier
    token: str
    # Begin of the last check that allowed, and of each that gave another reason than the one before.
    last_allowed: float = 0.0
    turns: list[tuple[float, Reason]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            reason = self.verifier.check(self.token, "read", "files/x").reason
            if reason is Reason.ALLOWED:
                self.last_allowed = began
            if not self.turns or self.turns[-1][1] is not reason:
                self.turns.append((began, reason))
            time.sleep(SAMPLE_SECONDS)

    def since(self, moment: float, reason: Reason, seconds: float = 60.0) -> float:
        """Return the seconds from a moment until the reason is, or was given behind it."""

        def first() -> float | None:
            return next((at for at, given in self.turns if at >= moment and given is reason), None)

        assert wait_until(lambda: first() is not None, seconds), (reason, self.turns)
        found = first()
        assert found is not None
        return found - moment

    def end(self) -> None:
        """Check no more."""
        self._ended.set()
        self._thread.join()


@dataclass
class CutWorld:
    """The parts, the cables between them, and a verifier on each host that judges calls."""

    cables: Cables
    engine: EtcdCluster
    cluster: Cluster
    verifiers: dict[str, Verifier]

    def begin(self) -> tuple[bytes, str]:
        """Open a session, and return its id and a token that all hosts know."""
        opening = sessions.OpenSessionRequest(request_id=f"o{time.monotonic()}", subject="a", ceiling=SCOPES)
        session_id: bytes = self.cluster.ask("SessionService/OpenSession", opening).session.id
        minted = tokens.MintRequest(session_id=session_id, scopes=SCOPES, audience=["gw"])
        token: str = self.cluster.ask("TokenService/Mint", minted).token
        for verifier in self.verifiers.values():
            assert wait_until(lambda checked=verifier: checked.check(token, "read", "files/x").allowed, 30)
        return session_id, token

    def end(self, host: ServerHost, session_id: bytes, timeout: float = 30.0) -> float:
        """End a session at one server; return the seconds until that is acknowledged."""
        began = time.monotonic()
        request = sessions.EndSessionRequest(request_id=f"e{session_id.hex()}", session_id=session_id)
        host.operator.call("SessionService/EndSession", request, timeout=timeout)
        return time.monotonic() - began

    def end_at_last(self, host: ServerHost, session_id: bytes) -> float:
        """End a session at one server, asked again until it is acknowledged; return the seconds."""
        began = time.monotonic()
        while True:
            try:
                self.end(host, session_id, 1.0)
            except RpcError:
                assert time.monotonic() - began < 60
                time.sleep(0.02)
            else:
                return time.monotonic() - began

    def is_ended(self, host: ServerHost, session_id: bytes) -> bool:
        """Return True if a server's own folder has the end of a session."""
        with suppress(RpcError):
            request = sessions.GetSessionRequest(session_id=session_id)
            found = host.operator.call("SessionService/GetSession", request).session.status
            return bool(found == record.SESSION_STATUS_ENDED)
        return False

    @contextmanager
    def watched(self, token: str) -> Iterator[dict[str, Watch]]:
        """Check a token on each host meanwhile."""
        watches = {name: Watch(verifier, token) for name, verifier in self.verifiers.items()}
        try:
            yield watches
        finally:
            for watch in watches.values():
                watch.end()

    def lead_by(self, name: str) -> ServerHost:
        """Have a server lead."""
        while (leader := self.cluster.leader()).name != name:
            assert leader.process is not None
            leader.process.terminate()
            assert wait_until(lambda: self.cluster.other(leader).leads)
            leader.start()
        return leader


@contextmanager
def cut_world(folder: Path) -> Iterator[CutWorld]:
    """Run all parts, each in a network namespace of its own."""
    cables = Cables()
    for host, (rack, number) in {**MEMBERS, **SERVERS, HOST: ("a", 31)}.items():
        cables.add(host, rack, number)
    engine = EtcdCluster(folder, 3)
    try:
        for member in engine.members:
            member.host = address("engine", MEMBERS[member.name][1])
            member.client_port, member.peer_port = 2379, 2380
        for member in engine.members:
            with cables.at(member.name):
                member.start(engine.members, {}, "cuts")
        probe = EtcdCarrier(engine.addresses, b"probe")
        engine.await_quorum(probe)
        probe.close()
        places = {
            name: (f"{address('service', number)}:{PORT}", partial(cables.at, name))
            for name, (_, number) in SERVERS.items()
        }
        with cluster_processes(folder, engine.addresses, places=places) as cluster:
            credential = folder / "host-1.credential"
            credential.write_text(
                CredentialFile(cluster.hosts[0].config.credentials_file).add(HOST, "follower")
            )
            credential.chmod(0o600)
            second = cluster.hosts[1].config.credentials_file
            second.write_bytes(cluster.hosts[0].config.credentials_file.read_bytes())
            with cables.at(HOST):
                follower = FollowerProcess(
                    folder / HOST, [place for place, _ in places.values()], credential, insecure_tcp="true"
                )
            try:
                follower.wait_for("fresh")
                folders = {host.name: host.config.state_dir for host in cluster.hosts}
                verifiers = {
                    name: Verifier.embedded(path, audience="gw")
                    for name, path in {**folders, HOST: follower.state}.items()
                }
                yield CutWorld(cables, engine, cluster, verifiers)
            finally:
                follower.process.kill()
                follower.process.wait()
    finally:
        engine.close()


Row = dict[str, Any]
STALE: Final = Reason.STALE_STATE


class Ends:
    """Ends of sessions at one server, one after the other, for as long as it acknowledges or not."""

    def __init__(self, world: CutWorld, host: ServerHost, count: int) -> None:
        """Open the sessions."""
        self._world, self._host = world, host
        self._sessions = [world.begin()[0] for _ in range(count)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.acknowledged: list[bytes] = []

    def start(self) -> None:
        """Begin to end them."""
        self._thread.start()
        assert wait_until(lambda: len(self.acknowledged) >= 5)

    def _run(self) -> None:
        for session_id in self._sessions:
            if self._ended.is_set():
                return
            try:
                self._world.end(self._host, session_id, 1.0)
            except RpcError:
                continue
            self.acknowledged.append(session_id)

    def lost(self) -> int:
        """End no more; return how many that were acknowledged a server does not have."""
        self._ended.set()
        self._thread.join()
        hosts = self._world.cluster.hosts

        def everywhere(session_id: bytes) -> bool:
            return all(self._world.is_ended(host, session_id) for host in hosts)

        return sum(not wait_until(partial(everywhere, ended), 10) for ended in self.acknowledged)


def leader_server(world: CutWorld) -> Row:
    """Cut the leader off from everybody: it denies, another leads, and it comes back as a follower."""
    leader = world.cluster.leader()
    other = world.cluster.other(leader)
    session_id, token = world.begin()
    ends = Ends(world, leader, 15)
    ends.start()
    with world.watched(token) as watches:
        world.cables.pull(leader.name)
        pulled = time.monotonic()
        taken = world.end_at_last(other, session_id)
        own = watches[leader.name]
        denied = own.since(pulled, STALE)
        world.cables.plug(leader.name)
        plugged = time.monotonic()
        back = own.since(plugged, Reason.SESSION_ENDED)
    assert world.is_ended(leader, session_id) and not leader.leads
    return {
        "next end acknowledged": taken,
        "its host denies": denied,
        "last allow": own.last_allowed - pulled,
        "back, with the end that it missed": back,
        "ends acknowledged": len(ends.acknowledged),
        "ends lost": ends.lost(),
    }


def engine_leader(world: CutWorld) -> Row:
    """Cut off the member of etcd that leads."""
    leader = world.cluster.leader()
    session_id, token = world.begin()
    with world.watched(token) as watches:
        member = world.engine.leading()
        world.cables.pull(member.name)
        took = world.end(leader, session_id)
        world.cables.plug(member.name)
        for watch in watches.values():
            watch.since(0.0, Reason.SESSION_ENDED)
        stale = sum(STALE in [reason for _, reason in watch.turns] for watch in watches.values())
    return {"an end takes": took, "hosts that went stale": stale}


def follower(world: CutWorld) -> Row:
    """Cut off a host that follows."""
    _, token = world.begin()
    with world.watched(token) as watches:
        world.cables.pull(HOST)
        pulled = time.monotonic()
        denied = watches[HOST].since(pulled, STALE)
        last = watches[HOST].last_allowed - pulled
        others = sum(len(watches[name].turns) > 1 for name in SERVERS)
        world.cables.plug(HOST)
        again = watches[HOST].since(time.monotonic(), Reason.ALLOWED)
    return {"denies": denied, "last allow": last, "allows again": again, "others that denied": others}


def minority_with_the_leader(world: CutWorld) -> Row:
    """Part the racks: the leader and one member of etcd are apart from the rest."""
    return _minority(world, "two")


def minority_without_the_leader(world: CutWorld) -> Row:
    """Part the racks: a server that follows and one member of etcd are apart from the rest."""
    return _minority(world, "one")


def _minority(world: CutWorld, leads: str) -> Row:
    leader = world.lead_by(leads)
    one, two = (host for host in world.cluster.hosts)
    (session_id, token), (other_id, _) = world.begin(), world.begin()
    ends = Ends(world, leader, 10)
    ends.start()
    with world.watched(token) as watches:
        world.cables.pull_trunks()
        pulled = time.monotonic()
        taken = world.end_at_last(one, other_id)
        denied = watches["two"].since(pulled, STALE)
        word, answered = _refusal(world, two, session_id)
        row = {
            "the majority acknowledges an end after": taken,
            "the minority's host denies": denied,
            "last allow": watches["two"].last_allowed - pulled,
            "the minority's answer to an end": word,
            "after": answered,
            "the follower with the majority denied": STALE in [reason for _, reason in watches[HOST].turns],
        }
        world.cables.plug_trunks()
        row["allows again"] = watches["two"].since(time.monotonic(), Reason.ALLOWED)
    return {**row, "ends lost": ends.lost()}


def one_sided(world: CutWorld) -> Row:
    """Cut the leader off from other hosts, but not from the engine: it leads, and nobody reaches it."""
    leader = world.cluster.leader()
    other = world.cluster.other(leader)
    (session_id, token), (other_id, _) = world.begin(), world.begin()
    world.end(other, world.begin()[0])
    with world.watched(token) as watches:
        world.cables.pull(leader.name, ("service",))
        word, answered = _refusal(world, other, session_id)
        again, at_once = _refusal(world, other, session_id)
        direct = world.end(leader, other_id)
        time.sleep(4.0)
        denied = [name for name, watch in watches.items() if STALE in [reason for _, reason in watch.turns]]
        world.cables.plug(leader.name, ("service",))
        plugged = time.monotonic()
        world.end_at_last(other, session_id)
        back = time.monotonic() - plugged
    return {
        "an end that is handed on says": word,
        "after": answered,
        "the next one": again,
        "after that": at_once,
        "an end at the leader takes": direct,
        "hosts that denied": denied,
        "handed on again after": back,
    }


def _refusal(world: CutWorld, host: ServerHost, session_id: bytes, seconds: float = 3.0) -> tuple[str, float]:
    """Return the word by which a server refuses an end, and the seconds that this takes."""
    began = time.monotonic()
    try:
        world.end(host, session_id, seconds)
    except RpcError as error:
        return error.word or error.code.name, time.monotonic() - began
    return "", time.monotonic() - began


CASES: Final[dict[str, Callable[[CutWorld], Row]]] = {
    "leader": leader_server,
    "follower": follower,
    "engine": engine_leader,
    "one-sided": one_sided,
    "minority-leads": minority_with_the_leader,
    "minority": minority_without_the_leader,
}


def main(words: list[str]) -> None:
    """Run the cases, all if none is named, and print what they show."""
    if not inside():
        problem = refusal()
        if problem:
            sys.exit(f"this machine gives no network namespaces: {problem}")
        program = command([sys.executable, "-m", "tests.cluster.cuts", *words])
        os.execvp(program[0], program)
    cases = [word for word in words if word != "--json"] or list(CASES)
    found = {}
    with tempfile.TemporaryDirectory(prefix="sa-") as folder, cut_world(Path(folder)) as world:
        for case in cases:
            row = found[case] = CASES[case](world)
            if "--json" not in words:
                shown = ", ".join(f"{name} {_shown(value)}" for name, value in row.items())
                sys.stdout.write(f"{case}: {shown}\n")
                sys.stdout.flush()
    if "--json" in words:
        sys.stdout.write(json.dumps(found) + "\n")


def _shown(value: object) -> str:
    return f"{value:.2f} s" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
