"""Described calls, their endpoint, channels and retries, for both clients.

A call is described once (:class:`RpcRequest`) and run by either transport, so that both clients send the same
bytes and read a failure alike.

A call is retried only if repeating it can't do its work twice, and only within its one deadline. After
UNAVAILABLE it is retried at most twice at a single server. Where several servers are given, or no server of a
cluster leads, the next server is tried as often as there is time.

A failure becomes one of the package's errors. The server states its reason in ``google.rpc.ErrorInfo`` (a
stable word) and the field in ``google.rpc.BadRequest``; without these the status code alone decides.

A channel is replaced when its certificate files change. OpenTelemetry is imported only where trace context is
requested.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from ..crypto.pem import ClientCredentials
from ..errors import (
    ConfigError,
    IdentityRefused,
    MalformedToken,
    NotExtendable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Rejected,
    ServerError,
    SessauthError,
    StateError,
    StateFull,
    StateUnusable,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UsageError,
)
from ._target import CHANNEL_OPTIONS, Tls, is_local, resolve_credential, resolve_target, resolve_targets

DETAILS_KEY: Final = "grpc-status-details-bin"

# A rejection: the request was understood and breaks a rule. Repeating it changes nothing.
_REJECTING: Final = frozenset(
    {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS}
)
# No answer that counts; the same request may succeed later.
_UNAVAILABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
# The first words of gRPC's message when it found no connection: nothing of the call was sent. With any other
# message the request may have been sent.
_NEVER_SENT: Final = ("failed to connect to all addresses", "errors resolving ", "DNS resolution failed")


class RpcFailure(Protocol):
    """A failed call, blocking or asyncio."""

    def code(self) -> grpc.StatusCode:
        """Return the status code."""

    def details(self) -> str | None:
        """Return the status message."""

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """Return the trailers, which hold the details."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The content of a failed call: code, message, the server's word and field."""

    code: grpc.StatusCode
    message: str
    word: str = ""
    field: str = ""

    @classmethod
    def read(cls, failure: RpcFailure) -> Failure:
        """Read a failed call. Details that can't be parsed are ignored."""
        word, field = "", ""
        message = failure.details() or ""
        for key, value in failure.trailing_metadata() or ():
            if key != DETAILS_KEY or not isinstance(value, bytes):
                continue
            try:
                word, field, described = _read_details(value)
            except DecodeError:
                continue
            message = described or message
        # An error puts the word in front of its message where it belongs there.
        return cls(failure.code(), message.removeprefix(f"{word}: ") if word else message, word, field)

    @property
    def never_sent(self) -> bool:
        """True if there was no connection to send the call on."""
        return (
            self.code is grpc.StatusCode.UNAVAILABLE
            and not self.word
            and self.message.startswith(_NEVER_SENT)
        )

    @property
    def elsewhere(self) -> bool:
        """True if another server may answer well: this one gave no answer, or does not lead."""
        return self.code in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            # By a server that ends: this client cancels no call that it would repeat.
            grpc.StatusCode.CANCELLED,
        )

    @property
    def brief(self) -> str:
        """The server's word and message, or the reason for its silence."""
        if self.word:
            return f"{self.word}: {self.message}"
        return self._last_part() or self.code.name

    def error(
        self, *, target: str, timeout_ms: int, request_id: str = "", sent_before: bool = False
    ) -> SessauthError:
        """Return the error to raise.

        ``request_id`` is named where a change may have been made. ``sent_before``: an earlier attempt of the
        call may have reached a server.
        """
        if self.word == "STATE_FULL":
            return StateFull(self.message)
        if self.word == "OUTCOME_UNKNOWN":
            return OutcomeUnknown(self.message + repeat_hint(request_id))
        if self.word == "STATE_UNUSABLE":
            return StateUnusable(self.message, self.word)
        if self.word == "MALFORMED_TOKEN":
            return MalformedToken(self.message)
        if self.word == "NOT_EXTENDABLE":
            return NotExtendable(self.message)
        if self.word.startswith("IDENTITY_") and self.code not in _UNAVAILABLE:
            return IdentityRefused(self.word, self.message)
        if self.code is grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(
                self.message or "the credential is missing or wrong; see SESSAUTH_CREDENTIAL_FILE", self.word
            )
        if self.code is grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDenied(
                self.message or "the credential's role does not reach that far", self.word
            )
        if self.code is grpc.StatusCode.NOT_FOUND:
            return NotFound(self.message or "not found", self.word, self.field)
        if self.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
            stated = not self.field or self.message.startswith(self.field)
            return UsageError(self.message if stated else f"{self.field}: {self.message}")
        if self.code in _REJECTING:
            return Rejected(self.word or self.code.name, self.message)
        if self.never_sent and not sent_before:
            return Unreachable(
                f"{target} can't be reached ({self._last_part()}), so nothing was done. If no server runs "
                f"there, start one: 'sessauth serve', or 'make serve' in a checkout{_tls_hint(target)}"
            )
        if self.code in _UNAVAILABLE:
            return Unavailable(self._unavailable(target, timeout_ms) + repeat_hint(request_id), self.word)
        return ServerError(f"{self.code.name}: {self.message}", self.word, self.field)

    def _unavailable(self, target: str, timeout_ms: int) -> str:
        if self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not answer within {timeout_ms} ms; raise timeout_ms if that is too short"
        if self.code is grpc.StatusCode.UNAVAILABLE and not self.word:
            outcome = "can't be reached any more" if self.never_sent else "did not answer"
            return f"{target} {outcome} ({self._last_part()})"
        return f"{target} did not serve the call: {self.message or self.code.name}"

    def _last_part(self) -> str:
        # gRPC repeats the address; the last part is the reason.
        return self.message.rpartition(": ")[2]


