"""A history of checks on a followed host while its follower, servers and their engine are killed or cut off.

    python -m tests.cluster.follow_history --seconds 60 --seed 1

Sessions are opened and ended at the leader all the time, and an embedded verifier in the host's folder judges
them again and again. What must hold:

- no check allows that began later than the bound after an end was acknowledged,
- no session that was denied as ended is allowed again,
- behind the faults the host has the leader's rows.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from sessauth.reasons import Reason
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.replication.carrier import CarrierError
from sessauth.tokens.token import Token
from tests.support.carried import common_rows
from tests.support.feeding import Cluster, cluster
from tests.support.follower_process import FollowerProcess, reason
from tests.support.service import wait_until

BOUND_S = 1.5
# A reading of the steady clock in whole ms.
ROUNDING_S = 0.002
FAULTS = ("stop", "kill", "end", "one", "two", "both", "silent", "trim", "nothing")


@dataclass
class History:
    """Live sessions, ended ones with the time of the acknowledgement, and what checks found."""

    live: deque[tuple[bytes, Token]] = field(default_factory=deque)
    ended: deque[tuple[Token, float]] = field(default_factory=lambda: deque(maxlen=60))
    over: set[Token] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def write(fed: Cluster, history: History, rng: random.Random, stopping: threading.Event) -> None:
    """Open and end sessions until told to stop."""
    while not stopping.is_set():
        try:
            history.live.append(fed.open())
            if len(history.live) > 20 or rng.random() < 0.5:
                session_id, token = history.live.popleft()
                fed.end(session_id)
                history.ended.append((token, time.monotonic()))
            if rng.random() < 0.05:
                fed.members[1].follow()
        except CarrierError:
            history.counts["engine silent"] += 1
        stopping.wait(rng.random() * 0.05)


def judge(host: FollowerProcess, history: History, stopping: threading.Event) -> None:
    """Judge ended sessions, and the newest live one, until told to stop."""
    with host.verifier() as verifier:
        while not stopping.is_set():
            for token, ended_at in [*history.ended]:
                began = time.monotonic()
                found = reason(verifier, token)
                history.counts[f"ended: {found.name}"] += 1
                if found is Reason.SESSION_ENDED:
                    history.over.add(token)
                if found is Reason.ALLOWED and began > ended_at + BOUND_S + ROUNDING_S:
                    history.violations.append(f"allowed {began - ended_at:.3f} s after the end")
                if found is Reason.ALLOWED and token in history.over:
                    history.violations.append("allowed after it was denied as ended")
            for _, token in [*history.live][-1:]:
                history.counts[f"live: {reason(verifier, token).name}"] += 1
            stopping.wait(0.001)


def disturb(fed: Cluster, host: FollowerProcess, rng: random.Random) -> str:
    """Do one thing, for up to 2.5 s; return its name."""
    fault, seconds = rng.choice(FAULTS), rng.random() * 2.5
    servers = {"one": (0,), "two": (1,), "both": (0, 1)}.get(fault, ())
    if fault == "stop":
        host.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        host.process.send_signal(signal.SIGCONT)
    elif fault in ("kill", "end"):
        host.stop(signal.SIGKILL if fault == "kill" else signal.SIGTERM)
        time.sleep(seconds)
        host.start()
    elif fault == "trim":
        fed.members[1].follow()
        fed.engine.trim(max(fed.engine.trimmed, fed.members[1].number - 1))
    for server in servers:
        fed.servers[server].close()
    fed.engine.silent = fault == "silent"
    time.sleep(seconds)
    fed.engine.silent = False
    for server in servers:
        fed.servers[server] = fed.listen(fed.members[server])
    time.sleep(rng.random() * 1.5)
    return fault


def has_leaders_rows(fed: Cluster, host: FollowerProcess) -> bool:
    """Return True if the host's folder has what the leader's has."""
    reader = StateReader.open(host.state)
    try:
        return common_rows(reader) == fed.leader.tables()
    finally:
        reader.close()


def main() -> None:
    """Run one history, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    stated = parser.parse_args()
    rng, history, stopping = random.Random(stated.seed), History(), threading.Event()
    with cluster(("one", "two")) as fed:
        host = FollowerProcess.of(fed, staleness_ms=f"{BOUND_S * 1000:.0f}")
        host.wait_for("fresh")
        threads = [
            threading.Thread(target=write, args=(fed, history, rng, stopping)),
            threading.Thread(target=judge, args=(host, history, stopping)),
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + stated.seconds
        while time.monotonic() < until:
            history.counts[f"fault: {disturb(fed, host, rng)}"] += 1
        stopping.set()
        for thread in threads:
            thread.join()
        fed.members[1].follow()
        if not wait_until(lambda: has_leaders_rows(fed, host), 20):
            history.violations.append("the host lacks rows of the leader")
        if "cluster_alarm" in host.log:
            history.violations.append("an alarm without a cause")
        host.stop()
    for name, count in sorted(history.counts.items()):
        sys.stdout.write(f"{name}: {count}\n")
    sys.stdout.write("\n".join(history.violations[:10]) + f"\n{len(history.violations)} violations\n")
    sys.exit(bool(history.violations))


if __name__ == "__main__":
    main()
