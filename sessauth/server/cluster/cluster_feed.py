"""Everything that one server of a cluster has for followers: records, barriers, and beats to the engine.

Order of events: a follower registers, and gets no barrier before its row is durable in the cluster's log. Its
streams take records from a buffer, which one thread fills from the engine. A stream that lags further behind
reads the engine itself, and only a few may do so at once. Barriers are for any number of followers: all
waiting ones share the next barrier, and one is under way at a time. The server stores the last barrier
request of each host, and reports these requests in its beats into the engine, with each barrier.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final

from ...clock import Clock
from ...crypto.keys import MessageKey
from ...errors import NotLeader, StateError
from ...model.host import FORMAT, HostApplied, HostRecord, ServerBeat
from ...state import layout
from ...state.lmdb import cluster_rows
from ...state.lmdb.environment import LmdbSource
from ...state.replication import snapshot as snapshot_file
from ...state.replication.carrier import Barrier, CarrierError, CompactedRecords, LogSource
from ...state.writer.state_writer import StateWriter
from ...v1 import feed_service_pb2 as pb
from ..log import event
from ..rpc.authenticate import PeerIdentity
from ..rpc.call import CallContext
from ..rpc.pipeline import Forward
from ..status import refused

# Each takes as much disk as the state, and reads all of it.
MAX_SNAPSHOTS: Final = 4


class Feed:
    """Records and barriers of a source, and snapshots of this server's own folder."""

    def __init__(
        self,
        source: LogSource,
        state: LmdbSource,
        work_dir: Path,
        hosts: FollowedHosts,
        registration: HostRegistration,
    ) -> None:
        """Read ``source`` and ``state``; copies are made in ``work_dir/snapshots``, and removed."""
        self._source = source
        self._state = state
        self._work_dir = work_dir / "snapshots"
        # Copies that were left by a kill.
        shutil.rmtree(self._work_dir, ignore_errors=True)
        self._places = threading.BoundedSemaphore(MAX_SNAPSHOTS)
        self.records = RecentRecords(source)
        self.barriers = SharedBarriers(source)
        self.hosts = hosts
        self.registration = registration
        # Checks the connections of hosts.
        self.parts = PeerIdentity()

    @contextmanager
    def snapshot(self) -> Iterator[tuple[pb.SnapshotHeader, IO[bytes]]]:
        """Copy the state; give its header and its data file, open at the beginning.

        Raises OVERLOADED if too many are in progress, ENGINE_UNREACHABLE if the record of the copy
        can't be read, and StateError.
        """
        if not self._places.acquire(blocking=False):
            raise refused("OVERLOADED", f"{MAX_SNAPSHOTS} snapshots are under way; retry later")
        try:
            self._work_dir.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._work_dir) as name:
                folder = Path(name)
                number = snapshot_file.copy(self._state, folder)
                header = pb.SnapshotHeader(number=number, record=self._record(number))
                file = (folder / layout.DATA_FILE).open("rb")
            # The file is readable without its name, and is gone with this process, however that ends.
            with file:
                header.digest = snapshot_file.digest(file)
                header.bytes = file.tell()
                file.seek(0)
                yield header, file
        except OSError as error:
            raise StateError(f"{self._work_dir}: no copy could be made ({error}); free some space") from error
        finally:
            self._places.release()

    def close(self) -> None:
        """End the streams and the threads."""
        self.records.close()
        self.barriers.close()

    def _record(self, number: int) -> bytes:
        """Return the record with this number; empty for 0."""
        if not number:
            return b""
        try:
            records = dict(self._source.read(number - 1, 1))
        except (CarrierError, CompactedRecords) as error:
            raise refused("ENGINE_UNREACHABLE", f"record {number} can't be read: {error}") from error
        if number not in records:
            raise refused("ENGINE_UNREACHABLE", f"record {number} can't be read; retry later")
        return records[number]


# A follower that was away for a moment finds the records it missed here.
MAX_RECORDS: Final = 1_024
MAX_BYTES: Final = 16 << 20
PAGE_RECORDS: Final = 64
# Bound of one response; one record may be larger.
RESPONSE_BYTES: Final = 256 << 10
WAIT_MS: Final = 500
PAUSE_SECONDS: Final = 0.1
# Streams that read the engine at once.
READERS: Final = 4


