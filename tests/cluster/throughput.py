"""Changes a second with and without a carried log, and the speed of replay, on this machine.

    python -m tests.cluster.throughput

The same changes by 64 callers, in turns: a single host's writer, and a leader's over three members of etcd.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.clock import SystemClock
from sessauth.model.host import ServerKey
from sessauth.state.replication.carried_log import CarriedLog, apply_records
from sessauth.state.replication.carrier import Carrier
from sessauth.state.replication.membership import found
from sessauth.state.writer.state_writer import StateWriter
from tests.support.carried import join
from tests.support.changes import opening
from tests.support.etcd_cluster import etcd_cluster

CALLERS = 64
ROUNDS = 6
SECONDS = 2.0
PAGE = 64


def changes_per_second(writer: StateWriter, seconds: float, mark: str) -> float:
    """Return how many sessions a second are opened by callers that wait for each."""
    waiting = deque(writer.submit(opening(f"{mark}-{number}")) for number in range(CALLERS))
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        waiting.popleft().result().raise_if_rejected()
        done += 1
        waiting.append(writer.submit(opening(f"{mark}-{CALLERS + done}")))
    took = time.monotonic() - began
    for future in waiting:
        future.result()
    return done / took


def replay(folder: Path, engine: Carrier, number: int) -> tuple[float, float]:
    """Return the changes a second that a follower applies, and the us of CPU that each takes."""
    with StateWriter.open(folder, carried=CarriedLog(engine, "two", ServerKey.generate())) as writer:
        head = writer.head().seq
        began, cpu = time.monotonic(), time.process_time()
        while records := engine.read(number, PAGE):
            encoded = [record for _, record in records]
            number = writer.run(lambda group, page=encoded: apply_records(group, page))  # type: ignore[misc]
        changes = writer.head().seq - head
        return changes / (time.monotonic() - began), (time.process_time() - cpu) / changes * 1e6


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="sa-") as name, etcd_cluster(Path(name), 3) as engine:
        folder, key = Path(name), ServerKey.generate()
        StateWriter.open(folder / "one", create=True).close()
        cluster = found(folder / "one", "one", key)
        carrier = EtcdCarrier(engine.addresses, cluster)
        carried = CarriedLog(carrier, "one", key)
        with (
            StateWriter.open(folder / "alone", create=True) as alone,
            StateWriter.open(folder / "one", carried=carried) as one,
        ):
            leader = carrier.lead("one", "one:1", 60_000)
            assert leader is not None
            carried.lead(leader)
            one.run(carried.begin_term)
            join(folder / "two", one.source(), SystemClock())
            pairs = [
                (
                    changes_per_second(alone, SECONDS, f"a{turn}"),
                    changes_per_second(one, SECONDS, f"c{turn}"),
                )
                for turn in range(ROUNDS)
            ]
        ratios = [carried_rate / plain for plain, carried_rate in pairs]
        plain, through = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        speed, cpu_us = replay(folder / "two", carrier, 1)
        carrier.close()
    sys.stdout.write(
        f"changes a second, {CALLERS} callers: alone {plain:,.0f}, carried {through:,.0f}; ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {ROUNDS} rounds\n"
        f"replay: {speed:,.0f} changes a second, {cpu_us:.0f} us of CPU each\n"
    )


if __name__ == "__main__":
    main()
