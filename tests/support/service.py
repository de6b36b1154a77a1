"""Real servers for tests: a home folder, a control process in this one or as a subprocess, callers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from sessauth.clock import Clock
from sessauth.server import config as server_config
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.control import Control
from sessauth.server.process.init import Initialised, initialise
from sessauth.v1 import (
    approval_service_pb2,
    authorization_service_pb2,
    cluster_service_pb2,
    credential_service_pb2,
    cut_off_service_pb2,
    event_service_pb2,
    evidence_service_pb2,
    feed_service_pb2,
    forward_service_pb2,
    identity_service_pb2,
    key_service_pb2,
    session_service_pb2,
    status_service_pb2,
    token_service_pb2,
    usage_service_pb2,
)

MODULES = (
    session_service_pb2,
    token_service_pb2,
    authorization_service_pb2,
    evidence_service_pb2,
    key_service_pb2,
    cluster_service_pb2,
    approval_service_pb2,
    event_service_pb2,
    feed_service_pb2,
    identity_service_pb2,
    credential_service_pb2,
    cut_off_service_pb2,
    forward_service_pb2,
    usage_service_pb2,
    status_service_pb2,
    health_pb2,
)
RPCS = {
    f"/{service.full_name}/{method.name}": method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# "SessionService/OpenSession" for each full name.
SHORT = {name.rpartition(".")[2]: name for name in RPCS}

# Times for what is over by itself: the next one is given where a busy machine did not get to it in the first.
LONGER_MS = (300, 1_200, 4_800)


# A program that serves as ``sessauth serve`` does.
SERVE = (
    "from sessauth.server.config import load; from sessauth.server.process.control import serve; "
    "serve(load())"
)


@dataclass
class RpcError(Exception):
    """A refused call: its code, the word and field of its details, its message."""

    code: grpc.StatusCode
    word: str
    field: str
    message: str


@dataclass
class Caller:
    """Calls one server with one credential."""

    target: str
    credential: str = field(default="", repr=False)
    timeout: float | None = 10.0
    channel_credentials: grpc.ChannelCredentials | None = None
    options: tuple[tuple[str, Any], ...] = ()
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        """Open the channel; each caller has connections of its own."""
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            # A server that was started again is found at once, not after a pause that grew meanwhile.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
            *self.options,
        )
        if self.channel_credentials is None:
            self.channel = grpc.insecure_channel(self.target, options=options)
        else:
            self.channel = grpc.secure_channel(self.target, self.channel_credentials, options=options)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        return (("authorization", f"Bearer {self.credential}"),) if self.credential else ()

    def call(self, rpc: str, request: Any, **options: Any) -> Any:
        """Call ``Service/Method`` with one message; raises :class:`RpcError` if it is refused."""
        try:
            return self.begin(rpc, request, **options).result()
        except grpc.RpcError as error:
            raise read_error(error) from error

    def begin(self, rpc: str, request: Any, **options: Any) -> Any:
        """Begin a call of ``Service/Method``; returns grpc's future of its answer."""
        options = {"timeout": self.timeout, "metadata": self.metadata, **options}
        stub = self.channel.unary_unary(
            SHORT.get(rpc, rpc),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_response(rpc),
        )
        return stub.future(request, **options)

    def stream(self, rpc: str, requests: Iterator[Any], **options: Any) -> Iterator[Any]:
        """Call a streaming ``Service/Method``."""
        options = {"timeout": self.timeout, "metadata": self.metadata, **options}
        stub = self.channel.stream_stream(
            SHORT.get(rpc, rpc),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_response(rpc),
        )
        try:
            yield from stub(requests, **options)
        except grpc.RpcError as error:
            raise read_error(error) from error

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


def _response(rpc: str) -> Callable[[bytes], Any]:
    from google.protobuf import message_factory

    method = RPCS[SHORT.get(rpc, rpc)]
    return message_factory.GetMessageClass(method.output_type).FromString


def read_error(error: Any) -> RpcError:
    """Read the status details of a refused call."""
    word = field_name = ""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                if detail.Unpack(info):
                    word = info.reason
                elif detail.Unpack(request):
                    field_name = request.field_violations[0].field
    return RpcError(error.code(), word, field_name, error.details() or "")


@contextmanager
def home_folder() -> Iterator[Path]:
    """A folder with a short path: a socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="sa-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Service:
    """An initialised home folder, the credentials made for it, and the server in this process."""

    made: Initialised
    control: Control | None = None
    callers: list[Caller] = field(default_factory=list)

    @property
    def operator(self) -> Caller:
        """A caller with the operator's credential."""
        return self.caller(self.made.credential_file.read_text().strip())

    def add(self, name: str, role: str, audiences: tuple[str, ...] = ()) -> Caller:
        """Store a new credential and return a caller with it."""
        file = CredentialFile(self.made.state_dir / "credentials.toml")
        credential = file.add(name, role, audiences)
        if self.control is None or self.control._config.server.workers:
            # A process looks at the file at most once in 200 ms.
            time.sleep(0.25)
        else:
            self.control.reloader._authenticator.read_again()
        return self.caller(credential)

    def caller(self, credential: str = "", **options: Any) -> Caller:
        """Return a caller with that credential, closed with the service."""
        options.setdefault("target", f"unix:{self.made.socket}")
        caller = Caller(credential=credential, **options)
        self.callers.append(caller)
        return caller


@contextmanager
def running(clock: Clock | None = None, **settings: Any) -> Iterator[Service]:
    """A server in this process; ``settings`` are sections of the configuration."""
    with home_folder() as home:
        service = Service(initialise(home))
        config = server_config.from_dict({"home": str(home), **settings})
        service.control = Control(config, clock)
        service.control.start()
        try:
            yield service
        finally:
            for caller in service.callers:
                caller.close()
            service.control.stop()


@dataclass
class ServerProcess:
    """A server as a process of its own, started as ``serve`` starts it."""

    home: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, home: Path, **settings: str) -> ServerProcess:
        """Start it; ``settings`` are environment variables."""
        environment = {**os.environ, "SESSAUTH_HOME": str(home), **settings}
        with (home / "server.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stderr=log)
        return cls(home, process)

    @property
    def log(self) -> str:
        """The log so far."""
        return (self.home / "server.log").read_text("utf-8")

    def terminate(self) -> int:
        """Send SIGTERM and wait; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end; it logged:\n{self.log}") from None

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait until ``condition()`` holds; False if it does not within ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def child_pids(pid: int) -> list[int]:
    """Return the ids of a process's children, in order; none of a process that has gone."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            # A thread may end meanwhile.
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return sorted(found)


def serves(caller: Caller) -> bool:
    """Return True if the health service answers SERVING."""
    try:
        answer = caller.call("Health/Check", health_pb2.HealthCheckRequest(), timeout=2.0)
    except RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