class _LazyThread(ABC):
    """A thread that works on a source, from the first call on until it is closed."""

    def __init__(self, source: LogSource, name: str, purpose: str) -> None:
        self._source = source
        self._name, self._purpose = name, purpose
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _run(self) -> None:
        """Work until it is closed."""

    def close(self) -> None:
        """End the thread, and whatever waits for it."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        with self._changed:
            if self._thread is not None or self._closing.is_set():
                return
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise refused("OVERLOADED", f"no thread to {self._purpose}; retry later") from None
            self._thread = thread


class RecentRecords(_LazyThread):
    """The last records of a source, each encoded as a response of one record."""

    def __init__(self, source: LogSource) -> None:
        """Read nothing yet: the first stream starts the thread."""
        super().__init__(source, "sessauth-feed", "read the log with")
        self._readers = threading.BoundedSemaphore(READERS)
        # By number, without a gap, from ``_begin`` + 1 to ``_end``; -1: not known yet.
        self._records: dict[int, bytes] = {}
        self._bytes = 0
        self._begin = self._end = -1
        # True from a failure of the engine until it can be read again, which is logged once.
        self._unreadable = False

    def next(self, after: int, timeout_seconds: float) -> tuple[bytes, int]:
        """Return an encoded response after ``after``, and the number it reaches; empty after the time-out.

        Raises SHUTTING_DOWN once closed, OVERLOADED if no thread can be started, CompactedRecords if the next
        record is gone, and CarrierError.
        """
        self._start()
        with self._changed:
            self._changed.wait_for(lambda: self._closing.is_set() or self._end > after, timeout_seconds)
            if self._closing.is_set():
                raise refused("SHUTTING_DOWN", "this server is about to end; follow another")
            if self._end <= after:
                return b"", after
            if self._begin <= after:
                return _response(self._records, after, self._end)
        with self._readers:
            page = _page(self._source.read(after, PAGE_RECORDS), after)
        if not page:
            # This member of the engine is behind.
            self._closing.wait(PAUSE_SECONDS)
        return _response(page, after, after + len(page))

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._step()
            except CompactedRecords as compacted:
                self._begin_at(compacted.first - 1)
            except CarrierError as error:
                if not self._unreadable:
                    event(logging.WARNING, "feed_unreadable", error=str(error))
                self._unreadable = True
                self._closing.wait(PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - the thread must go on
                event(logging.ERROR, "feed_failed", error=f"{type(error).__name__}: {error}")
                self._closing.wait(1.0)

    def _step(self) -> None:
        """Read new records, or wait for them."""
        if self._begin < 0:
            self._begin_at(self._source.barrier().head.number)
        records = self._source.read(self._end, PAGE_RECORDS)
        self._unreadable = False
        page = _page(records, self._end)
        if page:
            self._store(page)
        elif records:
            self._closing.wait(PAUSE_SECONDS)
        else:
            self._source.wait(self._end, WAIT_MS)

    def _begin_at(self, number: int) -> None:
        with self._changed:
            self._records.clear()
            self._bytes = 0
            self._begin = self._end = number
            self._changed.notify_all()

    def _store(self, page: dict[int, bytes]) -> None:
        with self._changed:
            self._records.update(page)
            self._end += len(page)
            self._bytes += sum(map(len, page.values()))
            while len(self._records) > MAX_RECORDS or self._bytes > MAX_BYTES:
                self._begin += 1
                self._bytes -= len(self._records.pop(self._begin))
            self._changed.notify_all()


def _page(records: list[tuple[int, bytes]], after: int) -> dict[int, bytes]:
    """Return the records that follow ``after`` without a gap, encoded."""
    page: dict[int, bytes] = {}
    for number, record in records:
        if number != after + len(page) + 1:
            break
        numbered = pb.NumberedRecord(number=number, record=record)
        page[number] = pb.FollowResponse(records=[numbered]).SerializeToString()
    return page


def _response(records: dict[int, bytes], after: int, end: int) -> tuple[bytes, int]:
    """Join encoded responses into one, and return it with the number that it reaches."""
    parts: list[bytes] = []
    size = 0
    while after < end and (not parts or size + len(records[after + 1]) <= RESPONSE_BYTES):
        after += 1
        parts.append(records[after])
        size += len(parts[-1])
    return b"".join(parts), after


# From the begin of one barrier to that of the next: each is a write to a majority of the engine.
BARRIER_PAUSE_SECONDS: Final = 0.05


class SharedBarriers(_LazyThread):
    """Asks a source for barriers, in a thread of its own that the first call starts."""

    def __init__(self, source: LogSource) -> None:
        super().__init__(source, "sessauth-barriers", "ask the engine with")
        # The barrier that has not begun yet.
        self._next: Future[Barrier] | None = None

    def barrier(self, timeout_seconds: float) -> Barrier:
        """Return a barrier that began after this call.

        Raises ENGINE_UNREACHABLE, SHUTTING_DOWN, OVERLOADED if no thread can be started, and TimeoutError.
        """
        with self._changed:
            if self._closing.is_set():
                raise refused("SHUTTING_DOWN", "this server is about to end; ask another")
            self._start()
            if self._next is None:
                self._next = Future()
            shared = self._next
            self._changed.notify_all()
        return shared.result(timeout_seconds)

    def _run(self) -> None:
        began = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closing.is_set())
            self._closing.wait(max(0.0, began + BARRIER_PAUSE_SECONDS - time.monotonic()))
            with self._changed:
                # Calls from here on wait for the one after this.
                shared, self._next = self._next, None
            if self._closing.is_set():
                if shared is not None:
                    shared.set_exception(refused("SHUTTING_DOWN", "this server is about to end; ask another"))
                return
            began = time.monotonic()
            if shared is not None:
                self._ask(shared)

    def _ask(self, shared: Future[Barrier]) -> None:
        try:
            shared.set_result(self._source.barrier())
        except CarrierError as error:
            shared.set_exception(refused("ENGINE_UNREACHABLE", f"the engine gave no barrier: {error}"))
        except Exception as error:  # noqa: BLE001 - becomes the answer of those that wait
            shared.set_exception(error)


# Far more than one server feeds.
MAX_HOSTS: Final = 4_096
# The time for which a host is still named after its bound.
MARGIN_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class HostReport:
    """The content of a barrier request, and its time on this server's steady clock in ms.

    ``principal`` is the caller, ``instance`` 16 bytes that change with the follower's process. A proof that
    began with the request is good for ``staleness_ms``. ``reads`` is the latest format of the log
    that it reads, 0 for the oldest. ``alarm`` is the fault of a host that applies and
    allows nothing.
    """

    host: str
    principal: str
    instance: bytes
    applied: int
    at_ms: int
    staleness_ms: int
    reads: int = 0
    alarm: str = ""


class FollowedHosts:
    """The latest report of each host, by principal and name; the oldest go beyond :data:`MAX_HOSTS`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: dict[tuple[str, str], HostReport] = {}
        # Separate: a host in an alarm has no proof, so no beat names it as fresh.
        self._alarms: dict[tuple[str, str], HostReport] = {}

    def store(self, report: HostReport) -> None:
        """Store a report in place of the host's last one of its kind."""
        reports = self._alarms if report.alarm else self._reports
        key = report.principal, report.host
        with self._lock:
            # An alarm is over with the host's next proof.
            self._alarms.pop(key, None)
            reports.pop(key, None)
            reports[key] = report
            if len(reports) > MAX_HOSTS:
                del reports[next(iter(reports))]

    def by_host(self) -> dict[tuple[str, str], HostReport]:
        """Return the latest report of each host, of an alarm too, by principal and name."""
        with self._lock:
            return {**self._reports, **self._alarms}

    def active(self, steady_ms: int) -> list[HostReport]:
        """Return the reports of hosts that may have a proof by them at that time, the oldest first."""
        return [
            report for report in self.all() if report.at_ms + report.staleness_ms + MARGIN_MS >= steady_ms
        ]

    def all(self) -> list[HostReport]:
        """Return the reports, the oldest first."""
        with self._lock:
            return list(self._reports.values())


