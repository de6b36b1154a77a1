"""Fetching a snapshot: the data file of a server's state, and the signed record at its end."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from ...errors import StateFull
from ...state import layout
from ...state.replication.carrier import CarrierError
from ...v1 import feed_service_pb2 as pb
from .servers import FeedServer, refusal_of

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
