"""The feed of a follower: a cluster's log, read over gRPC from one of its servers.

A follower picks a server, fetches a snapshot if its own state is too old, then keeps one stream of records
open, on a thread of its own. It leaves a server that fails or is silent for the next one. Records are signed,
and checked by the host that applies them: a snapshot or a record is not trusted because a server sent it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import random
import re
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from ..clock import Clock, SystemClock
from ..crypto.keys import SignedVerifierKey
from ..crypto.pem import ClientCredentials, ClientFiles
from ..errors import PermissionDenied, Rejected, SessauthError, StateFull, Unauthenticated
from ..model.host import FORMAT, HostKey
from ..state import layout
from ..state.replication.carrier import DIGEST_BYTES, Barrier, CarrierError, CompactedRecords, LogHead
from ..state.replication.follower import BOUND_MS
from ..v1 import feed_service_pb2 as pb
from ..v1 import key_service_pb2 as key_pb
from ..v1 import usage_service_pb2 as usage_pb
from ._target import Tls, is_local, machine_authorities
from ._transport import Endpoint, Failure, RenewedChannel, resolve_endpoint

# A server's reasons to refuse a host, and the setting to look at.
_KNOBS: Final = {
    "NOT_IN_CLUSTER": "follow.servers",
    "OTHER_HOST": "follow.host_name, follow.certificate",
    "NAME_TAKEN": "follow.host_name",
    "LIMIT": "follow.host_name",
}
SETTINGS: Final = "follow.certificate, follow.private_key, follow.server_ca"


class FeedRefused(CarrierError):
    """A server that answers refuses this host, and will again: by its credential, or as a single host.

    ``knob`` is the setting to look at, ``server`` the address.
    """

    def __init__(self, server: str, knob: str, message: str) -> None:
        """Keep the setting and the server."""
        super().__init__(f"{server}: {message}")
        self.server, self.knob = server, knob


def refusal_of(server: str, error: SessauthError) -> FeedRefused | None:
    """Return the refusal that an error of a server is; None if another attempt may succeed."""
    word = error.word if isinstance(error, Rejected) else getattr(error, "reason", "")
    knob = _KNOBS.get(word)
    if knob is None and isinstance(error, Unauthenticated | PermissionDenied):
        knob = "follow.credential"
    return None if knob is None else FeedRefused(server, knob, str(error))


class FeedServer:
    """One server, and its channel."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Make the channel; nothing connects yet. Raises ConfigError if certificate files can't be used."""
        self.target = endpoint.target
        self._endpoint = endpoint
        self._metadata = endpoint.metadata
        self._channel = self.connect()

    def connect(self, options: Sequence[tuple[str, Any]] = ()) -> RenewedChannel:
        """Return a channel of its own to this server, with further options. The caller closes it.

        Raises ConfigError if the certificate files can't be used.
        """
        credentials, tls = None, self._endpoint.tls
        if tls is not None and not is_local(self.target):
            files = ClientFiles(tls.authority or machine_authorities(), tls.certificate, tls.key)
            credentials = ClientCredentials(files, SETTINGS)
        return RenewedChannel(self.target, credentials, [*self._endpoint.options(), *options])

    def unary(
        self, method: str, request: Any, answer: Any, timeout_seconds: float, *, service: str = "FeedService"
    ) -> Any:
        """Call a unary RPC of FeedService, or of another ``service``. Raises SessauthError."""
        call = self._channel.current.unary_unary(
            f"/sessauth.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.error(error, timeout_seconds) from None

    def stream(self, method: str, request: Any, answer: Any, timeout_seconds: float) -> Any:
        """Open a stream of FeedService; its iteration raises grpc.RpcError."""
        call = self._channel.current.unary_stream(
            f"/sessauth.v1.FeedService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=timeout_seconds, metadata=self._metadata)

    def error(self, error: grpc.RpcError, timeout_seconds: float) -> SessauthError:
        """Return the error of a call that failed."""
        failure = Failure.read(error)  # type: ignore[arg-type]
        return failure.error(target=self.target, timeout_ms=int(timeout_seconds * 1000))

    def close(self) -> None:
        """Close the channel, which ends its calls."""
        self._channel.close()


class FeedServers:
    """All servers of a host's settings, and the one that it follows."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Follow any of them first, so that hosts spread over the servers."""
        self._servers = [FeedServer(endpoint) for endpoint in endpoints]
        random.shuffle(self._servers)
        self._lock = threading.Lock()
        self._at = 0

    @classmethod
    def resolve(
        cls,
        targets: Sequence[str],
        *,
        credential_file: Path | None = None,
        tls: Tls | None = None,
        insecure_tcp: bool = False,
    ) -> FeedServers:
        """Return the servers at ``targets``. Raises ConfigError as a client's constructor does."""
        # No credential of an operator that lies beside a socket.
        credential = None if credential_file is not None else ""
        return cls(
            [
                resolve_endpoint(target, credential, credential_file, tls, insecure_tcp, None)
                for target in targets
            ]
        )

    def __len__(self) -> int:
        """Return the number of servers."""
        return len(self._servers)

    @property
    def current(self) -> FeedServer:
        """The server that is followed now."""
        return self._servers[self._at]

    def all(self) -> list[FeedServer]:
        """Return all servers."""
        return list(self._servers)

    @property
    def targets(self) -> str:
        """The addresses of all, for messages."""
        return ", ".join(sorted(server.target for server in self._servers))

    def connect(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> RenewedChannel:
        """Return a further channel to one of these servers; raises CarrierError for another target."""
        for server in self._servers:
            if server.target == target:
                return server.connect(options)
        raise CarrierError(f"{target} is none of the servers of this host")

    def leave(self, server: FeedServer) -> None:
        """Follow the next server, unless another thread left this one before."""
        with self._lock:
            if self.current is server:
                self._at = (self._at + 1) % len(self._servers)

    def close(self) -> None:
        """Close all channels."""
        for server in self._servers:
            server.close()


# A gigabyte at 10 MB a second.
SNAPSHOT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class FetchedSnapshot:
    """A copy in ``folder`` as its server sent it; ``record``, its last SignedGroup, is not checked yet."""

    folder: Path
    number: int
    record: bytes


class SnapshotFetch:
    """Fetches one snapshot at a time; another thread may stop it."""

    def __init__(self) -> None:
        """Begin without one."""
        self._lock = threading.Lock()
        self._stopped = False
        self._call: Any = None

    def fetch(self, server: FeedServer, folder: Path, max_bytes: int) -> FetchedSnapshot:
        """Write a server's snapshot into an empty folder.

        Raises FeedRefused, CarrierError if it does not come whole, StateFull if it has more than
        ``max_bytes``, and OSError.
        """
        with self._lock:
            if self._stopped:
                raise CarrierError("no snapshot is fetched any more")
            call = server.stream("Snapshot", pb.SnapshotRequest(), pb.SnapshotResponse, SNAPSHOT_SECONDS)
            self._call = call
        try:
            header = next(call).header
            if header.bytes > max_bytes:
                raise StateFull(
                    f"the snapshot has {header.bytes} bytes, this host's map {max_bytes}; raise "
                    "server.map_size_bytes"
                )
            written = _write(call, folder / layout.DATA_FILE, header.bytes)
        except StopIteration:
            raise CarrierError(f"{server.target}: a snapshot without a beginning") from None
        except grpc.RpcError as failure:
            error = server.error(failure, SNAPSHOT_SECONDS)
            raise refusal_of(server.target, error) or CarrierError(f"{server.target}: {error}") from None
        finally:
            call.cancel()
        if not hmac.compare_digest(written, header.digest):
            raise CarrierError(f"{server.target}: the snapshot came cut or altered")
        return FetchedSnapshot(folder, header.number, header.record)

    def stop(self) -> None:
        """End the one that is under way, and refuse later ones."""
        with self._lock:
            self._stopped = True
            if self._call is not None:
                self._call.cancel()


def _write(responses: Iterable[Any], path: Path, most: int) -> bytes:
    """Write the stream, ``most`` bytes and a response more at most; return its BLAKE2b-256."""
    digest, size = hashlib.blake2b(digest_size=32), 0
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        for response in responses:
            size += len(response.data)
            if size > most:
                break
            digest.update(response.data)
            file.write(response.data)
    return digest.digest()


_log = logging.getLogger(__name__)
# Records that wait here while the folder is written; one record may be larger.
MAX_BYTES: Final = 8 << 20
# Servers end a stream after an hour; the next one resumes from there.
STREAM_SECONDS: Final = 3_600.0
# After a stream that failed; the longer one once each server failed twice in a row.
PAUSE_SECONDS: Final = 0.1
LONG_PAUSE_SECONDS: Final = 0.5
# A stream that was open for longer has not failed at its opening.
SETTLED_SECONDS: Final = 1.0
_LOWEST: Final = re.compile(r"records below (\d+) ")


class RecordStream:
    """Records after the position that was read last. Any thread may call."""

    def __init__(self, servers: FeedServers) -> None:
        """Open nothing yet: the first read does."""
        self._servers = servers
        self._changed = threading.Condition()
        self._closed = False
        # After ``_begin``, by ascending number without a gap, up to ``_end``. -1: nothing was read yet.
        self._records: dict[int, bytes] = {}
        self._bytes = 0
        self._begin = self._end = -1
        # The failure that the next read raises.
        self._failure: Exception | None = None
        # Counts the positions from which reads started over.
        self._seeks = 0
        self._server: FeedServer | None = None
        self._call: Any = None
        # Streams that failed in a row, each soon after its opening.
        self._failed_openings = 0
        # A number that a server has, and until when the stream must have brought it.
        self._due = (0, 0.0)
        self._thread = threading.Thread(target=self._run, name="sessauth-feed", daemon=True)

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after`` that came already.

        Raises CompactedRecords, and CarrierError once for each failure of a stream.
        """
        with self._changed:
            if self._closed:
                raise CarrierError("the feed is closed")
            self._seek(after)
            if self._records:
                last = min(after + limit, self._end)
                return [(number, self._records[number]) for number in range(after + 1, last + 1)]
            failure, self._failure = self._failure, None
            if failure is not None:
                # The stream waits while a failure does.
                self._changed.notify_all()
                raise failure
            return []

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return once there is a record after ``after`` to read, a failure, or after the time-out."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._end > after or self._failure is not None, timeout_ms / 1000
            )

    def expect(self, number: int, within_seconds: float) -> None:
        """Leave a server whose stream has not brought the record an earlier call expected by its time."""
        with self._changed:
            due, by = self._due
            now = time.monotonic()
            if self._end < due and now > by:
                self._abandon(f"record {due} did not come in time")
            elif self._end < due:
                return
            self._due = (number, now + within_seconds)

    def leave(self, server: FeedServer) -> None:
        """End the stream of a server that was left."""
        with self._changed:
            if self._server is server and self._call is not None:
                self._call.cancel()

    def close(self) -> None:
        """End the stream and its thread."""
        with self._changed:
            self._closed = True
            if self._call is not None:
                self._call.cancel()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _seek(self, after: int) -> None:
        """Drop records up to ``after``; start over if the stored ones don't continue it."""
        if self._begin < 0:
            self._begin = self._end = after
            self._thread.start()
        elif self._begin <= after <= self._end:
            while self._begin < after:
                self._begin += 1
                self._bytes -= len(self._records.pop(self._begin))
            self._changed.notify_all()
        else:
            self._records.clear()
            self._bytes, self._failure = 0, None
            self._seeks += 1
            self._begin = self._end = after
            if self._call is not None:
                self._call.cancel()
            self._changed.notify_all()

    def _abandon(self, why: str) -> None:
        """Leave the server of the stream. Called with the lock held."""
        if self._server is not None and self._call is not None:
            _log.warning("%s: %s; following the next server", self._server.target, why)
            self._servers.leave(self._server)
            self._call.cancel()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._failure is None)
                if self._closed:
                    return
                server, begin, seeks = self._servers.current, self._end, self._seeks
                request = pb.FollowRequest(after=begin)
                call = server.stream("Follow", request, pb.FollowResponse, STREAM_SECONDS)
                self._server, self._call = server, call
            began = time.monotonic()
            error = self._receive(call, begin, server)
            lasted = time.monotonic() - began
            with self._changed:
                self._call = None
                if self._seeks != seeks:
                    continue
                self._failure = error
                self._changed.notify_all()
                if error is not None or lasted < PAUSE_SECONDS:
                    self._changed.wait_for(lambda: self._closed, self._pause(lasted))

    def _pause(self, lasted_seconds: float) -> float:
        """Return the pause after a stream that failed ``lasted_seconds`` after its opening."""
        self._failed_openings = 0 if lasted_seconds > SETTLED_SECONDS else self._failed_openings + 1
        return PAUSE_SECONDS if self._failed_openings <= 2 * len(self._servers) else LONG_PAUSE_SECONDS

    def _receive(self, call: Any, end: int, server: FeedServer) -> Exception | None:
        """Store the records of a stream; return its failure, None if it ended otherwise."""
        try:
            for response in call:
                for numbered in response.records:
                    if numbered.number != end + 1:
                        self._servers.leave(server)
                        call.cancel()
                        return CarrierError(f"{server.target} sent record {numbered.number} after {end}")
                    if not self._store(call, numbered.number, numbered.record):
                        call.cancel()
                        return None
                    end += 1
        except grpc.RpcError as failed:
            return self._failed(call, server, failed)
        return None

    def _store(self, call: Any, number: int, record: bytes) -> bool:
        """Store the next record, once there is space; False if it is no longer the next."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._call is not call or self._end != number - 1
                or not self._records or self._bytes + len(record) <= MAX_BYTES
            )  # fmt: skip
            if self._closed or self._end != number - 1:
                return False
            self._records[number] = record
            self._bytes += len(record)
            self._end = number
            self._changed.notify_all()
        return True

    def _failed(self, call: Any, server: FeedServer, failed: grpc.RpcError) -> Exception | None:
        code = call.code()
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            # Its hour is over, or this side ended it.
            return None
        error: SessauthError = server.error(failed, STREAM_SECONDS)
        if isinstance(error, Rejected) and error.word == "COMPACTED":
            lowest = _LOWEST.search(str(error))
            return CompactedRecords(int(lowest[1]) if lowest else 0)
        self._servers.leave(server)
        return CarrierError(f"{server.target}: {error}")


# Silence after which a server is left for the next one. It grows in proportion to a staleness bound above the
# default: the answer of a server needs several round trips to its engine.
SILENT_SECONDS: Final = 0.7
# For a report of usage, which the server forwards.
REPORT_SECONDS: Final = 5.0
ALARM_SECONDS: Final = 2.0
# Expiries and leases are compared with wall clocks: a host further off than this allows nothing.
MOST_SKEW_MS: Final = 2_000


class FeedClient:
    """A LogSource over the servers of a cluster. It follows one at a time."""

    def __init__(
        self, servers: FeedServers, host: str, staleness_ms: int, clock: Clock | None = None
    ) -> None:
        """Follow as ``host``, whose proofs are good for ``staleness_ms``. Opens nothing yet."""
        self._servers = servers
        self.host = host
        self._staleness_ms = staleness_ms
        self._silent_seconds = SILENT_SECONDS * max(1.0, staleness_ms / BOUND_MS)
        self._clock = clock or SystemClock()
        # Of this process alone: servers know the host's instance by it.
        self.key = HostKey.generate()
        self._stream = RecordStream(servers)
        self._fetching = SnapshotFetch()
        # The position that was read last, which barriers state.
        self._applied = 0
        self._report_at = 0.0

    @property
    def server(self) -> str:
        """The address of the server that is followed now."""
        return self._servers.current.target

    @property
    def servers(self) -> frozenset[str]:
        """The addresses of all servers of this host."""
        return frozenset(server.target for server in self._servers.all())

    def read(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records after ``after``; raises CompactedRecords or CarrierError."""
        self._applied = after
        return self._stream.read(after, limit)

    def wait(self, after: int, timeout_ms: int) -> None:
        """Return soon after a record after ``after`` came, or after the time-out."""
        self._stream.wait(after, timeout_ms)

    def barrier(self) -> Barrier:
        """Return a barrier that began after this call, from the first server that answers.

        Each has 700 ms with a bound of 3 s. Raises CarrierError if none answers, or if this host's clock is
        wrong by theirs.
        """
        failures = []
        for _ in range(len(self._servers)):
            server = self._servers.current
            try:
                barrier = self._ask(server)
            except (SessauthError, CarrierError) as error:
                failures.append(f"{server.target}: {error}")
                self._servers.leave(server)
                self._stream.leave(server)
                continue
            self._stream.expect(barrier.head.number, self._silent_seconds)
            return barrier
        raise CarrierError("; ".join(failures))

    def ask(self, target: str) -> None:
        """Have one server answer a barrier as this host; it proves nothing.

        Raises FeedRefused, and CarrierError or SessauthError without an answer that counts.
        """
        server = next(each for each in self._servers.all() if each.target == target)
        try:
            self._ask(server)
        except SessauthError as error:
            raise refusal_of(target, error) or error from None

    def report_alarm(self, number: int, fault: str) -> None:
        """Say to every server how far this host is, and that it allows nothing; every 2 s at most."""
        if time.monotonic() < self._report_at:
            return
        self._report_at = time.monotonic() + ALARM_SECONDS
        request = pb.BarrierRequest(
            host=self.host,
            instance=self.key.instance,
            applied=number,
            staleness_ms=self._staleness_ms,
            alarm=fault,
        )
        for server in self._servers.all():
            # One that does not answer learns it later.
            with suppress(SessauthError, ValueError):
                server.unary("Barrier", request, pb.BarrierResponse, SILENT_SECONDS)

    def snapshot(self, folder: Path, max_bytes: int) -> FetchedSnapshot:
        """Fetch a snapshot of up to ``max_bytes`` into an empty folder. Raises CarrierError or StateError."""
        server = self._servers.current
        try:
            return self._fetching.fetch(server, folder, max_bytes)
        except CarrierError:
            self._servers.leave(server)
            raise

    def report_usage(self, request: usage_pb.ReportHostUsageRequest) -> usage_pb.ReportHostUsageResponse:
        """Report this host's usage to the server that is followed now. Raises SessauthError or ValueError."""
        answer: usage_pb.ReportHostUsageResponse = self._servers.current.unary(
            "ReportHostUsage",
            request,
            usage_pb.ReportHostUsageResponse,
            REPORT_SECONDS,
            service="UsageService",
        )
        return answer

    def sign_verifier_key(self, payload: bytes) -> SignedVerifierKey:
        """Have the server that is followed sign a VerifierKey; its answer is unverified.

        Raises SessauthError.
        """
        request = key_pb.SignVerifierKeyRequest(payload=payload)
        answer = self._servers.current.unary(
            "SignVerifierKey", request, key_pb.SignVerifierKeyResponse, SILENT_SECONDS, service="KeyService"
        )
        return SignedVerifierKey(answer.key.payload, answer.key.issuer_key_id, answer.key.signature)

    def connect(self, address: str, options: Sequence[tuple[str, Any]] = ()) -> RenewedChannel:
        """Return a further channel to one of the servers, with this host's certificate if it has one.

        Raises CarrierError for another address.
        """
        return self._servers.connect(address, options)

    def stop_fetching(self) -> None:
        """End a snapshot that is under way, and refuse later ones, with CarrierError."""
        self._fetching.stop()

    def close(self) -> None:
        """Close the connections. Later calls raise CarrierError."""
        self._stream.close()
        self._servers.close()

    def _ask(self, server: FeedServer) -> Barrier:
        request = pb.BarrierRequest(
            host=self.host,
            instance=self.key.instance,
            applied=self._applied,
            staleness_ms=self._staleness_ms,
            reads=FORMAT,
        )
        asked_ms = self._clock.steady_ms()
        try:
            answer = server.unary("Barrier", request, pb.BarrierResponse, self._silent_seconds)
        except ValueError as error:
            raise CarrierError("the feed is closed") from error
        if len(answer.digest) != (DIGEST_BYTES if answer.number else 0):
            raise CarrierError(f"a barrier with a digest of {len(answer.digest)} bytes")
        self._require_clock(answer.server_ms, self._clock.steady_ms() - asked_ms)
        head = LogHead(answer.number, answer.digest)
        return Barrier(head, answer.engine_id, answer.engine_revision)

    def _require_clock(self, server_ms: int, round_trip_ms: int) -> None:
        skew = abs(self._clock.now_ms() - round_trip_ms // 2 - server_ms)
        if skew > MOST_SKEW_MS + round_trip_ms // 2:
            raise CarrierError(
                f"the wall clocks of this host and of the server differ by {skew} ms; set them"
            )