COMMIT_SECONDS: Final = 5.0
APPLY_MS: Final = 500
METHOD: Final = "/sessauth.v1.FeedService/RegisterHost"


@dataclass(eq=False)
class HostRegistration:
    """Registers hosts by the log of this server, or by its leader.

    ``wait_for(number, ms)`` waits until the folder holds a record. ``forward`` asks the leader as the caller;
    it returns once this folder holds the leader's answer.
    """

    writer: StateWriter
    wait_for: Callable[[int, int], bool]
    forward: Forward | None = None

    def store(self, wanted: HostRecord) -> None:
        """Register a host; returns once that is durable.

        Raises NotLeader, NAME_TAKEN, LIMIT, and as the log does.
        """
        work = partial(cluster_rows.store_host, wanted=wanted)
        self.writer.decide(work, cluster_rows.HOST_ROW_BYTES).result(COMMIT_SECONDS)

    def require(self, wanted: HostRecord, call: CallContext) -> None:
        """Register a host unless it is registered. Raises as :meth:`store` and the hand-on do."""
        if self._is_registered(wanted):
            return
        try:
            self.store(wanted)
        except NotLeader as error:
            if self.forward is None:
                raise
            request = pb.RegisterHostRequest(
                host=wanted.name, instance=wanted.instance, staleness_ms=wanted.staleness_ms
            )
            self.forward(METHOD, request.SerializeToString(), call, error)

    def require_at(self, wanted: HostRecord, number: int) -> None:
        """Require the row by a folder that holds record ``number``, the head that a barrier found.

        So an end after that record finds the row. Raises ENGINE_UNREACHABLE: then no freshness may follow.
        """
        if not self.wait_for(number, APPLY_MS):
            raise refused("ENGINE_UNREACHABLE", f"record {number} is not here yet; ask another server")
        if not self._is_registered(wanted):
            raise refused("ENGINE_UNREACHABLE", "the host is not registered here yet; ask again")

    def _is_registered(self, wanted: HostRecord) -> bool:
        with self.writer.source().rows() as rows:
            record = cluster_rows.host(rows, wanted.name)
            return record is not None and record.admits(wanted) and cluster_rows.is_current(rows, record)


