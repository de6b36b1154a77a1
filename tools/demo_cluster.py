"""Type docs/cluster.md on three hosts of this machine, break their parts one by one, and print latencies.

    python -m tools.demo_cluster

Needs etcd on the PATH. A line has its milliseconds since the event that it names. A decision may come before
the command that caused it has returned; its milliseconds are then less than 0.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sessauth import Reason, Token, Verifier
from tests.support.page_cluster import PageHosts

PERIOD_S: Final = 0.001
# staleness_ms by default: no check that begins later than this after the event may allow.
BOUND_S: Final = 3.0
WAIT_S: Final = 30.0


class UnexpectedDecisionError(Exception):
    """A decision that did not come, or came too late."""


class Watch:
    """A thread that checks a token on the gateway's host, and notes when its decision changes."""

    def __init__(self, state: Path, token: Path) -> None:
        """Open the state folder; raises StateError."""
        self._token = Token.parse(token.read_text().strip())
        self._verifier = Verifier.embedded(state, audience="gw")
        self._changes: list[tuple[float, Reason]] = []
        # When the latest check began that was allowed.
        self.allowed = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def when(self, reason: Reason, since: float) -> float:
        """Return the moment since which ``reason`` is given, or ``since`` if it was before."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if self._changes and self._changes[-1][1] is reason:
                return max(since, self._changes[-1][0])
            time.sleep(PERIOD_S)
        raise UnexpectedDecisionError(
            f"{reason.name} did not come within {WAIT_S:.0f} s; last: {self._changes[-1:]}"
        )

    def close(self) -> None:
        """End the thread and close the verifier."""
        self._closing.set()
        self._thread.join()
        self._verifier.close()

    def _run(self) -> None:
        while not self._closing.wait(PERIOD_S):
            began = time.monotonic()
            reason = self._verifier.check(self._token.data, "read", "files/report").reason
            if reason is Reason.ALLOWED:
                self.allowed = began
            if not self._changes or self._changes[-1][1] is not reason:
                self._changes.append((time.monotonic(), reason))


def _show(verdict: str, begun: float, at: float, text: str) -> None:
    print(f"{verdict:>16}{(at - begun) * 1000:10.1f}  {text}", flush=True)


def _done(begun: float, text: str) -> float:
    now = time.monotonic()
    _show("done", begun, now, text)
    return now


def play(opened: ExitStack, hosts: PageHosts) -> None:
    """Play all faults; raises UnexpectedDecisionError for a decision that does not come in time."""
    begun = time.monotonic()
    hosts.begin()
    _done(begun, "the page is typed: servers one and two, and a host of gateways that follows them")
    gateway, engine = hosts.typed["gateway"], hosts.engine
    watches: list[Watch] = []

    def watch(server: str) -> str:
        session, file = hosts.mint(server)
        watches.append(Watch(hosts.homes["gateway"] / "state", file))
        opened.callback(watches[-1].close)
        watches[-1].when(Reason.ALLOWED, 0.0)
        return session

    def decided(reason: Reason, event: float, since: float, text: str) -> None:
        watched = watches[-1]
        _show(reason.name, event, watched.when(reason, since), text)
        if reason is not Reason.ALLOWED and watched.allowed > event + BOUND_S:
            raise UnexpectedDecisionError(f"a check allowed {watched.allowed - event:.3f} s {text}")

    def end(server: str, session: str, text: str) -> None:
        asked = time.monotonic()
        hosts.run(server, f"sessauth session end {session} --reason 'ticket closed'")
        decided(Reason.SESSION_ENDED, _done(asked, text), asked, "on the gateway's host, after that")

    end("two", watch("one"), "server two, which does not lead, ends a session")
    session = watch("one")
    engine.members[0].kill()
    end("one", session, "a member of etcd is killed, and a session is ended")
    engine.start()

    watch("one")
    paused = time.monotonic()
    gateway.signal_server(signal.SIGSTOP)
    decided(Reason.STALE_STATE, paused, paused, "after the gateway's follower was stopped; 3,000 at most")
    resumed = time.monotonic()
    gateway.signal_server(signal.SIGCONT)
    decided(Reason.ALLOWED, resumed, resumed, "after it goes on")
    paused = time.monotonic()
    for member in engine.members[:2]:
        member.stop()
    decided(Reason.STALE_STATE, paused, paused, "after two of three members of etcd stopped; 3,000 at most")
    resumed = time.monotonic()
    engine.start()
    decided(Reason.ALLOWED, resumed, resumed, "after they go on")

    session = watch("one")
    killed = time.monotonic()
    hosts.typed["one"].signal_server(signal.SIGKILL)
    while not hosts.leads("two", host="two"):
        if time.monotonic() > killed + WAIT_S:
            raise UnexpectedDecisionError("no server leads")
    _done(killed, "the leading server is killed; server two leads")
    end("two", session, "server two ends a session that the other one opened")


def main() -> int:
    """Play the demo; return 0 if each decision came, 1 if one did not, 2 without etcd."""
    if shutil.which("etcd") is None:
        print("etcd is not on the PATH, and a cluster needs it: apt-get install etcd-server", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="sessauth-demo-", dir="/tmp") as folder, ExitStack() as opened:
        try:
            play(opened, PageHosts(opened, Path(folder)))
        except (AssertionError, UnexpectedDecisionError) as error:
            print(f"NOT AS EXPECTED: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
