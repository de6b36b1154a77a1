"""Two servers over one state in this process: one answers checks on its loop, the other by threads alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from sessauth.clock import SystemClock
from sessauth.server.config import Config
from sessauth.server.metrics.service import Publisher
from sessauth.server.metrics.shared_page import Page
from sessauth.server.process.control import Control
from sessauth.server.process.recorder import ServerRecorder
from sessauth.server.rpc.authenticate import Authenticator, FailedSignatures
from sessauth.server.rpc.call import methods_of
from sessauth.server.rpc.grpc_server import Serving
from sessauth.server.services.authorization import AuthorizationService
from sessauth.server.services.health import HealthService
from sessauth.server.watch import Watching
from sessauth.server.writer.remote import Forwarder, RemoteWriter
from sessauth.state.host.proof_keys import ProofReader
from sessauth.v1 import authorization_service_pb2 as pb
from sessauth.verifier.verifier import Verifier
from tests.support.service import SHORT, Service, running

LOOP: Final = "loop"
THREADS: Final = "threads"
ZEROS: Final = bytes(16)
ANSWERS: Final = {
    "Check": pb.CheckResponse,
    "CheckBatch": pb.CheckBatchResponse,
    "CheckStream": pb.CheckStreamResponse,
    "Commit": pb.CommitResponse,
}


@dataclass(frozen=True)
class Outcome:
    """The end of a call for its client: status, trailing metadata and messages, decision ids zeroed."""

    code: str
    message: str
    details: bytes
    metadata: tuple[tuple[str, Any], ...]
    answers: tuple[bytes, ...]


class OneServer:
    """A check worker of this process, with a verifier, failed signatures, metrics and records of its own."""

    def __init__(self, name: str, control: Control, config: Config) -> None:
        """Serve ``check-NAME.sock`` beside the control process's socket."""
        self.name = name
        source = control.writer.source()
        self.verifier = Verifier(source, cache_bytes=config.limits.cache_bytes)
        self.page = Page.make(shared=False)
        self.verifier.counters = self.page.counters
        ProofReader(config.state_dir, self.verifier, lambda _: None).refresh()
        self._recorder = ServerRecorder(config, self.verifier, source, name, SystemClock())
        self._forwarder = Forwarder(config.socket, control._workers.text, None)
        failures = FailedSignatures(
            config.limits.failed_signatures_burst, config.limits.failed_signatures_per_second
        )
        watching = Watching(self.verifier, config.limits)
        service = AuthorizationService(
            self.verifier, source, failures, RemoteWriter(self._forwarder), watching
        )
        descriptor = pb.DESCRIPTOR.services_by_name["AuthorizationService"]
        health = HealthService([descriptor.full_name])
        methods = methods_of(descriptor, service.methods())
        methods += methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"], health.methods())
        direct = None
        if name == LOOP:
            direct = service.direct_checks(self.page)
        carried = None if control.part.carried is None else control.writer.source()
        callers = Authenticator.of(config, carried=carried)
        self.serving = Serving(config, methods, authenticator=callers, meter=self.page, direct=direct)
        self.publisher = Publisher(
            self.page, self.verifier, self.serving, watching, self._recorder.audit_numbers
        )
        self.socket = config.socket.with_name(f"check-{name}.sock")
        self.serving.bind_unix(self.socket)
        self._recorder.start()
        self.serving.start()
        health.set_ready(True)

    @property
    def answered(self) -> int:
        """The number of calls that were answered on the loop."""
        return self.serving.loop.answered

    def finish_records(self) -> None:
        """Write all decisions so far to the audit files; later ones are not recorded."""
        self._recorder.close()

    def close(self) -> None:
        """End everything."""
        self.serving.stop(0)
        self._recorder.close()
        self._forwarder.close()


@dataclass
class Client:
    """A caller of both servers, with one credential."""

    credential: str
    channels: Mapping[str, grpc.Channel]

    def on(self, server: str, rpc: str, *requests: bytes, **options: Any) -> Outcome:
        """Call a ``Service/Method`` of one server with encoded messages."""
        options.setdefault("metadata", [("authorization", f"Bearer {self.credential}")])
        options.setdefault("timeout", 20.0)
        path = SHORT.get(rpc, rpc)
        streams = rpc.endswith(("CheckStream", "Watch"))
        channel = self.channels[server]
        call: Any
        try:
            if streams:
                call = channel.stream_stream(path)(iter(requests), **options)
                answers = tuple(call)
            else:
                answer, call = channel.unary_unary(path).with_call(requests[0], **options)
                answers = (answer,)
        except grpc.RpcError as error:
            call, answers = error, ()
        metadata = [(entry.key, entry.value) for entry in call.trailing_metadata() or ()]
        details = next((value for key, value in metadata if key == "grpc-status-details-bin"), b"")
        return Outcome(
            call.code().name,
            call.details() or "",
            details,
            tuple(sorted(entry for entry in metadata if entry[1] is not details)),
            tuple(zero_ids(rpc.rpartition("/")[2], answer) for answer in answers),
        )

    def assert_same(self, rpc: str, *requests: bytes, **options: Any) -> Outcome:
        """Call both servers, and hold that they end the call alike; returns the outcome."""
        expected = self.on(THREADS, rpc, *requests, **options)
        outcome = self.on(LOOP, rpc, *requests, **options)
        assert outcome == expected, [base64.b64encode(request[:400]) for request in requests]
        return outcome


def zero_ids(name: str, data: bytes) -> bytes:
    """Return an encoded answer with zeros in place of its decisions' ids."""
    if name not in ANSWERS:
        return data
    message: Any = ANSWERS[name].FromString(data)
    for decision in message.decisions if name == "CheckBatch" else [message.decision]:
        if decision.decision_id:
            data = data.replace(decision.decision_id, ZEROS)
    return data


@dataclass
class BothServers:
    """The control process that changes the state, and both servers."""

    service: Service
    control: Control
    servers: Mapping[str, OneServer]
    _channels: list[grpc.Channel] = field(default_factory=list)

    @property
    def on_loop(self) -> OneServer:
        """The server that answers checks on its loop."""
        return self.servers[LOOP]

    def client(self, credential: str = "", options: Sequence[tuple[str, Any]] = ()) -> Client:
        """Return a client with connections of its own."""
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1), *options]
        channels = {
            name: grpc.insecure_channel(f"unix:{server.socket}", options=own)
            for name, server in self.servers.items()
        }
        self._channels += channels.values()
        return Client(credential, channels)

    def close(self) -> None:
        """End both."""
        for channel in self._channels:
            channel.close()
        for server in self.servers.values():
            server.close()


@contextmanager
def loop_and_threads(**settings: dict[str, Any]) -> Iterator[BothServers]:
    """Run a control process in this process, and both servers over its state."""
    with running(**settings) as service:
        control = service.control
        assert control is not None
        config = replace(control._config)
        both = BothServers(
            service, control, {name: OneServer(name, control, config) for name in (LOOP, THREADS)}
        )
        try:
            yield both
        finally:
            both.close()
