from __future__ import annotations

import socket
import stat
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from sessauth.errors import ConfigError
from sessauth.server import config as server_config
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.rpc.access import RULES
from sessauth.server.rpc.call import CallContext, Deadline
from sessauth.server.transport.native import NativeServer, Receiving, bind_tcp, bind_unix
from sessauth.server.transport.rpc import Rpc
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import (
    SHORT,
    Caller,
    RpcError,
    Service,
    home_folder,
    read_error,
    running,
    serves,
    wait_until,
)
from tests.support.watching import mint, open_session


def _check(token: tokens.MintResponse, **fields: bytes) -> checks.CheckRequest:
    item = {"token": token.token.encode(), "action": b"read", "resource": b"files/a/x", **fields}
    return checks.CheckRequest(item=checks.CheckItem(**item), audience="gw")


class _Context:
    """A call's context that has time left and notes that it was cancelled."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cancelled = threading.Event()

    def time_remaining(self) -> float:
        return self.seconds

    def is_active(self) -> bool:
        return not self.cancelled.is_set()

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_call_without_a_deadline_is_refused(operator: Caller, token: tokens.MintResponse) -> None:
    """Every RPC needs a deadline: the word says so."""
    with pytest.raises(RpcError) as refused:
        operator.call("AuthorizationService/Check", _check(token), timeout=None)

    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.INVALID_ARGUMENT, "DEADLINE_REQUIRED")


@pytest.mark.slow
def test_a_call_whose_message_does_not_come_ends_with_a_clear_status() -> None:
    """It holds no place, others are answered meanwhile, and it is refused after ``limits.receive_ms``."""
    with running(limits={"receive_ms": 500, "read_threads": 2, "queue_places": 8}) as service:
        operator = service.operator
        assert service.control is not None
        closing = threading.Event()

        def nothing() -> Iterator[bytes]:
            closing.wait(30)
            yield from ()

        rpc = operator.channel.stream_unary(SHORT["SessionService/ListSessions"])
        held = [rpc.future(nothing(), timeout=3600, metadata=operator.metadata) for _ in range(3)]
        operator.call("SessionService/ListSessions", sessions.ListSessionsRequest())

        for call in held:
            refused = read_error(call.exception(timeout=10))
            assert (refused.code, refused.word) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
            assert "limits.receive_ms" in refused.message
        assert service.control.serving.pools["read"].in_flight == 0
        closing.set()


def test_a_call_without_a_message_is_the_callers_mistake(operator: Caller) -> None:
    """A client that ends its messages before the first one is told that one is needed."""
    rpc = operator.channel.stream_unary(SHORT["SessionService/ListSessions"])

    with pytest.raises(grpc.RpcError) as refused:
        rpc(iter(()), timeout=5, metadata=operator.metadata)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "one message is needed" in str(refused.value.details())


def test_bytes_that_are_no_message_are_the_callers_mistake(operator: Caller) -> None:
    """A request that can't be parsed is INVALID_ARGUMENT, not a fault of the server."""
    rpc = operator.channel.unary_unary(SHORT["AuthorizationService/Check"])

    with pytest.raises(grpc.RpcError) as refused:
        rpc(b"\xff\xff\xff", timeout=5, metadata=operator.metadata)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_method_is_unimplemented(operator: Caller) -> None:
    """A method that is not served is UNIMPLEMENTED, with or without a credential."""
    rpc = operator.channel.unary_unary("/sessauth.v1.SessionService/DropEverything")

    with pytest.raises(grpc.RpcError) as refused:
        rpc(b"", timeout=5)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_beyond_the_limit_is_refused_and_others_are_served(
    service: Service, operator: Caller, token: tokens.MintResponse
) -> None:
    """13 MiB is RESOURCE_EXHAUSTED; the same connection and another one go on."""
    request = _check(token, arguments=b"x" * (13 << 20))
    other = service.operator

    with pytest.raises(RpcError) as refused:
        operator.call("AuthorizationService/Check", request)

    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for caller in (operator, other):
        assert caller.call("AuthorizationService/Check", _check(token)).decision.allowed


@pytest.mark.parametrize("size", [17_000, 64_000])
def test_metadata_beyond_the_limit_is_refused(
    operator: Caller, token: tokens.MintResponse, size: int
) -> None:
    """Metadata over 16 KiB ends the call; the next one is served."""
    metadata = (*operator.metadata, ("x-large", "m" * size))

    with pytest.raises(RpcError) as refused:
        operator.call("AuthorizationService/Check", _check(token), metadata=metadata)

    assert refused.value.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
    assert operator.call("AuthorizationService/Check", _check(token)).decision.allowed


