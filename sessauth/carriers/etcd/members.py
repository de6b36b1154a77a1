"""The members of an etcd cluster: a channel each, and calls that go on to the next member.

gRPC stays with a member that is stopped as long as TCP does. So each call names its member, and has a second.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from ...crypto.pem import ClientCredentials, ClientFiles
from ...state.replication.carrier import CarrierError

ATTEMPT_S: Final = 1.0
HEDGE_S: Final = 0.3
# The time of a call for which the port states none.
PATIENCE_S: Final = 3.0
# The pause between two rounds in which every member failed, most of them at once.
_PAUSE_S: Final = 0.05
MAX_ANSWER_BYTES: Final = 16 << 20
# As messages name them.
_FILES: Final = "the certificate files of etcd's client"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    # Which member a call goes to, and how often, is decided here.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # etcd permits a ping each 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)
_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
# Statements of etcd itself, or of its gRPC, about a request. Others, as a limit of this client, may be about
# an answer: its call took effect.
_BY_ETCD: Final = ("etcdserver: ", "grpc: received message larger than max")
_NO_SPACE: Final = "database space exceeded"
_T = TypeVar("_T")


class CallRefused(CarrierError):
    """etcd refused this attempt, which took no effect; an earlier one may have."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        """Keep the code."""
        super().__init__(detail)
        self.code = code


class NoSpace(CallRefused):
    """etcd reached its quota, and takes no write until its alarm is disarmed."""


class AnswerTooLarge(CarrierError):
    """The answer is above the limit of this client. The effect of the call is unknown."""


class Members:
    """Channels to the members. Any thread may call."""

    def __init__(self, addresses: Sequence[str], files: ClientFiles | None = None) -> None:
        """Prepare channels to ``HOST:PORT``, with TLS by ``files``; without them in plain text.

        Raises ConfigError if the files can't be used, ValueError without an address.
        """
        if not addresses:
            raise ValueError("etcd has at least one member")
        self._addresses = tuple(addresses)
        self._credentials = None if files is None else ClientCredentials(files, _FILES)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._channels = self._open()
        self._preferred = 0

    def _open(self) -> tuple[grpc.Channel, ...]:
        if self._credentials is None:
            return tuple(grpc.insecure_channel(address, _OPTIONS) for address in self._addresses)
        current = grpc.ssl_channel_credentials(*self._credentials.current)
        return tuple(grpc.secure_channel(address, current, _OPTIONS) for address in self._addresses)

    def close(self) -> None:
        """Close the channels. Calls end with CarrierError."""
        with self._lock:
            self._closed.set()
            for channel in self._channels:
                channel.close()

    @property
    def preferred(self) -> int:
        """The position of the member that is asked first."""
        return self._preferred

    def leave(self, member: int) -> None:
        """Ask the next member first, if it was this one."""
        if self._preferred == member:
            self._preferred = (member + 1) % len(self._addresses)

    def pause(self, seconds: float = _PAUSE_S) -> None:
        """Wait, but not once this is closed. Raises CarrierError if it is."""
        if self._closed.wait(max(seconds, 0)):
            raise CarrierError("the carrier is closed")

    def channel(self, member: int) -> grpc.Channel:
        """Return the channel to a member: a new one if the certificate files changed."""
        if self._credentials is not None and self._credentials.changed():
            with self._lock:
                if not self._closed.is_set():
                    before, self._channels = self._channels, self._open()
                    # Calls on them are cancelled, and asked again.
                    for channel in before:
                        channel.close()
        return self._channels[member]

    def ask(
        self,
        method: str,
        request: Message,
        parse: Callable[[bytes], _T],
        patience_s: float | None = None,
        *,
        lost: Callable[[], None] = lambda: None,
    ) -> _T:
        """Call one member after the other until one answers well, for at most ``patience_s``.

        Raises CallRefused if etcd refuses, CarrierError without an answer. ``parse`` raises CarrierError for
        a malformed answer: the next member is asked. ``lost`` is called for each attempt without a good one.
        """
        data = request.SerializeToString()
        end = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        losses = 0
        failure = CarrierError("no time to ask etcd")
        while (left := end - time.monotonic()) > 0:
            self.pause(min(_PAUSE_S, left) if losses and losses % len(self._addresses) == 0 else 0)
            member = self._preferred
            try:
                return parse(self.call(member, method, data, min(ATTEMPT_S, left)))
            except (CallRefused, AnswerTooLarge):
                raise
            except CarrierError as error:
                failure, losses = error, losses + 1
                lost()
                self.leave(member)
        raise failure

    def ask_all(self, method: str, request: Message, parse: Callable[[bytes], _T]) -> list[_T]:
        """Call all members once; return the good answers. Raises CarrierError without one."""
        data = request.SerializeToString()
        answers: queue.SimpleQueue[tuple[int, grpc.Future[bytes]]] = queue.SimpleQueue()
        found, failure = [], CarrierError("no member answered")
        for member in range(len(self._addresses)):
            self._begin(member, method, data, ATTEMPT_S, answers)
        for _ in self._addresses:
            try:
                found.append(parse(self._result(*answers.get())))
            except CarrierError as error:
                failure = error
        if not found:
            raise failure
        return found

    def call(self, member: int, method: str, data: bytes, timeout_s: float = ATTEMPT_S) -> bytes:
        """Call one member. Raises CarrierError."""
        try:
            answer: bytes = self.channel(member).unary_unary(method, bytes, bytes)(data, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self.failure(member, error) from None
        except ValueError:
            raise CarrierError("the channel is closed") from None
        return answer

    def failure(self, member: int, error: grpc.RpcError) -> CarrierError:
        """Return the error of a call as one of the port's."""
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
        details = (error.details() if isinstance(error, grpc.Call) else None) or ""
        text = f"etcd at {self._addresses[member]}: {code.name}: {details[:200]}"
        if code in _REFUSALS and details.startswith(_BY_ETCD):
            return (NoSpace if details.endswith(_NO_SPACE) else CallRefused)(code, text)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return AnswerTooLarge(text)
        return CarrierError(text)

    def ask_hedged(self, method: str, request: Message, parse: Callable[[bytes], _T]) -> _T:
        """Call one member, and the next one as well once all that were called are silent for 300 ms.

        The first good answer counts. Raises as :meth:`ask`.
        """
        data = request.SerializeToString()
        end = time.monotonic() + PATIENCE_S
        answers: queue.SimpleQueue[tuple[int, grpc.Future[bytes]]] = queue.SimpleQueue()
        running: dict[int, grpc.Future[bytes]] = {}
        lost = CarrierError("no time to ask etcd")
        member, losses, next_at = self._preferred, 0, 0.0
        try:
            while (now := time.monotonic()) < end:
                if now >= next_at and member not in running:
                    self.pause(0)
                    running[member] = self._begin(member, method, data, min(ATTEMPT_S, end - now), answers)
                    member, next_at = (member + 1) % len(self._addresses), now + HEDGE_S
                until = min(end, next_at) if member not in running else end
                try:
                    at, future = answers.get(timeout=max(until - time.monotonic(), 0))
                except queue.Empty:
                    continue
                running.pop(at, None)
                try:
                    answer = parse(self._result(at, future))
                except (CallRefused, AnswerTooLarge):
                    raise
                except CarrierError as error:
                    lost, losses = error, losses + 1
                    next_at = time.monotonic() + (0 if losses % len(self._addresses) else _PAUSE_S)
                    self.leave(at)
                    continue
                self._preferred = at
                return answer
        finally:
            for future in running.values():
                future.cancel()
        raise lost

    def _begin(
        self,
        member: int,
        method: str,
        data: bytes,
        timeout_s: float,
        answers: queue.SimpleQueue[tuple[int, grpc.Future[bytes]]],
    ) -> grpc.Future[bytes]:
        try:
            future: grpc.Future[bytes] = (
                self.channel(member).unary_unary(method, bytes, bytes).future(data, timeout=timeout_s)
            )
        except ValueError:
            raise CarrierError("the channel is closed") from None
        future.add_done_callback(lambda done: answers.put((member, done)))
        return future

    def _result(self, member: int, future: grpc.Future[bytes]) -> bytes:
        try:
            return future.result()
        except grpc.RpcError as error:
            raise self.failure(member, error) from None
        except grpc.FutureCancelledError:
            raise CarrierError("the channel is closed") from None
