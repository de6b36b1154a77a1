"""A process of its own that commits changes at a steady rate: ``python -m benchmarks.stages.writer_process``.

It reads one line of JSON from standard input, says ``ready`` once it has committed, goes on until standard
input ends or its time is over, and then says in a line of JSON what it did.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.host_info import ROOT
from sessauth.model.change import Change, ChangeOutcome, update_facts
from sessauth.model.session import Fact
from sessauth.state.writer.state_writer import StateWriter

# Nothing waits for it for ever, and it waits for nobody for ever, in seconds.
MOST_SECONDS: Final = 120
START_SECONDS: Final = 30
# A change that waits for its turn is submitted late rather than queued without end.
MOST_WAITING: Final = 512
NAP_SECONDS: Final = 0.0005


@dataclass(frozen=True)
class Committed:
    """Work of a committer: durable changes, the commits that hold them, in so many seconds."""

    changes: int
    commits: int
    seconds: float

    @property
    def rate(self) -> float:
        """Durable changes per second."""
        return self.changes / self.seconds if self.seconds > 0 else 0.0


class Committer:
    """A running committer, as the process that started it sees it."""

    def __init__(self, state_dir: Path, session_ids: Sequence[bytes], rate: int) -> None:
        """Start it; it changes a fact of these sessions in turn, ``rate`` times a second."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stages.writer_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        order = {"state_dir": str(state_dir), "sessions": [each.hex() for each in session_ids], "rate": rate}
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            if self._process.stdout.readline() != "ready\n":
                self._collect()
                raise RuntimeError("the committer did not start")
        except BaseException:
            self.__exit__()
            raise

    def stop(self) -> Committed:
        """End it; returns what it did. Raises RuntimeError if it failed on the way."""
        return Committed(**json.loads(self._collect()))

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def _collect(self) -> str:
        """Close its standard input and return what it says until it ends."""
        out, wrong = self._process.communicate(timeout=START_SECONDS)
        if self._process.returncode != 0:
            last = wrong.strip().rpartition("\n")[2]
            raise RuntimeError(f"the committer ended with status {self._process.returncode}: {last}")
        return out


def changes(session_ids: Sequence[bytes]) -> Iterator[Change]:
    """Yield changes without end: a new value of a fact, for one session after the other."""
    run = time.time_ns()
    number = 0
    while True:
        session_id = session_ids[number % len(session_ids)]
        fact = Fact("case_id", f"T-{number}", True)
        yield update_facts(f"bench-{run}-{number}", session_id, set_facts=[fact])
        number += 1


def commit(
    writer: StateWriter, session_ids: Sequence[bytes], rate: int, stop: threading.Event, most_seconds: float
) -> Committed:
    """Commit at a rate until told to stop; raises Rejected if a change is not applied."""
    source = changes(session_ids)
    waiting: deque[Future[ChangeOutcome]] = deque()
    before = writer.stats.commits
    submitted = durable = 0
    started = time.monotonic()

    def settle(block: bool) -> int:
        settled = 0
        while waiting and (block or waiting[0].done()):
            waiting.popleft().result(timeout=START_SECONDS).raise_if_rejected()
            settled += 1
        return settled

    while not stop.is_set() and (elapsed := time.monotonic() - started) < most_seconds:
        due = min(int(elapsed * rate) - submitted, MOST_WAITING - len(waiting))
        for _ in range(due):
            waiting.append(writer.submit(next(source)))
        submitted += max(0, due)
        durable += settle(block=False)
        stop.wait(NAP_SECONDS)
    durable += settle(block=True)
    return Committed(durable, writer.stats.commits - before, time.monotonic() - started)


def main() -> int:
    """Do as the line on standard input says."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    sessions = [bytes.fromhex(each) for each in order["sessions"]]
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with StateWriter.open(order["state_dir"]) as writer:
        writer.submit(next(changes(sessions))).result(timeout=START_SECONDS).raise_if_rejected()
        print("ready", flush=True)
        done = commit(writer, sessions, order["rate"], stop, MOST_SECONDS)
    print(json.dumps({"changes": done.changes, "commits": done.commits, "seconds": done.seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
