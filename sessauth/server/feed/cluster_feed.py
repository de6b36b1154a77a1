"""Everything that one server of a cluster has for followers."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ...errors import StateError
from ...state import layout
from ...state.lmdb.environment import LmdbSource
from ...state.replication import snapshot as snapshot_file
from ...state.replication.carrier import CarrierError, CompactedRecords, LogSource
from ...v1 import feed_service_pb2 as pb
from ..rpc.parts import Parts
from ..status import refused
from .barriers import SharedBarriers
from .hosts import FollowedHosts
from .records import RecordFeed
from .registration import HostRegistration

# Each takes as much disk as the state, and reads all of it.
MAX_SNAPSHOTS: Final = 4


class ClusterFeed:
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
        self.records = RecordFeed(source)
        self.barriers = SharedBarriers(source)
        self.hosts = hosts
        self.registration = registration
        # Checks the connections of hosts.
        self.parts = Parts()

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