def unreadable() -> ServerError:
    """Return the error for an answer that is not a message. For one grpc.aio returns None, and grpc fails."""
    return ServerError(f"{grpc.StatusCode.INTERNAL.name}: Exception deserializing response!")


def _tls_hint(target: str) -> str:
    # gRPC reports a failed handshake only as a closed connection.
    if is_local(target):
        return ". If it runs elsewhere, name it: SESSAUTH_HOME or SESSAUTH_TARGET"
    return (
        ". If one does, the handshake of TLS may have failed: see whether it speaks TLS, whether its "
        "certificate is signed by the given CA and names the host, and whether it wants one of the client "
        "(tcp.client_ca)"
    )


def repeat_hint(request_id: str) -> str:
    """Return the end of a message about a change that may have been made; empty without an id."""
    if not request_id:
        return ""
    return f". The change may have been made: repeat it with request_id {request_id!r} to learn its outcome"


def _read_details(value: bytes) -> tuple[str, str, str]:
    word, field, described = "", "", ""
    for detail in Status.FromString(value).details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
            word = info.reason
        elif detail.Is(BadRequest.DESCRIPTOR):
            request = BadRequest()
            detail.Unpack(request)
            if request.field_violations:
                field = request.field_violations[0].field
                described = request.field_violations[0].description
    return word, field, described


Metadata = tuple[tuple[str, str], ...]


def carrier(trace: bool) -> Callable[[Metadata], Metadata] | None:
    """Return a function that adds the current trace (W3C ``traceparent``) to metadata, if ``trace``.

    Raises ConfigError if OpenTelemetry is not installed.
    """
    if not trace:
        return None
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise ConfigError("trace: needs OpenTelemetry; pip install 'sessauth[tracing]'") from None
    propagator = TraceContextTextMapPropagator()

    def carry(metadata: Metadata) -> Metadata:
        carried: dict[str, str] = {}
        propagator.inject(carried)
        return (*metadata, *carried.items())

    return carry


class RenewedChannel:
    """A channel to one target. Any thread may use it."""

    def __init__(
        self, target: str, credentials: ClientCredentials | None, options: Sequence[tuple[str, Any]]
    ) -> None:
        """Make it, in plain text without credentials; nothing connects yet."""
        self.target = target
        self._credentials = credentials
        self._options = options
        self._lock = threading.Lock()
        self._current = self._open()
        # The one before: calls that are under way end there.
        self._former: grpc.Channel | None = None

    @property
    def current(self) -> grpc.Channel:
        """The channel for the next call."""
        if self._credentials is not None and self._credentials.changed():
            with self._lock:
                if self._former is not None:
                    self._former.close()
                self._former, self._current = self._current, self._open()
        return self._current

    def close(self) -> None:
        """Close it, which ends its calls."""
        with self._lock:
            for channel in (self._former, self._current):
                if channel is not None:
                    channel.close()

    def _open(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self.target, self._options)
        credentials = grpc.ssl_channel_credentials(*self._credentials.current)
        return grpc.secure_channel(self.target, credentials, self._options)


