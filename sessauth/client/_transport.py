"""Described calls, their endpoint, channels and retries, for both clients.

A call is described once (:class:`RpcRequest`) and run by either transport, so that both clients send the
same bytes and read a failure alike. A retry happens only after UNAVAILABLE, only for a call
that may be repeated without doing its work twice, at most twice, and within the one deadline.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from ..errors import ConfigError, SessauthError, StateError, UsageError
from ._failures import Failure
from ._target import CHANNEL_OPTIONS, Tls, is_local, resolve_credential, resolve_target
from ._tracing import carrier

T = TypeVar("T")

MAX_RETRIES: Final = 2
# A restarting server is back within two seconds or not soon: 50 to 150 ms, then 150 to 450 ms.
RETRY_DELAYS_S: Final = (0.1, 0.3)
MAX_TIMEOUT_MS: Final = 3_600_000


@dataclass(slots=True)
class RpcRequest(Generic[T]):
    """One call to make.

    ``method`` is ``Service/Method``; ``request`` the message, or its bytes for each call of the method.
    ``answer`` is the response message's type, or the function that reads its bytes; ``convert`` makes the
    result from what it gives. ``repeatable``: the call is idempotent. ``request_id`` is that of a change.
    ``checks``: it goes to the check targets instead of the control target.
    """

    method: str
    request: Message | bytes
    answer: type[Message] | Callable[[bytes], Any]
    convert: Callable[[Any], T]
    repeatable: bool = True
    request_id: str = ""
    checks: bool = False

    @property
    def path(self) -> str:
        """The gRPC path."""
        return f"/sessauth.v1.{self.method}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The resolved end of a client's calls: targets, metadata, channel credentials."""

    target: str
    check_targets: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    tls: Tls | None

    def channel_credentials(self, target: str) -> grpc.ChannelCredentials | None:
        """Return the TLS credentials for ``target``, None for a plain connection."""
        if self.tls is None or is_local(target):
            return None
        authority, key, certificate = self.tls.read()
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def options(self) -> list[tuple[str, Any]]:
        """Return the channel options."""
        options: list[tuple[str, Any]] = list(CHANNEL_OPTIONS)
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options


def resolve_endpoint(
    target: str | None,
    credential: str | None,
    credential_file: Any,
    tls: Tls | None,
    insecure_tcp: bool,
    check_target: str | Sequence[str] | None,
) -> Endpoint:
    """Return the endpoint for a client's arguments.

    Raises ConfigError when one contradicts another, or would send a credential over plain TCP
    although ``insecure_tcp`` is not set.
    """
    resolved = resolve_target(target)
    targets = [check_target] if isinstance(check_target, str) else list(check_target or ())
    checks = tuple(resolve_target(each) for each in targets) or (resolved,)
    for address in (resolved, *checks):
        if not is_local(address) and tls is None and not insecure_tcp:
            raise ConfigError(
                f"target: {address} is TCP without TLS, which shows credential and tokens to the network; "
                "give tls=, or insecure_tcp=True if you mean it"
            )
    secret = resolve_credential(credential, credential_file, resolved)
    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    return Endpoint(resolved, checks, metadata, tls)


def check_timeout(timeout_ms: int) -> int:
    """Return ``timeout_ms`` if it is a deadline: 1 ms to one hour. Raises UsageError otherwise."""
    if not 1 <= timeout_ms <= MAX_TIMEOUT_MS:
        raise UsageError(f"timeout_ms: {timeout_ms} is not between 1 and {MAX_TIMEOUT_MS}")
    return timeout_ms


class RetryState:
    """The remaining time and retries of one call. One object a call, for either transport."""

    __slots__ = ("_call", "_ends", "_retries", "_sent", "_timeout_ms")

    def __init__(self, call: RpcRequest[Any], timeout_ms: int) -> None:
        """Start the deadline of ``timeout_ms``."""
        self._call = call
        self._timeout_ms = timeout_ms
        self._ends = time.monotonic() + timeout_ms / 1000
        self._retries = 0
        self._sent = False

    def remaining_s(self) -> float:
        """Return the rest of the deadline, in seconds; at least a millisecond."""
        return max(0.001, self._ends - time.monotonic())

    def judge(self, failure: Failure, target: str) -> float | SessauthError:
        """Return the delay before the next attempt, in seconds, or the error to raise."""
        self._sent |= not failure.never_sent
        error = failure.error(
            target=target,
            timeout_ms=self._timeout_ms,
            request_id=self._call.request_id,
            sent_before=self._sent,
        )
        if failure.code is not grpc.StatusCode.UNAVAILABLE or isinstance(error, StateError):
            return error
        if not self._call.repeatable or self._retries >= MAX_RETRIES:
            return error
        delay = RETRY_DELAYS_S[self._retries] * random.uniform(0.5, 1.5)
        if time.monotonic() + delay >= self._ends:
            return error
        self._retries += 1
        return delay


class ChannelHandle:
    """One channel with its target, and the callables made on it, one a method."""

    def __init__(self, target: str, channel: Any) -> None:
        """Wrap ``channel``, a sync or an asyncio one."""
        self.target = target
        self.channel = channel
        self._methods: dict[str, Callable[..., Any]] = {}

    def unary(self, call: RpcRequest[Any]) -> Callable[..., Any]:
        """Return the callable for the method of ``call``. Making one costs more than calling it."""
        method = self._methods.get(call.method)
        if method is None:
            request = call.request
            method = self._methods[call.method] = self.channel.unary_unary(
                call.path,
                request_serializer=None if isinstance(request, bytes) else type(request).SerializeToString,
                response_deserializer=getattr(call.answer, "FromString", call.answer),
            )
        return method


class ChannelPool:
    """The control channel and the check channels of an endpoint; checks take turns."""

    def __init__(self, endpoint: Endpoint, module: Any) -> None:
        """Make the channels with ``module``, which is grpc or grpc.aio; nothing connects yet."""
        self.endpoint = endpoint
        self._module = module
        self.control = self._open(endpoint.target)
        self.closed = False
        self.checks = [
            self.control if target == endpoint.target else self._open(target)
            for target in endpoint.check_targets
        ]
        self._turn = itertools.count()

    def _open(self, target: str) -> ChannelHandle:
        credentials = self.endpoint.channel_credentials(target)
        options = self.endpoint.options()
        if credentials is None:
            return ChannelHandle(target, self._module.insecure_channel(target, options=options))
        return ChannelHandle(target, self._module.secure_channel(target, credentials, options=options))

    def pick(self, checks: bool) -> ChannelHandle:
        """Return the channel whose turn it is. Raises UsageError once they are closed."""
        if self.closed:
            raise UsageError("the client is closed; make another one")
        return self.checks[next(self._turn) % len(self.checks)] if checks else self.control

    def close(self) -> list[ChannelHandle]:
        """Pick none from now on; return every channel once, for the caller to close."""
        self.closed = True
        return [self.control, *(handle for handle in self.checks if handle is not self.control)]


class CallMetadata:
    """The metadata of every call of a transport."""

    def __init__(self, endpoint: Endpoint, trace: bool) -> None:
        """Send the endpoint's metadata. Raises ConfigError if ``trace`` needs a package that is missing."""
        self._metadata: Any = endpoint.metadata
        self._carry = carrier(trace)

    @property
    def metadata(self) -> Any:
        """The metadata of a call that is made now, in a form that its transport takes."""
        return self._metadata if self._carry is None else self._carry(self._metadata)
