"""A server with two check workers, a client and an embedded verifier, for the demo's scenarios.

Every call is checked twice: by a worker over gRPC, and by the embedded verifier in this process, which sends
calls that cost something to the server. Both answers must be the expected one. Nothing is simulated.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...audit.write.stream import AuditOptions
from ...client import Client
from ...reasons import Reason
from ...testing.local_service import LocalService, Setting
from ...tokens.token import Token
from ...verifier.verifier import ServerBackedVerifier

AUDIENCE = "gateway"
WORKERS = 2
_AGAIN = 100
# Each of these calls the server.
_ATTEMPTS_AGAIN = 10

Prove = Callable[[], bytes]
"""Makes the proof of one call, a new one for each check."""


def _unproven() -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class DemoCall:
    """One call to check; ``arguments`` are the JSON bytes that a gateway would forward."""

    action: str
    resource: str
    arguments: bytes = b""

    def __str__(self) -> str:
        """Return the call as a line."""
        return f"{self.action} {self.resource} {self.arguments.decode()}".rstrip()


@dataclass(frozen=True, slots=True)
class DemoDecision:
    """Answers of both verifiers to one call.

    Latencies are in microseconds: over gRPC, embedded at first, embedded again (median).
    """

    scenario: str
    label: str
    call: DemoCall
    expected: Reason
    remote: Reason
    embedded: Reason
    remote_us: float
    first_us: float
    again_us: float
    explanation: str

    @property
    def as_expected(self) -> bool:
        """True if both answers are the expected one."""
        return self.remote == self.embedded == self.expected


@dataclass
class DemoEnvironment:
    """A running server and its callers."""

    service: LocalService
    verifier: ServerBackedVerifier
    scenario: str = ""
    decisions: list[DemoDecision] = field(default_factory=list)
    # Every presented token, with a call that was allowed.
    presented: dict[str, tuple[Token, DemoCall]] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        """A client of the server, which sends checks to its workers."""
        return self.service.client

    @property
    def audit_dir(self) -> Path:
        """The folder of the audit log, of the server and of the embedded verifier."""
        return self.service.home / "audit"

    def check(
        self, label: str, token: Token, call: DemoCall, expected: Reason, prove: Prove = _unproven
    ) -> DemoDecision:
        """Check a call of the holder ``label`` with both verifiers."""
        return self._check(label, token, call, expected, prove, b"", _AGAIN)

    def attempt(
        self, label: str, token: Token, call: DemoCall, expected: Reason, prove: Prove = _unproven
    ) -> DemoDecision:
        """Check a call that costs something, as one attempt: both verifiers together charge it once."""
        return self._check(label, token, call, expected, prove, secrets.token_bytes(16), _ATTEMPTS_AGAIN)

    def _check(
        self,
        label: str,
        token: Token,
        call: DemoCall,
        expected: Reason,
        prove: Prove,
        retry_id: bytes,
        times: int,
    ) -> DemoDecision:
        request = (token.data, call.action, call.resource, call.arguments)
        proof = prove()
        begin = time.perf_counter_ns()
        remote = self.client.check(*request, audience=AUDIENCE, proof=proof, retry_id=retry_id)
        remote_ns = time.perf_counter_ns() - begin
        proof = prove()
        begin = time.perf_counter_ns()
        embedded = self.verifier.check(*request, proof=proof, retry_id=retry_id)
        first_ns = time.perf_counter_ns() - begin
        again = []
        for _ in range(times):
            proof = prove()
            start = time.perf_counter_ns()
            self.verifier.check(*request, proof=proof, retry_id=retry_id)
            again.append(time.perf_counter_ns() - start)
        decision = DemoDecision(
            scenario=self.scenario,
            label=label,
            call=call,
            expected=expected,
            remote=remote.reason,
            embedded=embedded.reason,
            remote_us=remote_ns / 1000,
            first_us=first_ns / 1000,
            again_us=statistics.median(again) / 1000,
            explanation="" if remote else remote.explain(token),
        )
        self.decisions.append(decision)
        if remote and embedded:
            self.presented[f"{self.scenario}: {label}"] = (token, call)
        return decision


@contextmanager
def open_demo() -> Iterator[DemoEnvironment]:
    """Start a server on a state folder of its own, and stop it when the block ends.

    Raises Unavailable if the server and its workers are not ready in time.
    """
    settings: dict[str, dict[str, Setting]] = {
        "server": {"workers": WORKERS},
        "audit": {"enabled": True},
        "usage": {"enabled": True},
    }
    with LocalService(settings) as service:
        audit = AuditOptions(dir=service.home / "audit")
        with service.verifier(AUDIENCE, register_as=AUDIENCE, audit=audit, report_usage=True) as verifier:
            yield DemoEnvironment(service, verifier)