def test_folders_and_socket_have_their_modes(service: Service) -> None:
    """keys/ 0700, state/ 0750, run/ 0750, the socket 0660, the operator's credential 0600."""
    made = service.made

    def mode(path: object) -> int:
        return stat.S_IMODE(made.home.joinpath(str(path)).stat().st_mode)

    assert (mode("keys"), mode("state"), mode("run")) == (0o700, 0o750, 0o750)
    assert mode("run/sessauth.sock") == 0o660
    assert mode("operator.credential") == 0o600


def test_init_overwrites_nothing(service: Service) -> None:
    """A folder that was initialised is refused, and its credential still works."""
    before = service.made.credential_file.read_bytes()

    with pytest.raises(ConfigError, match="initialised before"):
        initialise(service.made.home)

    assert service.made.credential_file.read_bytes() == before


def test_an_init_that_was_cut_off_is_taken_up_again() -> None:
    """Folders, state and key of an init without its last steps are kept, and the same key is used."""
    with home_folder() as home:
        first = initialise(home)
        first.credential_file.unlink()
        (first.state_dir / "credentials.toml").unlink()

        second = initialise(home)

        assert second.key_id == first.key_id
        assert len(list(second.keys_dir.glob("*.pem"))) == 1
        control = Control(server_config.load(home, {}))
        assert [key.id for key in control.writer.keys()] == [first.key_id]
        control.stop()


