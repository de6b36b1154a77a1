"""A server with workers, callers of every role, and what others notice while one misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.init import initialise
from sessauth.server.rpc.access import ANYONE, RULES, pool_of
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.half_sent import HalfSent, headers
from tests.support.service import Caller, RpcError, ServerProcess, child_pids, home_folder, serves, wait_until

ROLES = ("operator", "issuer", "gateway", "auditor", "approver")
STRANGER = "stranger"
# RPCs of a worker.
OF_WORKERS = ("/sessauth.v1.AuthorizationService/", "/grpc.health.v1.Health/")
# The head of a message of a mebibyte, and its first bytes.
HALF = b"\0\0\x10\0\0" + bytes(100)

# The most harmful targets: all checks and the workers' registration; all ends; all reads.
WORST = (
    ("gateway", ("/sessauth.v1.AuthorizationService/Check", "/sessauth.v1.EvidenceService/RegisterVerifier")),
    ("issuer", ("/sessauth.v1.SessionService/EndSession",)),
    (STRANGER, ("/sessauth.v1.KeyService/ListVerifierKeys", "/grpc.health.v1.Health/Check")),
)
# In seconds. A worker that showed no sign of life for two of them ended.
LONG = 4.0
SHORT = 0.4


@dataclass(frozen=True)
class Attack:
    """Half-sent calls: ``count`` of these RPCs in turns, by a role, at each process that serves them."""

    role: str
    rpcs: tuple[str, ...]
    count: int = 300
    body: bytes = b""
    # How long others try to go on meanwhile.
    seconds: float = SHORT

    def __str__(self) -> str:
        """Return a short name of the call."""
        first = self.rpcs[0].rpartition(".")[2]
        names = first if len(self.rpcs) == 1 else f"{first} and {len(self.rpcs) - 1} others in turns"
        return f"{names}, {'half a message' if self.body else 'no message'}"


@dataclass(frozen=True)
class Noticed:
    """Effects on other callers: times in ms."""

    made: int
    ends_ms: tuple[float, ...]
    lost_ends: tuple[str, ...]
    lost_reads: tuple[str, ...]
    checks: int
    slowest_check_ms: float
    lost_checks: tuple[str, ...]
    same_workers: bool
    healthy: bool

    @property
    def p99_end_ms(self) -> float:
        """The 99th percentile of the ends, which of less than a hundred is the slowest."""
        ordered = sorted(self.ends_ms)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


class ServerFixture:
    """The server and its callers."""

    def __init__(self, home: Path, workers: int = 2, **settings: str) -> None:
        """Start it and wait until all processes serve."""
        made = initialise(home)
        self.home = home
        file = CredentialFile(home / "state" / "credentials.toml")
        self.credentials = {role: file.add(f"held-{role}", role) for role in ROLES}
        self.credentials[STRANGER] = ""
        gateways = [file.add(name, "gateway") for name in ("gateway-b", "gateway-c")[:workers]]
        self.control = made.socket
        self.checks = [home / "run" / f"check-{index}.sock" for index in range(workers)]
        self.process = ServerProcess.start(
            home, **{"SESSAUTH_SERVER_WORKERS": str(workers), "SESSAUTH_LIMITS_DRAIN_MS": "5000", **settings}
        )
        self.operator = Caller(f"unix:{self.control}", made.credential_file.read_text().strip())
        # Each gateway has one worker of its own, so that neither can be missed.
        self.gateways = [
            Caller(f"unix:{path}", each) for path, each in zip(self.checks, gateways, strict=True)
        ]
        self.strangers = [Caller(f"unix:{path}") for path in (self.control, *self.checks)]
        assert wait_until(lambda: all(serves(caller) for caller in self.strangers)), self.process.log

    def pids(self) -> list[int]:
        """The ids of the worker processes."""
        return child_pids(self.process.process.pid)

    def session(self) -> bytes:
        """Open a session; returns its id."""
        request = sessions.OpenSessionRequest(subject="s", ceiling=["read:files/**"])
        return bytes(self.operator.call("SessionService/OpenSession", request).session.id)

    def check(self) -> checks.CheckRequest:
        """A check that is allowed."""
        minted = self.operator.call(
            "TokenService/Mint",
            tokens.MintRequest(session_id=self.session(), scopes=["read:files/**"], audience=["gw"]),
        )
        item = checks.CheckItem(token=minted.token.encode(), action=b"read", resource=b"files/a")
        return checks.CheckRequest(item=item, audience="gw")

    def close(self) -> None:
        """Kill it and close the callers."""
        self.process.kill()
        for caller in (self.operator, *self.gateways, *self.strangers):
            caller.close()

    def noticed(self, attack: Attack | None, ends: int = 8) -> Noticed:
        """End sessions one after the other, read them, and check all the while, under an attack."""
        pause = (attack.seconds if attack is not None else SHORT) / ends
        request, living, before = self.check(), [self.session() for _ in range(ends)], self.pids()
        held = [] if attack is None else list(self.begin(attack))
        try:
            with checking(self.gateways, request) as seen:
                taken = []
                lost_ends: list[str] = []
                lost_reads: list[str] = []
                for session_id in living:
                    began = time.perf_counter()
                    try:
                        end = sessions.EndSessionRequest(session_id=session_id)
                        self.operator.call("SessionService/EndSession", end, timeout=10.0)
                    except RpcError as error:
                        lost_ends.append(f"{error.code.name} {error.word} {error.message}")
                    taken.append(1000 * (time.perf_counter() - began))
                    try:
                        read = sessions.GetSessionRequest(session_id=session_id)
                        self.operator.call("SessionService/GetSession", read, timeout=10.0)
                    except RpcError as error:
                        lost_reads.append(f"{error.code.name} {error.word} {error.message}")
                    time.sleep(pause)
                healthy = all(serves(caller) for caller in self.strangers)
        finally:
            for each in held:
                each.close()
        return Noticed(
            made=sum(each.made for each in held),
            ends_ms=tuple(taken),
            lost_ends=tuple(lost_ends),
            lost_reads=tuple(lost_reads),
            checks=len(seen.took_ms),
            slowest_check_ms=max(seen.took_ms, default=0.0),
            lost_checks=tuple(seen.lost),
            same_workers=self.pids() == before,
            healthy=healthy,
        )

    def begin(self, attack: Attack) -> Iterator[HalfSent]:
        """Begin an attack, at each process that serves some of its RPCs."""
        block = {rpc: headers(rpc, self.credentials[attack.role], 30) for rpc in attack.rpcs}
        for target in (self.control, *self.checks):
            served = [
                block[rpc] for rpc in attack.rpcs if target == self.control or rpc.startswith(OF_WORKERS)
            ]
            if served:
                yield HalfSent(target, served, attack.count, attack.body)


@dataclass
class Checked:
    """Results of the checks: the times of those that were allowed in ms, and of the others why not."""

    took_ms: list[float]
    lost: list[str]


@contextmanager
def checking(gateways: Sequence[Caller], request: checks.CheckRequest) -> Iterator[Checked]:
    """Check without a pause, each gateway in a thread of its own."""
    seen, stop = Checked([], []), threading.Event()

    def check(gateway: Caller) -> None:
        while not stop.is_set():
            began = time.perf_counter()
            try:
                decision = gateway.call("AuthorizationService/Check", request, timeout=10.0).decision
                if not decision.allowed:
                    seen.lost.append(f"reason {decision.reason}")
            except RpcError as error:
                seen.lost.append(f"{error.code.name} {error.word} {error.message}")
            seen.took_ms.append(1000 * (time.perf_counter() - began))
            stop.wait(0.005)

    threads = [threading.Thread(target=check, args=(gateway,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def reaches(role: str) -> list[str]:
    """The RPCs that a role may call; those that need nobody are a stranger's too."""
    asked = ANYONE if role == STRANGER else role
    return [rpc for rpc, rule in RULES.items() if asked in rule.roles]


@contextmanager
def running_server(workers: int = 2, **settings: str) -> Iterator[ServerFixture]:
    """A server that is gone behind the ``with`` block."""
    with home_folder() as home:
        opened: list[ServerFixture] = []
        try:
            opened.append(ServerFixture(home, workers, **settings))
            yield opened[0]
        finally:
            for each in opened:
                each.close()


def attacks(full: bool) -> Iterator[Attack]:
    """Half-sent calls by everybody: of each RPC by itself if ``full``, else of a pool's RPCs in turns."""
    for role, rpcs in WORST:
        yield Attack(role, rpcs, seconds=LONG)
    number = 0
    for role in (*ROLES, STRANGER):
        of_pool: dict[str, list[str]] = {}
        for rpc in reaches(role):
            of_pool.setdefault(rpc if full else pool_of(RULES[rpc], role), []).append(rpc)
        for rpcs in of_pool.values():
            number += 1
            seconds = LONG if full else SHORT
            yield Attack(role, tuple(rpcs), body=HALF if number % 2 else b"", seconds=seconds)
    # A stranger's call is refused before its message is waited for.
    yield Attack(STRANGER, tuple(rpc for rpc, rule in RULES.items() if ANYONE not in rule.roles))