T = TypeVar("T")

MAX_RETRIES: Final = 2
# One of several servers is left after its part of the time that is left, but not sooner.
ATTEMPT_S: Final = 1.0
# Between two rounds through several servers, most of them at once, or two questions for the leader.
ROUND_S: Final = (0.1, 0.5)
# A restarting server is back within two seconds or not soon: 50 to 150 ms, then 150 to 450 ms.
RETRY_DELAYS_S: Final = (0.1, 0.3)
MAX_TIMEOUT_MS: Final = 3_600_000


@dataclass(slots=True)
class RpcRequest(Generic[T]):
    """One call to make.

    ``method`` is ``Service/Method``; ``request`` the message, or its bytes for each call of the method.
    ``answer`` is the response message's type, or the function that reads its bytes; ``convert`` makes the
    result from its value. ``repeatable``: the call is idempotent. ``request_id`` is that of a change.
    ``checks``: it goes to the check targets instead of the control target.
    """

    method: str
    # It may hold tokens.
    request: Message | bytes = field(repr=False)
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

    targets: tuple[str, ...]
    check_targets: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    tls: Tls | None

    @property
    def target(self) -> str:
        """The first of the targets."""
        return self.targets[0]

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
    target: str | Path | Sequence[str] | None,
    credential: str | None,
    credential_file: Any,
    tls: Tls | None,
    insecure_tcp: bool,
    check_target: str | Path | Sequence[str] | None,
) -> Endpoint:
    """Return the endpoint for a client's arguments.

    Raises ConfigError when one contradicts another, or would send a credential over plain TCP
    although ``insecure_tcp`` is not set.
    """
    resolved = resolve_targets(target)
    targets = [check_target] if isinstance(check_target, str | Path) else list(check_target or ())
    checks = tuple(resolve_target(each) for each in targets)
    for address in (*resolved, *checks):
        if not is_local(address) and tls is None and not insecure_tcp:
            raise ConfigError(
                f"target: {address} is TCP without TLS, which shows credential and tokens to the network; "
                "give tls=, or insecure_tcp=True if you mean it"
            )
    secret = resolve_credential(credential, credential_file, resolved[0])
    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    return Endpoint(resolved, checks, metadata, tls)


def check_timeout(timeout_ms: int) -> int:
    """Return ``timeout_ms`` if it is a deadline: 1 ms to one hour. Raises UsageError otherwise."""
    if not 1 <= timeout_ms <= MAX_TIMEOUT_MS:
        raise UsageError(f"timeout_ms: {timeout_ms} is not between 1 and {MAX_TIMEOUT_MS}")
    return timeout_ms


