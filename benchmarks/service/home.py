"""The home folder of the real server, and the messages that it is asked."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks import workloads
from benchmarks.workloads import WrongDecision
from benchmarks.world import AUDIENCE, CEILING, HOUR_MS, SEED
from sessauth.client import Client
from sessauth.server.credentials import CredentialFile
from sessauth.server.init import initialise
from sessauth.v1 import authorization_service_pb2 as pb

TOKENS = 64
BATCH = 256


@dataclass(frozen=True)
class Home:
    """An initialised home folder; ``credential`` is that of a gateway with one audience."""

    folder: Path
    target: str
    credential: str

    @classmethod
    def make(cls, folder: Path) -> Home:
        """Initialise it."""
        made = initialise(folder)
        credential = CredentialFile(made.state_dir / "credentials.toml").add("bench", "gateway", (AUDIENCE,))
        return cls(folder, f"unix:{made.socket}", credential)

    def requests(self) -> Requests:
        """Open a session on the running server and mint the tokens that checks present."""
        credential_file = self.folder / "operator.credential"
        with Client(self.target, credential_file=credential_file, timeout_ms=20_000) as client:
            session = client.open_session(
                subject="agent-7", purpose="triage", ceiling=list(CEILING), ttl_ms=HOUR_MS
            )
            tokens = [
                client.mint(session.id, workloads.eight_scopes(), [AUDIENCE], ttl_ms=HOUR_MS // 2).data
                for _ in range(TOKENS)
            ]
        return Requests(tuple(tokens))


@dataclass(frozen=True)
class Requests:
    """Encoded requests; every one of them must be allowed."""

    tokens: tuple[bytes, ...]

    def _item(self, number: int) -> pb.CheckItem:
        return pb.CheckItem(
            token=self.tokens[number % len(self.tokens)],
            action=b"read",
            resource=workloads.RESOURCE.encode(),
            arguments=workloads.ARGUMENTS,
        )

    def checks(self, count: int) -> list[bytes]:
        """Return ``count`` encoded Check requests, in a seeded order."""
        encoded = [pb.CheckRequest(item=self._item(n)).SerializeToString() for n in range(len(self.tokens))]
        return random.Random(SEED).choices(encoded, k=count)

    def batches(self, count: int) -> list[bytes]:
        """Return ``count`` encoded CheckBatch requests of 256 items."""
        batch = pb.CheckBatchRequest(items=[self._item(number) for number in range(BATCH)])
        return [batch.SerializeToString()] * count

    @staticmethod
    def require_allowed(answers: list[bytes]) -> None:
        """Raise WrongDecision unless each Check was allowed."""
        for answer in answers:
            decision = pb.CheckResponse.FromString(answer).decision
            if not decision.allowed or decision.reason != pb.REASON_ALLOWED:
                raise WrongDecision(f"service/check: {pb.Reason.Name(decision.reason)}, not allowed")

    @staticmethod
    def require_all_allowed(answers: list[bytes]) -> None:
        """Raise WrongDecision unless each item of each CheckBatch was allowed."""
        for answer in answers:
            decisions = pb.CheckBatchResponse.FromString(answer).decisions
            if len(decisions) != BATCH or not all(decision.allowed for decision in decisions):
                raise WrongDecision("service/batch-256: an item was denied or is missing")
