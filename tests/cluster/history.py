"""A history of checks on two hosts while servers and members of the engine are killed, stopped and cut off.

    python -m tests.cluster.history --seconds 60 --seed 1

Sessions are opened and ended all the time, at either server, each call repeated until it is answered. An
embedded verifier on each host judges the token of every session again and again. What must hold:

- no check allows that began later than 3 s after an end was acknowledged,
- on a host that denied a session as ended none allows it again,
- behind the faults every acknowledged end is there, on both hosts.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sessauth.reasons import Reason
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from sessauth.verifier.verifier import Verifier
from tests.support.cluster_processes import Cluster, ServerHost, cluster_processes
from tests.support.etcd_cluster import EtcdCluster, etcd_cluster
from tests.support.service import RpcError, wait_until

BOUND_S = 3.0
SCOPES = ["read:files/**"]


@dataclass
class Life:
    """One session: its token, and when its end was asked for and acknowledged (0: not yet)."""

    number: int
    token: str = ""
    session_id: bytes = b""
    ending_at: float = 0.0
    ended_at: float = 0.0


class Check(NamedTuple):
    """One check: the number of its host and of its session, when it began, and its verdict."""

    host: int
    session: int
    began: float
    allowed: bool
    reason: Reason


@dataclass
class History:
    """The sessions, checks and faults of a run."""

    lives: list[Life] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    stopping: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def live(self, cluster: Cluster, seed: int) -> None:
        """Open sessions and end them, at either server, until it is time to stop."""
        dice = random.Random(seed)
        while not self.stopping.is_set():
            life = Life(next(self.numbers))
            mark = f"{seed}-{life.number}-{dice.randrange(1 << 30)}"
            try:
                opening = sessions.OpenSessionRequest(request_id=f"o{mark}", subject="a", ceiling=SCOPES)
                opened = cluster.ask("SessionService/OpenSession", opening, dice.randrange(2))
                life.session_id = opened.session.id
                minted = tokens.MintRequest(session_id=life.session_id, scopes=SCOPES, audience=["gw"])
                life.token = cluster.ask("TokenService/Mint", minted, dice.randrange(2)).token
                self.lives.append(life)
                self.stopping.wait(dice.uniform(0.05, 0.6))
                life.ending_at = time.monotonic()
                cluster.ask(
                    "SessionService/EndSession",
                    sessions.EndSessionRequest(request_id=f"e{mark}", session_id=life.session_id),
                    dice.randrange(2),
                )
                life.ended_at = time.monotonic()
            except RpcError as error:
                self.refused[f"{error.code.name} {error.word}"] += 1

    def check(self, host: int, folder: Path) -> None:
        """Judge the tokens of the latest sessions on one host until it is time to stop."""
        verifier = Verifier.embedded(folder, audience="gw")
        dice = random.Random(host)
        while not self.stopping.is_set():
            for life in self.lives[-12:]:
                began = time.monotonic()
                decision = verifier.check(life.token, "read", "files/x")
                self.checks.append(Check(host, life.number, began, decision.allowed, decision.reason))
            time.sleep(dice.uniform(0.005, 0.02))
        verifier.close()


def disturb(history: History, cluster: Cluster, engine: EtcdCluster, seed: int, seconds: float) -> None:
    """Do one fault after the other, with peace in between."""
    dice = random.Random(seed)
    until = time.monotonic() + seconds

    def note(what: str) -> None:
        history.faults.append((time.monotonic(), what))

    def pause(host: ServerHost, length: float) -> None:
        host.signal(signal.SIGSTOP)
        time.sleep(length)
        host.signal(signal.SIGCONT)

    kinds = ["kill leader", "pause leader", "pause other", "stop member", "kill engine leader", "stop two"]
    while time.monotonic() < until:
        kind = dice.choice(kinds)
        leader = cluster.leader()
        note(kind)
        if kind == "kill leader":
            leader.kill()
            time.sleep(dice.uniform(1, 4))
            leader.start()
        elif kind == "pause leader":
            pause(leader, dice.uniform(1, 6))
        elif kind == "pause other":
            pause(cluster.other(leader), dice.uniform(1, 6))
        elif kind == "kill engine leader":
            engine.leading().kill()
            time.sleep(dice.uniform(1, 3))
            engine.start()
        else:
            for member in dice.sample(engine.members, 2 if kind == "stop two" else 1):
                member.stop()
            time.sleep(dice.uniform(1, 5))
            engine.start()
        note(f"healed: {kind}")
        time.sleep(dice.uniform(1.0, 3.0))


def violations(history: History) -> list[str]:
    """Return what must not have happened."""
    found = []
    denied: set[tuple[int, int]] = set()
    lives = {life.number: life for life in history.lives}
    for host, number, began, allowed, reason in sorted(history.checks, key=lambda check: check.began):
        life = lives[number]
        if reason is Reason.SESSION_ENDED:
            if not life.ending_at:
                found.append(f"session {number} was denied as ended on host {host} before anybody ended it")
            denied.add((host, number))
        if not allowed:
            continue
        if life.ended_at and began > life.ended_at + BOUND_S:
            late = began - life.ended_at
            found.append(f"session {number}: allowed on host {host} {late:.2f} s after its end")
        if (host, number) in denied:
            found.append(f"session {number}: allowed on host {host} after it was denied there as ended")
    return found


def run(seconds: float, seed: int, folder: Path) -> tuple[History, list[str]]:
    """Run for a time, and return the history and what must not have happened."""
    history = History()
    with (
        etcd_cluster(folder, 3, {"unsafe-no-fsync": "true"}) as engine,
        cluster_processes(folder, engine.addresses) as cluster,
    ):
        threads = [threading.Thread(target=history.live, args=(cluster, seed * 100 + n)) for n in range(3)]
        threads += [
            threading.Thread(target=history.check, args=(n, host.config.state_dir))
            for n, host in enumerate(cluster.hosts)
        ]
        for thread in threads:
            thread.start()
        try:
            disturb(history, cluster, engine, seed, seconds)
            cluster.leader()
        finally:
            history.stopping.set()
            for thread in threads:
                thread.join(60)
        found = violations(history)
        for number, host in enumerate(cluster.hosts):
            found += [f"{lost} on host {number}" for lost in lost_ends(history, host.config.state_dir)]
    return history, found


def lost_ends(history: History, folder: Path) -> list[str]:
    """Return the sessions whose acknowledged end a folder does not have."""
    found = []
    with Verifier.embedded(folder, audience="gw") as verifier:

        def reason(life: Life) -> Reason:
            return verifier.check(life.token, "read", "files/x").reason

        for life in history.lives:
            # A busy machine may prove late that it is fresh.
            assert wait_until(lambda checked=life: reason(checked) is not Reason.STALE_STATE)  # type: ignore[misc]
            if life.ended_at and reason(life) not in (Reason.SESSION_ENDED, Reason.STALE_STATE):
                found.append(f"session {life.number}: its end is lost: {reason(life).name}")
    return found


def summary(history: History) -> str:
    """Return the numbers of a run, for people."""
    allowed = sum(check.allowed for check in history.checks)
    reasons = Counter(check.reason.name for check in history.checks)
    lives = {life.number: life for life in history.lives}
    after = [
        check.began - lives[check.session].ended_at
        for check in history.checks
        if check.allowed and lives[check.session].ended_at
    ]
    late = [seconds for seconds in after if seconds > 0]
    ended = sum(bool(life.ended_at) for life in history.lives)
    return (
        f"{len(history.checks)} checks, {allowed} allowed; {len(history.lives)} sessions, {ended} ends "
        f"acknowledged; {len(late)} allows behind one, the latest {max(late, default=0.0):.3f} s behind it\n"
        f"reasons {dict(reasons)}\nrefused {dict(history.refused)}\n"
        f"faults {dict(Counter(what for _, what in history.faults if not what.startswith('healed')))}"
    )


def main() -> None:
    """Run by hand; exits with 1 if anything was violated."""
    parser = argparse.ArgumentParser(description="a history of checks under faults")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        history, found = run(arguments.seconds, arguments.seed, Path(folder))
    sys.stdout.write("\n".join([summary(history), *(found[:20] or ["nothing was violated"]), ""]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
