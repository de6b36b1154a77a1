"""Lines of the story: what was done, what a host decided and when, and whether that was to be expected."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from ....model.session import Session
from ....reasons import Reason
from ....tokens.token import Token
from .checks import ACTION, AUDIENCE, BOUND_MS, RESOURCE
from .demo_cluster import DemoCluster
from .hosts import DemoHost, DemoServer

# For a decision that must come; on a busy machine it may take long.
DECISION_SECONDS: Final = 20.0

Write = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One line: ``ms`` are milliseconds since the event that the line names, NaN if it did not happen."""

    chapter: str
    verdict: str
    ms: float
    text: str
    as_expected: bool

    def __str__(self) -> str:
        """Return the line."""
        shown = "never" if math.isnan(self.ms) else f"{self.ms:.1f}"
        return f"  {self.verdict:8}{shown:>9}  {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "ms": None if math.isnan(self.ms) else round(self.ms, 1)}


class Story:
    """The cluster, and the lines so far."""

    def __init__(self, cluster: DemoCluster, show: Write) -> None:
        """Begin without a line."""
        self.cluster = cluster
        self.chapter = ""
        self.steps: list[DemoStep] = []
        self.ended: list[Token] = []
        self._show = show

    def narrate(self, text: str) -> None:
        """Show a line without a judgement."""
        self._show(f"      {text}")

    def step(self, verdict: str, seconds: float, text: str, *, expected: bool = True) -> None:
        """Record and show one line."""
        step = DemoStep(self.chapter, verdict, seconds * 1000, text, expected)
        self.steps.append(step)
        self._show(str(step))
        if not expected:
            self._show(f"{'':12}NOT AS EXPECTED")

    def done(self, since: float, text: str, *, expected: bool = True) -> None:
        """Record what was done since a moment."""
        self.step("done", time.monotonic() - since, text, expected=expected)

    def open(self, server: DemoServer, purpose: str) -> tuple[Session, Token]:
        """Open a session at a server and mint its token."""
        request_id = secrets.token_hex(8)
        scopes = [f"{ACTION}:files/**"]
        session = server.ask(
            lambda client: client.open_session(
                subject="agent", purpose=purpose, ceiling=scopes, request_id=request_id
            )
        )
        return session, server.ask(lambda client: client.mint(session.id, scopes, [AUDIENCE]))

    def end(self, server: DemoServer, session: Session, token: Token) -> tuple[float, float]:
        """End a session at a server; return when that was asked for, and when it was acknowledged."""
        request_id = secrets.token_hex(8)
        requested = time.monotonic()
        server.ask(lambda client: client.end(session.id, request_id=request_id))
        acknowledged = time.monotonic()
        self.ended.append(token)
        return requested, acknowledged

    def watch(self, token: Token) -> None:
        """Have each host judge a token from now on."""
        for host in self.cluster.hosts:
            host.checks.watch(token)

    def decides(
        self,
        reason: Reason,
        since: float,
        event: str,
        hosts: Iterable[DemoHost] | None = None,
        *,
        requested_at: float | None = None,
    ) -> None:
        """Record when each host first gave ``reason`` since an event, or since the earlier ``requested_at``.

        A denial is expected only if no check allowed that began later than the bound behind the event.
        """
        verdict = "allowed" if reason is Reason.ALLOWED else "DENIED"
        begin = since if requested_at is None else requested_at
        for host in self.cluster.hosts if hosts is None else hosts:
            ended = host.checks.first(reason, begin, DECISION_SECONDS)
            on_time = ended is not None
            if reason is not Reason.ALLOWED:
                late = host.checks.since(since + BOUND_MS / 1000)
                on_time &= not any(check.reason is Reason.ALLOWED for check in late)
            text = (
                f"{host.name}: {ACTION} {RESOURCE}" if verdict == "allowed" else f"{host.name}: {reason.name}"
            )
            self.step(
                verdict, math.nan if ended is None else ended - since, f"{text}, {event}", expected=on_time
            )

    def goes_on(self, since: float, hosts: Iterable[DemoHost], event: str) -> None:
        """Record whether hosts allowed every call of the watched token since a moment."""
        for host in hosts:
            checks = host.checks.since(since)
            denied = [check for check in checks if check.reason is not Reason.ALLOWED]
            text = f"{host.name}: {len(checks)} checks {event}, {len(denied)} denied"
            self.step("allowed", time.monotonic() - since, text, expected=bool(checks) and not denied)
