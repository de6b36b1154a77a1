"""Snapshots for a host: the first one, which makes its folder, and one where records are gone."""

from __future__ import annotations

import logging
import platform
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...client._feed import FeedClient, FeedRefused, FeedServers
from ...client._target import Tls, load_credential
from ...errors import ConfigError, StateError, StateUnusable
from ...state import layout
from ...state.lmdb.cluster_rows import read_position
from ...state.lmdb.rows import TxnRows
from ...state.replication import snapshot as snapshot_file
from ...state.replication.carrier import CarrierError
from ...state.replication.snapshot import install
from ...state.writer.state_writer import StateWriter
from ..config import Config
from ..log import event
from ..sections import HOST

# In the home folder, while a snapshot is fetched and installed.
SNAPSHOT_FOLDER: Final = "snapshot"
# Hosts that come back together ask again at different times.
PAUSE_SECONDS: Final = (0.5, 2.0)
# A server sees a credential that was added within a second.
REFUSED_SECONDS: Final = 2.0


def open_source(config: Config) -> FeedClient:
    """Return the source that the settings name. Raises ConfigError."""
    settings = config.follow
    if not settings.servers:
        raise ConfigError("follow.servers: state the servers of the cluster, as HOST:PORT")
    host = settings.host_name or platform.node()
    if not HOST.fullmatch(host):
        raise ConfigError(f"follow.host_name: state a name for this host; the machine's, {host!r}, is none")

    def path(stated: str) -> Path | None:
        return config.path(stated) if stated else None

    credential = path(settings.credential)
    if credential is not None:
        try:
            load_credential(credential)
        except ConfigError as error:
            raise ConfigError(f"follow.{error}") from None
    tls = None
    if not settings.insecure_tcp:
        certificate, private_key = settings.certificate, settings.private_key
        if not certificate:
            # Empty but for a server of the cluster.
            certificate, private_key = config.part_certificate
        tls = Tls(path(settings.server_ca), path(certificate), path(private_key))
    servers = FeedServers.resolve(
        settings.servers, credential_file=credential, tls=tls, insecure_tcp=settings.insecure_tcp
    )
    return FeedClient(servers, host, settings.staleness_ms)


def join(config: Config, source: FeedClient, stopping: threading.Event) -> None:
    """Make and fill the state folder from a snapshot, if it has none of a cluster yet.

    Tries until a server gives one or ``stopping`` is set; one that is silent or busy is asked again. Raises
    ConfigError once each server refuses this host, StateError for a folder that can't be used, and for one
    that holds a single host's state.
    """
    data = config.state_dir / layout.DATA_FILE
    if data.exists() and _is_member(config):
        return
    refusals: dict[str, FeedRefused] = {}
    refused_at = time.monotonic()
    while not stopping.is_set():
        server = source.server
        try:
            _join_once(config, source)
        except CarrierError as error:
            if not isinstance(error, FeedRefused):
                refusals.clear()
            elif server not in refusals:
                refusals[server] = error
                refused_at = time.monotonic()
            if refusals.keys() >= source.servers and time.monotonic() - refused_at >= REFUSED_SECONDS:
                knobs = ", ".join(sorted({refusal.knob for refusal in refusals.values()}))
                raise ConfigError(f"{knobs}: {'; '.join(map(str, refusals.values()))}") from None
            event(logging.WARNING, "no_snapshot", error=str(error))
            stopping.wait(random.uniform(*PAUSE_SECONDS))
        else:
            return


def catch_up(
    config: Config, source: FeedClient, writer: StateWriter, decided_behind: int | None = None
) -> None:
    """Replace the folder's rows by a snapshot that a server key of its own state signed.

    Unless None, an operator must have had the log go on after record ``decided_behind`` in it. Raises
    CarrierError or StateError; then the folder is as it was.
    """
    with _fetched(config, source) as (snapshot, record):
        with writer.source().rows() as own:
            snapshot_file.require_genuine(snapshot, record, own)
        reached = writer.run(lambda group: install(group, snapshot, decided_behind))
    event(logging.INFO, "snapshot_installed", number=reached.number)


def _join_once(config: Config, source: FeedClient) -> None:
    with _fetched(config, source) as (snapshot, record):
        snapshot_file.require_genuine(snapshot, record, None)
        with StateWriter.open(config.state_dir, create=True, map_size=config.server.map_size_bytes) as writer:
            # A verifier that opens the folder before the first proof allows nothing.
            writer.deny_as_stale()
            if writer.head().seq:
                raise _not_empty(config.state_dir)
            reached = writer.run(lambda group: install(group, snapshot))
            # Of the folder that was here before.
            writer.clear_alarm()
    event(logging.INFO, "joined", number=reached.number, server=source.server)


def _is_member(config: Config) -> bool:
    """Return False for a folder that was made and not filled yet; raises StateError for a single host's."""
    with snapshot_file.reading(config.state_dir) as rows:
        if read_position(rows) is not None:
            return True
        if rows.head().seq:
            raise _not_empty(config.state_dir)
    return False


@contextmanager
def _fetched(config: Config, source: FeedClient) -> Iterator[tuple[TxnRows, bytes]]:
    """Give the rows of a fetched snapshot, and its record."""
    folder = config.home / SNAPSHOT_FOLDER
    try:
        # A killed process left it.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        fetched = source.snapshot(folder, config.server.map_size_bytes)
        with snapshot_file.reading(folder) as rows:
            yield rows, fetched.record
    except OSError as error:
        raise StateError(f"{folder}: the snapshot can't be written ({error}); free some space") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_empty(state_dir: Path) -> StateUnusable:
    message = f"{state_dir} holds the state of a single host; name another folder for a cluster's"
    return StateUnusable(message, "NOT_IN_CLUSTER")
