"""Described calls, their endpoint, channels and retries, for both clients.

A call is described once (:class:`RpcRequest`) and run by either transport, so that both clients send the
same bytes and read a failure alike. A retry happens only for a call that may be repeated without doing its
work twice, and within the one deadline: after UNAVAILABLE, at most twice at one server; at one server after
another, as often as there is time, where several are given or no server of a cluster leads.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from ..errors import (
    ConfigError,
    OutcomeUnknown,
    SessauthError,
    StateError,
    StateUnusable,
    Unavailable,
    UsageError,
)
from ._failures import Failure, repeat_hint
from ._target import CHANNEL_OPTIONS, Tls, is_local, resolve_credential, resolve_target, resolve_targets
from ._tracing import carrier

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

    def judge(self, failure: Failure, target: str) -> float | SessauthError:
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