class RetryState:
    """The remaining time and retries of one call at ``servers`` targets. One object a call."""

    __slots__ = (
        "_answers",
        "_attempt_s",
        "_call",
        "_ends",
        "_retries",
        "_sent",
        "_servers",
        "_timeout_ms",
        "_unknown",
    )

    def __init__(self, call: RpcRequest[Any], timeout_ms: int, servers: int = 1) -> None:
        """Start the deadline of ``timeout_ms``."""
        self._call = call
        self._timeout_ms = timeout_ms
        self._servers = servers
        self._ends = time.monotonic() + timeout_ms / 1000
        self._retries = 0
        self._sent = False
        self._unknown = False
        self._attempt_s = 0.0
        # The last that each server said; of a silent one the last before, if there is any.
        self._answers: dict[str, str] = {}

    def remaining_s(self) -> float:
        """Return the time of the next attempt, in seconds; at least a millisecond."""
        left = max(0.001, self._ends - time.monotonic())
        if self._servers > 1 and self._call.repeatable:
            left = min(left, max(left / self._servers, ATTEMPT_S))
        self._attempt_s = left
        return left

    def decide(self, failure: Failure, target: str) -> float | SessauthError:
        """Return the delay before the next attempt, in seconds, or the error to raise."""
        self._sent |= not failure.never_sent
        error = failure.error(
            target=target,
            timeout_ms=self._timeout_ms,
            request_id=self._call.request_id,
            sent_before=self._sent,
        )
        if self._unknown and isinstance(error, StateUnusable):
            # The server says that it does nothing now; the outcome of an earlier attempt stays unknown.
            error = OutcomeUnknown(f"{error}{repeat_hint(self._call.request_id)}")
        self._unknown |= failure.word == "OUTCOME_UNKNOWN"
        silent = failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
        if not silent or target not in self._answers:
            said = f"did not answer within {round(1000 * self._attempt_s)} ms" if silent else failure.brief
            self._answers[target] = said
        delay = self._delay(failure, error) if self._call.repeatable else None
        if delay is None or time.monotonic() + delay >= self._ends:
            return self._with_answers(error, target, silent=silent)
        self._retries += 1
        return delay

    def _delay(self, failure: Failure, error: SessauthError) -> float | None:
        """Return the delay before a repetition; None: a repetition is of no use, or not permitted."""
        if failure.word == "ENGINE_FULL":
            # It ends by an operator alone.
            return None
        if self._servers > 1 and failure.elsewhere:
            # A change whose outcome is unknown is repeated by its id.
            safe = failure.word != "OUTCOME_UNKNOWN" or self._call.request_id
            return self._round_delay() if safe else None
        if failure.code is not grpc.StatusCode.UNAVAILABLE or isinstance(error, StateError):
            return None
        if failure.word == "NOT_LEADER":
            return self._round_delay()
        if self._retries >= MAX_RETRIES:
            return None
        return RETRY_DELAYS_S[self._retries] * random.uniform(0.5, 1.5)

    def _round_delay(self) -> float:
        """Return 0 before another server is asked, a growing delay before the first is asked again."""
        rounds, place = divmod(self._retries + 1, self._servers)
        first, longest = ROUND_S
        return 0.0 if place else min(first * 2 ** (rounds - 1), longest) * random.uniform(0.5, 1.5)

    def _with_answers(self, error: SessauthError, target: str, *, silent: bool) -> SessauthError:
        """Add the last answers of the other servers to an error; of its own server too if it was silent."""
        answers = {name: said for name, said in self._answers.items() if silent or name != target}
        if not self._retries or not answers or not isinstance(error, Unavailable | StateError):
            return error
        named = "; ".join(f"{name}: {said}" for name, said in answers.items())
        error.args = (f"{error}. Last answers: {named}",)
        return error


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
    """The control channels and the check channels of an endpoint; checks take turns."""

    def __init__(self, endpoint: Endpoint, module: Any) -> None:
        """Make the channels with ``module``, which is grpc or grpc.aio; nothing connects yet."""
        self.endpoint = endpoint
        self._module = module
        self.controls = [self._open(target) for target in endpoint.targets]
        self.closed = False
        opened = dict(zip(endpoint.targets, self.controls, strict=True))
        self.checks = [opened.get(target) or self._open(target) for target in endpoint.check_targets]
        self._turn = itertools.count()
        # The control channel that served last.
        self._preferred = 0

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
        if checks and self.checks:
            return self.checks[next(self._turn) % len(self.checks)]
        return self.controls[self._preferred]

    def leave(self, handle: ChannelHandle) -> None:
        """Pick the next control channel from now on, if this one failed and is still the one to pick."""
        if self.controls[self._preferred] is handle:
            self._preferred = (self._preferred + 1) % len(self.controls)

    def servers(self, checks: bool) -> int:
        """Return the number of servers that a call may go to; check targets are one host."""
        return 1 if checks and self.checks else len(self.controls)

    def close(self) -> list[ChannelHandle]:
        """Pick none from now on; return every channel once, for the caller to close."""
        self.closed = True
        return [*dict.fromkeys([*self.controls, *self.checks])]


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
