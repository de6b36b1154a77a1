"""The home folder of the real server, and the messages that it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grpc_health.v1 import health_pb2

from benchmarks.service.certificate import Certificate
from benchmarks.state_setup import CEILING
from benchmarks.tokens import ARGUMENTS, AUDIENCE, HOUR_MS, RESOURCE, eight_scopes
from benchmarks.workloads import WrongDecision
from sessauth.client import Client
from sessauth.crypto.armor import presented_text
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as pb

TOKENS: Final = 256
OPERATORS: Final = 4
# Agents of a batch: a gateway that looks at the plans of a few.
AGENTS: Final = 8
# Parents of tokens that are presented once.
PARENTS: Final = 16
# An answer holds the revision: behind so many changes its length stays the same for a long time.
CHANGES_BEFORE: Final = 150
# Of three digits each, so that all requests and all answers have one length.
PAGE_SIZES: Final = range(100, 1000)


@dataclass(frozen=True)
class Home:
    """An initialised home folder.

    ``credential`` is that of a gateway with one audience. ``operators`` are those of several operators: one
    caller may hold at most half of a pool.
    """

    folder: Path
    target: str
    credential: str
    operators: tuple[str, ...]

    @classmethod
    def make(cls, folder: Path) -> Home:
        """Initialise it."""
        made = initialise(folder)
        credentials = CredentialFile(made.state_dir / "credentials.toml")
        gateway = credentials.add("bench", "gateway", (AUDIENCE,))
        operators = tuple(
            credentials.add(f"bench-operator-{number}", "operator") for number in range(OPERATORS)
        )
        return cls(folder, f"unix:{made.socket}", gateway, operators)

    def check_socket(self, index: int) -> Path:
        """Return the socket of a worker."""
        return self.folder / "run" / f"check-{index}.sock"

    def trust(self, certificate: Certificate) -> None:
        """Let a client certificate be a gateway with one audience."""
        with (self.folder / "sessauth.toml").open("a", encoding="utf-8") as file:
            file.write(
                f'\n[[identities]]\nname = "bench-tls"\nrole = "gateway"\naudiences = ["{AUDIENCE}"]\n'
                f'thumbprint = "{certificate.thumbprint}"\n'
            )

    def requests(self) -> Requests:
        """Open a session on the running server and mint the tokens that checks present."""
        with self._operator() as client:
            return Requests(tuple(token.data for token in _minted(client, TOKENS)))

    def cold_tokens(self) -> ColdTokens:
        """Open another session and mint the parents of tokens that are presented once."""
        with self._operator() as client:
            return ColdTokens(tuple(_minted(client, PARENTS, ending="open")))

    def make_changes(self) -> None:
        """Make so many changes that the length of an answer does not change with the next ones."""
        with self._operator() as client, ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda _: _opened(client), range(CHANGES_BEFORE)))

    def _operator(self) -> Client:
        credential_file = self.folder / "operator.credential"
        return Client(self.target, credential_file=credential_file, timeout_ms=20_000)


def _opened(client: Client) -> bytes:
    session = client.open_session(subject="agent-7", purpose="triage", ceiling=list(CEILING), ttl_ms=HOUR_MS)
    return session.id


def _minted(client: Client, count: int, ending: str = "") -> list[Token]:
    """Return tokens of a new session."""
    session = _opened(client)
    return [
        client.mint(session, eight_scopes(), [AUDIENCE], ttl_ms=HOUR_MS // 2, ending=ending)
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Requests:
    """Encoded requests; every one of them must be allowed."""

    tokens: tuple[bytes, ...]

    def _item(self, number: int) -> pb.CheckItem:
        page_size = PAGE_SIZES[number % len(PAGE_SIZES)]
        return pb.CheckItem(
            token=self.tokens[number % len(self.tokens)],
            action=b"read",
            resource=RESOURCE.encode(),
            arguments=ARGUMENTS.replace(b'"per_page":50', b'"per_page":%d' % page_size),
        )

    def as_text(self) -> Requests:
        """Return requests with the same tokens as text."""
        return Requests(tuple(presented_text(token).encode() for token in self.tokens))

    def checks(self) -> tuple[bytes, ...]:
        """Return a Check request for each token."""
        return tuple(
            pb.CheckRequest(item=self._item(number)).SerializeToString() for number in range(len(self.tokens))
        )

    def batch(self, size: int) -> tuple[bytes, ...]:
        """Return a CheckBatch request of so many items, each its own, of eight agents in turn.

        It is what the client makes of them: tokens that repeat stand in the request's table.
        """
        request = pb.CheckBatchRequest(items=[self._item(number) for number in range(size)])
        if size > AGENTS:
            request.tokens.extend(self.tokens[:AGENTS])
            for number, item in enumerate(request.items):
                item.token_index = 1 + number % AGENTS
                item.ClearField("token")
        return (request.SerializeToString(),)

    def batch_of_distinct(self, size: int) -> tuple[bytes, ...]:
        """Return a CheckBatch request of so many items, each with a token of its own; 256 are there."""
        items = [self._item(number) for number in range(size)]
        return (pb.CheckBatchRequest(items=items).SerializeToString(),)

    def stream(self) -> tuple[bytes, ...]:
        """Return a CheckStream message for each token."""
        return tuple(
            pb.CheckStreamRequest(id=1000 + number, item=self._item(number)).SerializeToString()
            for number in range(len(self.tokens))
        )


class ColdTokens:
    """Tokens that were never presented before: each a child of a known parent, made offline."""

    def __init__(self, parents: Sequence[Token]) -> None:
        """Make children of ``parents`` in turn."""
        self._parents = parents
        self._made = 0

    def checks(self, count: int) -> list[bytes]:
        """Return a Check request for each of so many new tokens."""
        return [self._check() for _ in range(count)]

    def _check(self) -> bytes:
        parent = self._parents[self._made % len(self._parents)]
        self._made += 1
        # Children of one parent with the same terms are the same token.
        child = parent.attenuate(where=[f"per_page <= {1000 + self._made}"], ending="sealed")
        item = pb.CheckItem(token=child.data, action=b"read", resource=RESOURCE.encode(), arguments=ARGUMENTS)
        return pb.CheckRequest(item=item).SerializeToString()


def require_allowed(answers: Sequence[bytes]) -> None:
    """Raise WrongDecision unless each Check was allowed."""
    for answer in answers:
        _require("Check", pb.CheckResponse.FromString(answer).decision)


def require_stream_allowed(answers: Sequence[bytes]) -> None:
    """Raise WrongDecision unless each message of CheckStream was allowed."""
    for answer in answers:
        _require("CheckStream", pb.CheckStreamResponse.FromString(answer).decision)


def require_batch_allowed(size: int, answers: Sequence[bytes]) -> None:
    """Raise WrongDecision unless each CheckBatch has ``size`` decisions, all of them allowed."""
    for answer in answers:
        decisions = pb.CheckBatchResponse.FromString(answer).decisions
        if len(decisions) != size:
            raise WrongDecision(f"CheckBatch: {len(decisions)} decisions for {size} items")
        for decision in decisions:
            _require("CheckBatch", decision)


def require_serving(answers: Sequence[bytes]) -> None:
    """Raise WrongDecision unless each health check says that the server serves."""
    for answer in answers:
        status = health_pb2.HealthCheckResponse.FromString(answer).status
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise WrongDecision("Health: not serving")


def _require(method: str, decision: pb.Decision) -> None:
    if not decision.allowed or decision.reason != pb.REASON_ALLOWED:
        raise WrongDecision(f"{method}: {pb.Reason.Name(decision.reason)}, not allowed")
