"""RPCs, their handlers, and the state of one call on its way through the interceptors.

Most handlers take and return protobuf messages; those called thousands of times a second take bytes.

Each call has a deadline, and the server has a longest one. A call without a deadline could hold its thread
forever. A call with a longer deadline than the server's cap is cancelled at the cap.

Every call is measured if there are metrics, and logged: changes at INFO, reads and checks at DEBUG. Refusals
are logged at INFO, those of strangers, of missing roles and of full pools at WARNING: at most 50 a second,
the rest is counted. The server's own faults are logged at ERROR with their traceback.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any, Final, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from ...errors import ConfigError
from ..keys.credentials import Principal
from ..log import LOGGER, event
from ..metrics.shared_page import Page
from ..status import CODES, invalid, refused, word_of
from ..transport.rpc import Rpc
from .access import Rule, pool_of

NOBODY = Principal("", "")


@dataclass(slots=True, eq=False)
class CallContext:
    """One call. ``started`` and ``deadline`` are in seconds of the monotonic clock.

    ``deadline`` is 0 until it was checked. ``principal`` is :data:`NOBODY` while the caller is not
    authenticated. ``require_accepted(call)``, which streams have, raises UNAUTHENTICATED once the credential
    is no longer accepted. ``span`` is the state of tracing, None without it. ``authenticated_by`` is the
    table of certificate identities that a caller without an API key was found in. ``session_id`` is the
    session that the message names, empty if none.
    """

    method: str
    rule: Rule
    context: Rpc
    principal: Principal = NOBODY
    started: float = field(default_factory=time.monotonic)
    deadline: float = 0.0
    span: Any = None
    authenticated_by: object = None
    session_id: bytes = b""
    require_accepted: Callable[[CallContext], None] = field(init=False)

    @property
    def remaining(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def raise_if_expired(self) -> None:
        """Raise DEADLINE_EXCEEDED if no one waits for the call any more."""
        if self.remaining <= 0.0 or not self.context.is_active():
            raise refused("DEADLINE_EXCEEDED", "the deadline passed before the call was begun")


M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class RawHandler:
    """Marks a handler of encoded messages; for a stream, of iterators of them."""

    answer: Callable[[Any, CallContext], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its full name, and its handler of encoded messages.

    The handler of a unary RPC takes and returns ``bytes``, that of a stream iterators of ``bytes``. One that
    waits for its change may return a generator that returns the bytes (``finisher.py``).
    """

    name: str
    answer: Callable[[Any, CallContext], Any]


def methods_of(
    service: ServiceDescriptor, answers: Mapping[str, Callable[..., object] | RawHandler]
) -> list[Method]:
    """Pair each RPC of a service with its handler. Raises ConfigError if the two don't match."""
    names = {method.name for method in service.methods}
    if names != set(answers):
        raise ConfigError(
            f"{service.full_name}: {sorted(names ^ set(answers))} have no answer, or are no RPC"
        )
    methods = []
    for method in service.methods:
        answer = answers[method.name]
        if isinstance(answer, RawHandler):
            encoded = answer.answer
        else:
            kind = message_factory.GetMessageClass(method.input_type)
            encoded = (_stream if method.server_streaming else _unary)(kind, answer)
        methods.append(Method(f"/{service.full_name}/{method.name}", encoded))
    return methods


