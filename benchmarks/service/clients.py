"""Clients of grpc in Python that make one call after the other: a bare stub, ``Client.check``, and ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, Self

from benchmarks.service.driver import channel, metadata
from benchmarks.service.load_spec import CALL_SECONDS, Call, Drive, Load
from benchmarks.service.server_home import Home
from benchmarks.state_setup import CEILING
from benchmarks.tokens import HOUR_MS
from benchmarks.workloads import WrongDecision
from sessauth.client import Client
from sessauth.v1 import authorization_service_pb2 as pb

AUTHORIZATION = "/sessauth.v1.AuthorizationService/"


def one_by_one(call: Call, calls: Sequence[Callable[[], Any]]) -> tuple[list[Any], Drive]:
    """Make calls, each timed; returns the answers, and the drive."""
    clock = time.perf_counter_ns
    answers, latencies = [], []
    cpu, begun = call.server.cpu_us(), clock()
    for each in calls:
        started = clock()
        answers.append(each())
        latencies.append((clock() - started) / 1000)
    wall = (clock() - begun) / 1000
    return answers, Drive(len(answers), wall, call.server.cpu_us() - cpu, latencies)


class Connected(ExitStack):
    """Connections by call, which stay open until the end."""

    def __init__(self) -> None:
        """Begin without any."""
        super().__init__()
        self._opened: dict[tuple[str, Call], Any] = {}

    def once(self, kind: str, call: Call, make: Callable[[], Any]) -> Any:
        """Return what was made for a call, made at its first drive."""
        key = (kind, call)
        if key not in self._opened:
            self._opened[key] = self.enter_context(make())
        return self._opened[key]


class Stub(Connected):
    """Drives a method by a bare stub of grpc, with messages that were made before. Use it as a context."""

    def drive(self, call: Call, load: Load, count: int) -> Drive:
        """Make ``count`` calls one after the other and hold every answer. Raises WrongDecision."""
        opened = self.once("stub", call, lambda: channel(call.targets[0]))
        # The echo's answer is no message.
        ours = call.method.startswith(AUTHORIZATION)
        ask = opened.unary_unary(
            call.method, pb.CheckRequest.SerializeToString, pb.CheckResponse.FromString if ours else None
        )
        headers = metadata(call)

        def asking(message: pb.CheckRequest) -> Callable[[], Any]:
            return lambda: ask(message, timeout=CALL_SECONDS, metadata=headers)

        messages = [pb.CheckRequest.FromString(each) for each in call.requests]
        answers, drive = one_by_one(call, [asking(each) for each in islice(cycle(messages), count)])
        call.require([each.SerializeToString() for each in answers] if ours else answers)
        return drive


class ClientChecks(Connected):
    """Drives ``Client.check``. Use it as a context."""

    def drive(self, call: Call, load: Load, count: int) -> Drive:
        """Make ``count`` checks one after the other and hold every answer. Raises WrongDecision."""
        client = self.once(
            "client",
            call,
            lambda: Client(call.targets[0].address, call.credential, timeout_ms=int(CALL_SECONDS * 1000)),
        )

        def checking(item: pb.CheckItem) -> Callable[[], Any]:
            parts = (item.token, item.action, item.resource, item.arguments)
            return lambda: client.check(*parts)

        items = [pb.CheckRequest.FromString(each).item for each in call.requests]
        answers, drive = one_by_one(call, [checking(each) for each in islice(cycle(items), count)])
        for answer in answers:
            if not answer.allowed:
                raise WrongDecision(f"Client.check: {answer.reason.name}, not allowed")
        return drive


class Ends:
    """Ends sessions one after the other, at the control process. Use it as a context."""

    def __init__(self, home: Home) -> None:
        """Call as an operator."""
        self._client = Client(home.target, home.operators[0], timeout_ms=int(CALL_SECONDS * 1000))

    def __enter__(self) -> Self:
        """Connect at the first call."""
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.close()

    def opened(self, count: int) -> list[bytes]:
        """Open sessions."""

        def one(_: int) -> bytes:
            terms = {"subject": "agent-7", "purpose": "triage", "ceiling": list(CEILING), "ttl_ms": HOUR_MS}
            session: bytes = self._client.open_session(**terms).id  # type: ignore[arg-type]
            return session

        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(one, range(count)))

    def drive(self, call: Call, count: int) -> Drive:
        """End ``count`` sessions that were opened before."""
        return self._drive(call, self.opened(count), lambda: False)

    def drive_while(self, call: Call, count: int, busy: Callable[[], object]) -> Drive:
        """End at most ``count`` sessions while another thread does ``busy()``."""
        sessions = self.opened(count)
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(busy)
            drive = self._drive(call, sessions, running.done)
            running.result()
        return drive

    def _drive(self, call: Call, sessions: Sequence[bytes], over: Callable[[], bool]) -> Drive:
        clock = time.perf_counter_ns
        latencies: list[float] = []
        cpu, begun = call.server.cpu_us(), clock()
        for session in sessions:
            if over():
                break
            started = clock()
            self._client.end(session)
            latencies.append((clock() - started) / 1000)
        wall = (clock() - begun) / 1000
        return Drive(len(latencies), wall, call.server.cpu_us() - cpu, latencies)
