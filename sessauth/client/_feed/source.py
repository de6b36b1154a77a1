"""The carried log of a cluster as a follower reads it: from its servers, over gRPC."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ...clock import Clock, SystemClock
from ...crypto.verifier_key import SignedVerifierKey
from ...errors import SessauthError
from ...model.caller_statement import HostKey
from ...model.group_record import FORMAT
from ...state.replication.carrier import DIGEST_BYTES, Barrier, CarrierError, LogHead
from ...state.replication.follower import BOUND_MS
from ...v1 import feed_service_pb2 as pb
from ...v1 import key_service_pb2 as key_pb
from ...v1 import usage_service_pb2 as usage_pb
from .._renewed_channel import RenewedChannel
from .record_stream import RecordStream
from .servers import FeedServer, FeedServers, refusal_of
from .snapshot import FetchedSnapshot, SnapshotFetch

# A server that is silent for so long is left for the next one. A longer bound than the default one waits for
# longer, in the same ratio: the answer of a server needs several round trips to its engine.
SILENT_SECONDS: Final = 0.7
# For a report of usage, which the server forwards.
REPORT_SECONDS: Final = 5.0
ALARM_SECONDS: Final = 2.0
# Expiries and leases are compared with wall clocks: a host further off than this allows nothing.
MOST_SKEW_MS: Final = 2_000


class FeedSource:
    """A LogSource over the servers of a cluster, of which it follows one at a time."""

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
            "SignVerifierKey",
            request,
            key_pb.SignVerifierKeyResponse,
            SILENT_SECONDS,
            service="KeyService",
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
