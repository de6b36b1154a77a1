"""Shared parts of tests of the recorder: a recorded verifier, streams that fail, and reading records back."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sessauth._fast._check import DecisionQueue
from sessauth.audit import layout
from sessauth.audit.write.stream import AuditOptions, AuditStream
from sessauth.clock import FixedClock
from sessauth.decisions.decision import Decision
from sessauth.verifier.verifier import Verifier
from tests.support import bulk_sessions
from tests.vectors.world import AUDIENCE, NOW


def records(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the records of an audit folder, stream by stream, of these kinds or all."""
    found = []
    for numbered in layout.files(folder).values():
        for _, path in sorted(numbered.items()):
            found += [json.loads(line) for line in path.read_bytes().splitlines()]
    return [record for record in found if not kinds or record["kind"] in kinds]


def bodies(data: bytes) -> list[dict[str, Any]]:
    """Return the records in bodies of a stream."""
    return [json.loads(line) for line in data.splitlines()]


def ids(found: Iterable[dict[str, Any]]) -> list[str]:
    """Return the ids of decisions."""
    return [record["id"] for record in found]


class RecordedVerifier:
    """A verifier of the vectors' world, its queue, and a clock that stands still."""

    def __init__(self, room: int = 1 << 20) -> None:
        """Give the queue so many bytes."""
        self.verifier = Verifier(bulk_sessions.source(), audience=AUDIENCE)
        self.verifier.decision_queue = self.decision_queue = DecisionQueue(room)
        self.clock = FixedClock(NOW)

    def check(self, token: bytes, resource: str = "files/a", **options: Any) -> Decision:
        """Judge a call."""
        return self.verifier._check(token, "read", resource, **{"now_ms": NOW, **options})

    def open_stream(self, options: AuditOptions) -> AuditStream:
        """Begin a real stream."""
        return AuditStream.open_new(
            Path(options.dir),
            process="test",
            audience=AUDIENCE,
            cluster_id=bytes(16),
            incarnation=bytes(16),
            options=options.stream,
            clock=self.clock,
        )


class Failing:
    """A stream whose disk is full while ``full`` is set; what it takes goes to a real one."""

    def __init__(self, stream: AuditStream) -> None:
        """Stand before ``stream``."""
        self._stream = stream
        self.arguments_key = stream.arguments_key
        self.key, self.stream_id, self.process = stream.key, stream.stream_id, stream.process
        self.full = False

    @property
    def durable(self) -> tuple[int, bytes, int]:
        """The durable part of the stream."""
        return self._stream.durable

    def _fail(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def append(self, data: bytes) -> None:
        """Append, or fail as a full disk does."""
        self._fail()
        self._stream.append(data)

    def tick(self, now_ms: int) -> None:
        """Tick, or fail."""
        self._fail()
        self._stream.tick(now_ms)

    def close(self) -> None:
        """Close, or fail."""
        self._fail()
        self._stream.close()