# Characters of a reason, or of the clocks that differ.
MOST_TEXT: Final = 300
_PROCESS_BYTES: Final = 8


class BeatWriter:
    """Makes the beats of one server. One thread at a time may call it."""

    def __init__(
        self,
        cluster_id: bytes,
        server: str,
        key: MessageKey,
        hosts: FollowedHosts,
        applied: Callable[[], int],
        clock: Clock,
        standing: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        """Sign as ``server``; ``applied()`` returns the number of the last record that its folder holds.

        ``standing()`` returns why this server does not lead, and which clocks differ from its own.
        """
        self._cluster_id = cluster_id
        self._server = server
        self._key = key
        self._applied = applied
        self._clock = clock
        self._standing = standing
        self._began_ms: int | None = None
        self._numbers = itertools.count(1)
        self._process = os.urandom(_PROCESS_BYTES)
        self.hosts = ListedHosts(hosts, clock, self._listing)

    def stored(self) -> None:
        """Start the age of the process, once: an earlier process with its name is granted no proof.

        From the process's start it would be too high, as another process may have proved hosts fresh since.
        """
        if self._began_ms is None:
            self._began_ms = self._clock.steady_ms()

    def __call__(self) -> bytes:
        """Return the next beat, encoded: its list names each host that may be granted freshness by it."""
        not_leading, clock_differs = (text[:MOST_TEXT] for text in self._standing())
        beat = ServerBeat(
            self._cluster_id,
            self._server,
            next(self._numbers),
            0 if self._began_ms is None else self._clock.steady_ms() - self._began_ms,
            self._applied(),
            reads=FORMAT,
            at_ms=self._clock.now_ms(),
            not_leading=not_leading,
            clock_differs=clock_differs,
            process=self._process,
            listed=self.hosts.number,
        )
        return beat.signed_by(self._key).encode()

    def _listing(self, hosts: tuple[HostApplied, ...]) -> tuple[int, bytes]:
        """Return a list's number, and the list, encoded."""
        number = next(self._numbers)
        beat = ServerBeat(
            self._cluster_id, self._server, number, 0, 0, hosts, FORMAT, process=self._process, listed=number
        )
        return number, beat.signed_by(self._key).encode()


@dataclass(eq=False)
class ListedHosts:
    """The hosts that may be granted freshness, listed again only when one of them changed.

    Each barrier is a write, twenty a second at most: with the list in each, a thousand hosts would fill an
    engine while nothing happens. ``listing(hosts)`` gives the number of a new list, and the list as it is
    stored.
    """

    followed: FollowedHosts
    clock: Clock
    listing: Callable[[tuple[HostApplied, ...]], tuple[int, bytes]]
    _next: tuple[int, tuple[HostApplied, ...]] = field(default=(0, ()), init=False)
    _stored: tuple[int, tuple[HostApplied, ...]] = field(default=(0, ()), init=False)

    @property
    def number(self) -> int:
        """The number of the list that is stored; 0: there are no hosts."""
        number, hosts = self._stored
        return number if hosts else 0

    def changed(self) -> bytes:
        """Return the list to store; empty: the stored one is right, or there are no hosts."""
        hosts = tuple(
            HostApplied(report.host, report.instance, report.applied, report.reads)
            for report in sorted(
                self.followed.active(self.clock.steady_ms()),
                key=lambda report: (report.host, report.principal),
            )
        )
        if hosts == self._stored[1]:
            return b""
        # Until the list is stored: one without an answer may be, so the one before can't be used any more.
        self._stored = (0, ())
        if not hosts:
            return b""
        number, data = self.listing(hosts)
        self._next = (number, hosts)
        return data

    def stored(self) -> None:
        """Refer to the list that :meth:`changed` returned last."""
        self._stored = self._next
