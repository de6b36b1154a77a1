"""One host's report to the leader of its cluster: sent by the host, and read as it came over the network.

Each report has the host's whole sums of the sessions that changed. Sums without an answer are sent again,
with their values of that time.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ... import limits
from ...client._usage_messages import (
    MAX_COUNT,
    MAX_NAME_BYTES,
    late_message,
    read_late,
    read_session,
    session_message,
)
from ...clock import Clock
from ...errors import UsageError
from ...usage.session_usage import UseAfterEnd
from ...v1 import usage_service_pb2 as pb
from ..events import UsesAfterEnd
from ..periodic import Background
from .store import MAX_VERIFIERS, UsageStore

RUN_BYTES: Final = 16
SESSION_BYTES: Final = 16
MAX_SESSIONS: Final = 32
MAX_LATE: Final = 256


@dataclass(frozen=True, slots=True)
class LateUse:
    """Uses after the end of a session (16 bytes) that ``verifier`` reported to ``host``."""

    session_id: bytes
    host: str
    verifier: str
    use: UseAfterEnd


@dataclass(frozen=True, slots=True)
class HostUsageReport:
    """A report of ``host``, with its sums by session id and its late uses."""

    host: str
    message: pb.ReportHostUsageRequest
    sums: dict[bytes, pb.HostSession]
    late: tuple[LateUse, ...]


def read_report(request: pb.ReportHostUsageRequest, latest_ms: int, *, usage: bool) -> HostUsageReport:
    """Read a report; times beyond ``latest_ms`` become that. Without ``usage`` usage records are dropped.

    Raises UsageError that names the field at fault.
    """
    if len(request.run_id) != RUN_BYTES:
        raise UsageError(f"run_id: must be {RUN_BYTES} bytes, not {len(request.run_id)}")
    if request.number < 1:
        raise UsageError("number: begins at 1")
    if len(request.sessions) > MAX_SESSIONS:
        raise UsageError(f"sessions: at most {MAX_SESSIONS}, not {len(request.sessions)}")
    if not 1 <= request.first_late <= MAX_COUNT:
        raise UsageError(f"first_late: is not between 1 and {MAX_COUNT}")
    if len(request.late) > MAX_LATE:
        raise UsageError(f"late: at most {MAX_LATE}, not {len(request.late)}")
    for name in ("since_ms", "usage_since_ms", "lost_first_ms", "lost_last_ms", "run_began_ms"):
        if getattr(request, name) > limits.MAX_TIME_MS:
            raise UsageError(f"{name}: at most {limits.MAX_TIME_MS}")
    sums = [
        _read_sum(f"sessions[{index}]", message, latest_ms, usage=usage)
        for index, message in enumerate(request.sessions)
    ]
    by_id = {each.observation.session_id: each for each in sums}
    if len(by_id) != len(sums):
        raise UsageError("sessions: names a session twice")
    late = tuple(
        _read_late(f"late[{index}]", message, request.host, latest_ms)
        for index, message in enumerate(request.late)
    )
    return HostUsageReport(request.host, request, by_id, late)


def _read_sum(where: str, message: pb.HostSession, latest_ms: int, *, usage: bool) -> pb.HostSession:
    """Return a sum with only the values that were read and verified."""
    observation = read_session(message.observation, f"{where}.observation", latest_ms)
    # Read, so that it is known to be one; encoding it again would cost more than all the rest.
    observation.usage = None
    read = pb.HostSession(observation=session_message(observation))
    if usage:
        read.observation.usage = message.observation.usage
    if len(message.verifiers) > MAX_VERIFIERS:
        raise UsageError(f"{where}.verifiers: at most {MAX_VERIFIERS}")
    for index, each in enumerate(message.verifiers):
        _require_name(f"{where}.verifiers[{index}].name", each.name)
        if max(each.allowed, each.denied) > MAX_COUNT:
            raise UsageError(f"{where}.verifiers[{index}]: a count is above {MAX_COUNT}")
        read.verifiers.add(
            name=each.name,
            allowed=each.allowed,
            denied=each.denied,
            reported_at_ms=min(each.reported_at_ms, latest_ms),
        )
    return read


def _read_late(where: str, message: pb.LateUse, host: str, latest_ms: int) -> LateUse:
    if len(message.session_id) != SESSION_BYTES:
        raise UsageError(f"{where}.session_id: must be {SESSION_BYTES} bytes")
    _require_name(f"{where}.verifier", message.verifier)
    return LateUse(
        message.session_id, host, message.verifier, read_late(message.use, f"{where}.use", latest_ms)
    )


def _require_name(where: str, name: str) -> None:
    if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise UsageError(f"{where}: is 1 to {MAX_NAME_BYTES} bytes")


# A session that changes all the time is sent once in this time; a host without changes reports as often.
RESEND_MS: Final = 10_000
FIRST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 30_000
# The bytes of one report; a single sum may be larger.
MAX_BYTES: Final = 1 << 20
# Late uses that wait for an answer of the leader; further ones are only in the sums.
MAX_LATE_WAITING: Final = 4_096
CLOSING_SECONDS: Final = 1.0


class UsagePassOn:
    """The thread of one host that reports to the leader while it does not lead itself."""

    def __init__(
        self,
        host: str,
        store: UsageStore,
        uses_after_end: UsesAfterEnd,
        send: Callable[[pb.ReportHostUsageRequest], pb.ReportHostUsageResponse],
        is_leading: Callable[[], bool],
        clock: Clock,
        *,
        watchers: Callable[[], int] = lambda: 0,
    ) -> None:
        """Report the sums of ``store`` by ``send``, which may raise anything.

        Late uses at other hosts go to ``uses_after_end``; with ``watchers()`` it asks for them each second.
        """
        self._host = host
        self._store = store
        self._uses_after_end = uses_after_end
        self._send = send
        self._is_leading = is_leading
        self._clock = clock
        self._watchers = watchers
        self._run_id = secrets.token_bytes(RUN_BYTES)
        self._began_ms = clock.now_ms()
        self._number = 0
        self._term_id = b""
        self._late_number = 0
        self._lock = threading.Lock()
        # Sessions to send, those that changed first first, and the time at which they are due.
        self._changed: OrderedDict[bytes, int] = OrderedDict()
        # When sessions were last sent, for as long as they may not be sent again.
        self._sent: OrderedDict[bytes, int] = OrderedDict()
        self._late: list[pb.LateUse] = []
        self._first_late = 1
        self._next_ms = self._last_ms = 0
        self._pause_ms = FIRST_PAUSE_MS
        # The leader has everything.
        self._settled = False
        # The error of the last report; empty if there was none.
        self.problem = ""
        self._background = Background([("usage for the leader", self.step)], "sessauth-usage")

    def start(self) -> None:
        """Begin to report."""
        self._background.start()

    def close(self) -> None:
        """Report the rest, if that is quickly possible, and end."""
        self._background.stop()
        until_ms = self._clock.steady_ms() + int(CLOSING_SECONDS * 1_000)
        self._settled = self._is_leading()
        while not self._settled and self._clock.steady_ms() < until_ms and self._report(closing=True):
            continue

    def mark(self, session_id: bytes) -> None:
        """Have the sum of a session sent, since it changed."""
        with self._lock:
            if session_id not in self._changed:
                sent_ms = self._sent.get(session_id)
                self._changed[session_id] = 0 if sent_ms is None else sent_ms + RESEND_MS

    def on_used_after_end(self, session_id: bytes, verifier: str, use: UseAfterEnd) -> None:
        """Have uses that a verifier of this host observed reported to the leader."""
        late = pb.LateUse(session_id=session_id, verifier=verifier, use=late_message(use))
        with self._lock:
            if len(self._late) < MAX_LATE_WAITING:
                self._late.append(late)

    def step(self) -> None:
        """Send one report, if one is due."""
        now_ms = self._clock.steady_ms()
        if self._is_leading():
            with self._lock:
                # The next leader gets everything.
                self._changed.clear()
                self._first_late += len(self._late)
                self._late.clear()
                self._term_id = b""
            return
        if now_ms < self._next_ms and not self._late:
            return
        with self._lock:
            due = any(at_ms <= now_ms for at_ms in self._changed.values())
        if due or self._late or self._watchers() or now_ms - self._last_ms >= RESEND_MS:
            self._report()

    def _report(self, *, closing: bool = False) -> bool:
        """Send a report; returns False if it was not answered."""
        now_ms = self._clock.steady_ms()
        request = self._request(now_ms, closing=closing)
        try:
            answer = self._send(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is sent again
            self.problem = str(error) or type(error).__name__
            self._pause_ms = min(2 * self._pause_ms, LONGEST_PAUSE_MS)
            self._next_ms = now_ms + self._pause_ms
            self._mark_again(*(part.observation.session_id for part in request.sessions))
            return False
        self.problem = ""
        self._last_ms, self._pause_ms = now_ms, FIRST_PAUSE_MS
        self._next_ms = now_ms + min(answer.pause_ms, LONGEST_PAUSE_MS)
        self._answered(request, answer, now_ms)
        return True

    def _request(self, now_ms: int, *, closing: bool) -> pb.ReportHostUsageRequest:
        self._number += 1
        request = pb.ReportHostUsageRequest(host=self._host, run_id=self._run_id, number=self._number)
        request.run_began_ms = self._began_ms
        self._store.describe(request)
        with self._lock:
            due = [each for each, at_ms in self._changed.items() if closing or at_ms <= now_ms]
            request.first_late = self._first_late
            request.late.extend(self._late[:MAX_LATE])
        size = request.ByteSize()
        for session_id in due[:MAX_SESSIONS]:
            with self._lock:
                # From here on a change marks it again.
                self._changed.pop(session_id, None)
                self._sent[session_id] = now_ms
                self._sent.move_to_end(session_id)
            part = self._store.sum_of(session_id)
            if part is None:
                continue
            size += part.ByteSize()
            if request.sessions and size > MAX_BYTES:
                self._mark_again(session_id)
                break
            request.sessions.append(part)
        with self._lock:
            request.waiting = sum(closing or at_ms <= now_ms for at_ms in self._changed.values())
        request.last = closing and not request.waiting
        request.term_id, request.after_late_number = self._term_id, self._late_number
        return request

    def _mark_again(self, *session_ids: bytes) -> None:
        """Have sessions sent that were not, before others."""
        with self._lock:
            for session_id in session_ids:
                self._sent.pop(session_id, None)
                self._changed[session_id] = 0
                self._changed.move_to_end(session_id, last=False)

    def _answered(
        self, request: pb.ReportHostUsageRequest, answer: pb.ReportHostUsageResponse, now_ms: int
    ) -> None:
        with self._lock:
            self._first_late += len(request.late)
            del self._late[: len(request.late)]
            while self._sent and next(iter(self._sent.values())) + RESEND_MS <= now_ms:
                self._sent.popitem(last=False)
        is_new_term = answer.term_id != self._term_id
        self._settled = not is_new_term and not request.waiting
        self._late_number, self._term_id = answer.late_number, answer.term_id
        if is_new_term:
            sent = {part.observation.session_id for part in request.sessions}
            everything = [each for each in self._store.session_ids() if each not in sent]
            with self._lock:
                for session_id in everything:
                    self._changed[session_id] = 0
            # The next report says that everything came.
            self._last_ms = now_ms - RESEND_MS
        self._publish(answer.late)

    def _publish(self, late: Sequence[pb.LateUse]) -> None:
        for each in late:
            if each.host != self._host:
                self._uses_after_end.on_used_after_end(
                    each.session_id, f"{each.host}/{each.verifier}", read_late(each.use), counted=False
                )