@pytest.mark.slow
def test_half_a_preface_is_not_waited_for(service: Service) -> None:
    """A connection that does not finish its handshake is closed by the server."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.settimeout(20)
        slow.connect(str(service.made.socket))
        slow.sendall(b"PRI * HT")
        while slow.recv(4096):
            continue
        # recv gave nothing: closed, not timed out.
        assert slow.fileno() >= 0


def test_a_braked_state_denies_and_refuses_changes(operator: Caller, token: tokens.MintResponse) -> None:
    """While the brake is engaged checks are denied, changes refused, and the server is not ready."""
    with running() as service:
        caller = service.operator
        assert service.control is not None
        opened = open_session(caller)
        minted = mint(caller, opened.id)
        assert caller.call("AuthorizationService/Check", _check(minted)).decision.allowed

        service.control.writer._brake.engage("a test")

        decision = caller.call("AuthorizationService/Check", _check(minted)).decision
        assert decision.reason == checks.REASON_STATE_BRAKED
        with pytest.raises(RpcError) as refused:
            caller.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=opened.id))
        assert (refused.value.code, refused.value.word) == (grpc.StatusCode.UNAVAILABLE, "STATE_UNUSABLE")
        assert "a test" not in refused.value.message
        assert wait_until(lambda: not serves(caller))

        service.control.writer.clear_brake()
        assert caller.call("AuthorizationService/Check", _check(minted)).decision.allowed
        assert wait_until(lambda: serves(caller))


def test_a_change_whose_answer_was_missed_is_learnt_by_its_id() -> None:
    """A change that outlasts its deadline is durable or not; its request id tells which."""
    with running() as service:
        caller = service.operator
        assert service.control is not None
        request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
        session_id = caller.call("SessionService/OpenSession", request).session.id
        blocked, release = threading.Event(), threading.Event()

        def slow_disk(jobs: int) -> None:
            blocked.set()
            release.wait(30)

        service.control.writer.on_fsync = slow_disk
        end = sessions.EndSessionRequest(request_id="end-1", session_id=session_id)
        with pytest.raises(RpcError) as missed:
            caller.call("SessionService/EndSession", end, timeout=0.5)
        assert blocked.is_set()
        service.control.writer.on_fsync = None
        release.set()

        assert missed.value.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        answer = caller.call("SessionService/EndSession", end)
        assert answer.session.revision == answer.revision
        with pytest.raises(RpcError) as again:
            caller.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
        assert again.value.word == "ALREADY_ENDED"


def test_a_stale_socket_is_replaced_and_a_file_is_not() -> None:
    """A socket that nobody listens on is replaced; anything else in its place stops the server."""
    with home_folder() as home:
        made = initialise(home)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(made.socket))
        control = Control(server_config.load(home, {}))
        control.start()
        caller = Caller(f"unix:{made.socket}")
        assert wait_until(lambda: serves(caller))
        caller.close()
        control.stop()
        assert not made.socket.exists()

        made.socket.write_text("in the way")
        with pytest.raises(ConfigError, match="in the way"):
            Control(server_config.load(home, {}))
        assert made.socket.read_text() == "in the way"


def test_a_socket_in_use_is_left_alone() -> None:
    """A path that another server listens on is refused, and that server keeps it."""
    with home_folder() as home:
        made = initialise(home)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(made.socket))
            other.listen()
            with pytest.raises(ConfigError, match="another server"):
                Control(server_config.load(home, {}))
            assert made.socket.exists()


def test_a_socket_that_took_the_place_of_a_stopping_server_stays(tmp_path: Path) -> None:
    """A server that still ends its calls removes no file of the one that listens there now."""
    path = tmp_path / "check-0.sock"
    first, second = (
        NativeServer(lambda rpc: None, Receiving(1_000), slow_reader_seconds=1.0) for _ in range(2)
    )
    bind_unix(first, path)
    first.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.connect(str(path))
        ended = first.stop(1.0)
        bind_unix(second, path)
        assert not ended.is_set()
    assert ended.wait(10)
    first.stop(0.0)

    assert path.exists()
    second.stop(0.0)
    assert not path.exists()


def test_health_says_what_is_ready(service: Service) -> None:
    """Each service and the whole are SERVING; an unknown one is NOT_FOUND; Watch tells the first status."""
    caller = service.caller()
    names = ["", "sessauth.v1.AuthorizationService", "sessauth.v1.SessionService"]

    for name in names:
        answer = caller.call("Health/Check", health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(RpcError) as unknown:
        caller.call("Health/Check", health_pb2.HealthCheckRequest(service="nothing"))
    assert unknown.value.code is grpc.StatusCode.NOT_FOUND
    watch = service.operator.stream("Health/Watch", iter([health_pb2.HealthCheckRequest()]))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING


def test_without_an_active_key_the_server_is_not_ready() -> None:
    """Readiness needs an issuer key that is active and here; retiring the only one ends it."""
    from sessauth.v1 import key_service_pb2 as keys

    with running() as service:
        caller = service.operator
        assert serves(caller)
        caller.call("KeyService/RetireKey", keys.RetireKeyRequest(key_id=service.made.key_id))

        assert wait_until(lambda: not serves(caller))


def test_restart_keeps_state_and_request_ids() -> None:
    """Sessions, revocations and the outcome of a request id are there after a restart."""
    with home_folder() as home:
        made = initialise(home)
        request = sessions.OpenSessionRequest(request_id="r-1", subject="s", ceiling=["read:files/**"])
        opened: list[Message] = []
        for _ in range(2):
            control = Control(server_config.load(home, {}))
            control.start()
            caller = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
            opened.append(caller.call("SessionService/OpenSession", request))
            caller.close()
            control.stop()

    assert opened[0] == opened[1]


def test_a_call_that_ended_is_not_kept_until_its_cap() -> None:
    """A deadline beyond the cap costs nothing once its call has ended; an earlier one is still kept."""
    deadline = Deadline(max_deadline_ms=60_000)
    ended, hanging = _Context(3_600.0), _Context(3_600.0)
    rule = RULES["/sessauth.v1.AuthorizationService/Check"]
    gone = weakref.ref(ended)

    deadline.judge(CallContext("Check", rule, cast("Rpc", ended)))
    del ended
    sooner = CallContext("Check", rule, cast("Rpc", hanging))
    sooner.started -= 59.9
    deadline.judge(sooner)

    assert gone() is None
    assert hanging.cancelled.wait(10)
    deadline.close()


def test_a_start_without_its_tcp_port_leaves_no_socket() -> None:
    """Sockets bound before the port that is in use are removed."""
    with home_folder() as home, socket.socket() as taken:
        made = initialise(home)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (home / "sessauth.toml").write_text(f'[tcp]\naddress = "{address}"\ninsecure_tcp = true\n')

        config = server_config.load(home, {})
        with pytest.raises(
            ConfigError, match=r"^tcp\.address: .* can't be listened on: Address already in use"
        ):
            Control(config)

        assert not made.socket.exists()
        # A worker's address is another setting.
        server = NativeServer(lambda rpc: None, Receiving(1_000), slow_reader_seconds=1.0)
        with pytest.raises(ConfigError, match=r"^tcp\.check_address: .*: Address already in use"):
            bind_tcp(server, config, address, "tcp.check_address")