def parse(kind: type[M], data: bytes) -> M:
    """Decode ``data``. Raises INVALID_ARGUMENT if that fails."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid("request", f"is not a {kind.DESCRIPTOR.full_name}") from None


def _unary(kind: type[Message], answer: Callable[..., Any]) -> Callable[[bytes, CallContext], Any]:
    opens_session = kind.DESCRIPTOR.name == "OpenSessionRequest"
    names_session = "session_id" in kind.DESCRIPTOR.fields_by_name

    def encoded(data: bytes, call: CallContext) -> Any:
        message: Any = parse(kind, data)
        if names_session:
            call.session_id = message.session_id
        response = answer(message, call)
        return later(response, call) if type(response) is GeneratorType else response.SerializeToString()

    def later(steps: Generator[Any, Any, Any], call: CallContext) -> Generator[Any, Any, bytes]:
        response = yield from steps
        if opens_session:
            call.session_id = response.session.id
        return bytes(response.SerializeToString())

    return encoded


def _stream(
    kind: type[Message], answer: Callable[..., Any]
) -> Callable[[Iterator[bytes], CallContext], Iterator[bytes]]:
    def encoded(requests: Iterator[bytes], call: CallContext) -> Iterator[bytes]:
        for message in answer((parse(kind, data) for data in requests), call):
            yield message.SerializeToString()

    return encoded


# A stream may be open for an hour; its connection gets a GOAWAY earlier.
MAX_STREAM_SECONDS: Final = 3_600.0
# grpc reports the end of time for a call without a deadline; a stated one is below 10^8 s.
NO_DEADLINE_SECONDS: Final = 1e12


class Deadline:
    """Sets and caps deadlines. :meth:`close` ends its thread."""

    def __init__(self, max_deadline_ms: int) -> None:
        """Cap unary calls at ``max_deadline_ms``."""
        self._cap = max_deadline_ms / 1000
        self._never_capped = min(self._cap, MAX_STREAM_SECONDS)
        # Weak references: most calls end before their cap.
        self._due: list[tuple[float, int, weakref.ref[Rpc]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def judge(self, call: CallContext) -> None:
        """Set the call's deadline. Raises DEADLINE_REQUIRED if it states none."""
        remaining = call.context.time_remaining()
        # A call that waited longer than its deadline is refused by its first raise_if_expired().
        if remaining <= self._never_capped:
            call.deadline = call.started + remaining
            return
        if remaining > NO_DEADLINE_SECONDS:
            raise refused("DEADLINE_REQUIRED", "deadline: state one with the call; none was stated")
        cap = MAX_STREAM_SECONDS if call.rule.streams else self._cap
        call.deadline = call.started + min(remaining, cap)
        if remaining > cap:
            self._cancel_at(call.deadline, call.context)

    def close(self) -> None:
        """End the thread that cancels calls."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _cancel_at(self, when: float, context: Rpc) -> None:
        with self._changed:
            heapq.heappush(self._due, (when, next(self._numbers), weakref.ref(context)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sessauth-deadline", daemon=True)
                self._thread.start()
            elif self._due[0][0] == when:
                # The thread sleeps until the earliest: it need not wake for the others.
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                context = heapq.heappop(self._due)[2]()
            if context is not None and context.is_active():
                context.cancel()


REFUSALS_PER_SECOND: Final = 50
# Faults of the server: their details go to the log, not to the caller.
SERVER_FAULTS: Final = frozenset({"STATE_UNUSABLE", "STATE_FULL", "KEY_FOLDER"})
SESSION_ID_BYTES: Final = 16
STRANGER: Final = "UNAUTHENTICATED"
# Refusals that concern the operator, not only the caller.
OPERATOR_CONCERNS: Final = frozenset(
    {
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "OVERLOADED",
        "CHECKS_AT_WORKERS",
        "IDENTITY_KEYS_UNAVAILABLE",
        "IDENTITY_STREAM_SILENT",
    }
)


class Accounting:
    """Measures and logs calls. The log level is read once: it decides if reads and checks are logged."""

    def __init__(self, meter: Page | None = None) -> None:
        """Begin at 0; ``meter`` observes how long each call took."""
        self._meter = meter
        # Calls that found their pool full, by pool.
        self.overloaded: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._second = 0
        self._logged = 0
        self._suppressed = 0
        # Each call is logged.
        self.verbose = LOGGER.isEnabledFor(logging.DEBUG)

    def success_recorder(self, method: str, rule: Rule) -> Callable[[CallContext], object]:
        """Return a function that records a successful call of ``method``."""
        level = logging.INFO if rule.changes else logging.DEBUG

        def log(call: CallContext) -> None:
            event(level, "call", **self._fields(call, "OK"))

        def pass_by(call: CallContext) -> None:
            """Do nothing."""

        # Checks succeed thousands of times a second: the level is not looked up for each of them.
        record = log if rule.changes or self.verbose else pass_by
        meter = self._meter
        if meter is None:
            return record

        def measure(call: CallContext) -> None:
            record(call)
            meter.observe(method, "OK", time.monotonic() - call.started)

        return measure

    def record_failure(self, call: CallContext, error: BaseException) -> None:
        """Count a call that failed or was refused, and log it."""
        word = word_of(error)
        if word == "OVERLOADED":
            with self._lock:
                self.overloaded[pool_of(call.rule, call.principal.role)] += 1
        if self._meter is not None:
            self._meter.observe(call.method, CODES[word].name, time.monotonic() - call.started)
        if word in SERVER_FAULTS:
            event(logging.ERROR, "unusable", error=str(error), **self._fields(call, word))
        elif word == "INTERNAL":
            LOGGER.error("fault", exc_info=error, extra={"fields": self._fields(call, word)})
        elif self._may_log():
            # A wrong argument concerns its caller alone.
            level = logging.WARNING if word in OPERATOR_CONCERNS else logging.INFO
            why = {"why": str(error)} if word in OPERATOR_CONCERNS else {}
            event(level, "refused", **self._fields(call, word), **why)

    def counts_stranger(self, method: str) -> bool:
        """Count the refusal of a stranger's call, unless it is to be logged: then return False."""
        with self._lock:
            if self._second != int(time.monotonic()) or self._logged < REFUSALS_PER_SECOND:
                return False
            self._suppressed += 1
        if self._meter is not None:
            self._meter.observe(method, CODES[STRANGER].name, 0.0)
        return True

    @staticmethod
    def _fields(call: CallContext, word: str) -> dict[str, object]:
        fields: dict[str, object] = {
            "method": call.method,
            "principal": call.principal.name,
            "outcome": word,
            "ms": round(1000 * (time.monotonic() - call.started), 3),
            "peer": call.context.peer(),
        }
        # It may have any length until the service has checked it.
        if len(call.session_id) == SESSION_ID_BYTES:
            fields["session"] = call.session_id.hex()
        return fields

    def _may_log(self) -> bool:
        second = int(time.monotonic())
        with self._lock:
            suppressed = 0
            if second != self._second:
                suppressed, self._suppressed = self._suppressed, 0
                self._second, self._logged = second, 0
            self._logged += 1
            allowed = self._logged <= REFUSALS_PER_SECOND
            self._suppressed += not allowed
        if suppressed:
            event(logging.INFO, "refusals_not_logged", number=suppressed)
        return allowed
