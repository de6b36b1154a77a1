"""The beginning of a cluster, and of a further server of it, by commands."""

from __future__ import annotations

import threading

from ...errors import ConfigError
from ...model.group_record import ServerKey
from ...state.lmdb.reader import StateReader
from ...state.replication.carrier import CarrierError
from ...state.replication.membership import found, require_single
from ..config.config import Config
from ..keys.credentials import CredentialFile
from ..keys.issuer_keyring import KeyRing
from ..process import joining
from ..process.init import FIRST_KEY_REQUEST, make_folders
from .callers import changes_of_file
from .membership import open_carrier, server_key_file


def begin(config: Config) -> bytes:
    """Make an initialised home the first server of a cluster, and return the cluster's id (16 bytes).

    No session ends, and no token stops working. The callers of its file are the cluster's from then on: the
    log has them, and the file has them no longer. The server must be stopped. Raises ConfigError if
    ``[cluster]`` is not stated, if the engine does not answer, or if it has a log of this cluster already;
    StateError if the folder can't be used or belongs to a cluster.
    """
    require_settings(config)
    cluster = _single_host(config)
    _require_empty(config, cluster)
    key = server_key(config)
    settings, file = config.cluster, CredentialFile(config.credentials_file)
    moved = file.list()
    made = found(
        config.state_dir,
        settings.name,
        key,
        staleness_ms=settings.staleness_ms,
        address=settings.address,
        changes=changes_of_file(file),
    )
    # After the commit: until it is durable the file is the only place that has them.
    file.exclude(moved)
    return made


def server_key(config: Config) -> ServerKey:
    """Return the key that signs this server's records, made if there is none. Raises KeyFolderError."""
    file = server_key_file(config)
    if not file.exists():
        ServerKey.generate().save(file)
    return ServerKey.load(file)


def _single_host(config: Config) -> bytes:
    """Return the cluster id of a folder that is a single host's. Raises StateError."""
    reader = StateReader.open(config.state_dir)
    try:
        with reader.rows() as rows:
            require_single(rows)
        return reader.head().cluster_id
    finally:
        reader.close()


def _require_empty(config: Config, cluster: bytes) -> None:
    carrier = open_carrier(config, cluster)
    try:
        number = carrier.barrier(config.cluster.name, b"").head.number
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: no member answers: {error}") from error
    finally:
        carrier.close()
    if number:
        raise ConfigError(
            f"cluster.engine: has a log of cluster {cluster.hex()} already, of {number} records; join it"
        )


def join(config: Config, stopping: threading.Event) -> None:
    """Make the state folder of a further server from a snapshot of one that serves.

    Section ``[follow]`` names the servers and the credential. Asks until one answers or ``stopping`` is set.
    Raises ConfigError if a section is not stated, StateError if the folder can't be used.
    """
    require_settings(config)
    make_folders(config)
    source = joining.open_source(config)
    try:
        joining.join(config, source, stopping)
    finally:
        source.close()


def require_settings(config: Config) -> None:
    """Raise ConfigError unless ``[cluster]`` is stated."""
    if not config.cluster.enabled:
        raise ConfigError("cluster.engine: state section [cluster] first, see docs/cluster.md")


def prepare(config: Config) -> dict[str, object]:
    """Make the folders and keys of a further server; return its name and the public halves in hex.

    Anything that exists is used again. Raises ConfigError if ``[cluster]`` is not stated.
    """
    require_settings(config)
    make_folders(config)
    issuer_key = KeyRing(config.keys_dir).make(FIRST_KEY_REQUEST)
    return {
        "server": config.cluster.name,
        "address": config.cluster.address,
        "server_key": server_key(config).public_key.hex(),
        "issuer_key": issuer_key.public_key.hex(),
    }
