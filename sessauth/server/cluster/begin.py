"""Commands that begin a cluster, and add a further server to it.

A host that begins a cluster moves the credentials of its file into the log; a host that leaves it moves them
back.
"""

from __future__ import annotations

import threading
from contextlib import closing

from ...errors import ConfigError, StateError
from ...model.change import Change, Head, add_credential
from ...model.host import CredentialRecord, ServerKey, fault
from ...state import layout
from ...state.lmdb.cluster_rows import credentials, read_position
from ...state.lmdb.reader import StateReader
from ...state.replication import membership
from ...state.replication.carrier import CarrierError
from ...state.replication.membership import found, require_single
from ..config import Config
from ..keys.credentials import CredentialFile
from ..keys.issuer_keyring import KeyRing
from ..process.init import FIRST_KEY_REQUEST, make_folders
from . import joining
from .membership import open_carrier, server_key_file


def begin(config: Config) -> bytes:
    """Make an initialised home the first server of a cluster, and return the cluster's id (16 bytes).

    No session ends, and no token stops working. The callers of its file are the cluster's from then on: the
    log has them, and the file has them no longer. The server must be stopped. Raises ConfigError if
    ``[cluster]`` is not stated, if the engine does not answer, or if it has a log of this cluster already;
    StateError if the folder can't be used or belongs to a cluster.
    """
    require_settings(config)
    with closing(StateReader.open(config.state_dir)) as reader, reader.rows() as rows:
        require_single(rows)
        cluster = rows.head().cluster_id
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
        changes=list(map(_change, moved)),
    )
    # Only after the commit: until it is durable, they are in the file alone.
    file.exclude(moved)
    return made


def server_key(config: Config) -> ServerKey:
    """Return the key that signs this server's records, made if there is none. Raises KeyFolderError."""
    file = server_key_file(config)
    if not file.exists():
        ServerKey.generate().save(file)
    return ServerKey.load(file)


def _require_empty(config: Config, cluster: bytes) -> None:
    try:
        with closing(open_carrier(config, cluster)) as carrier:
            number = carrier.barrier(config.cluster.name, b"").head.number
    except CarrierError as error:
        raise ConfigError(f"cluster.engine: no member answers: {error}") from error
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
    with closing(joining.open_source(config)) as source:
        joining.join(config, source, stopping)


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


def carried_credentials(config: Config) -> list[CredentialRecord] | None:
    """Return the credentials of the cluster by this host's folder; None if it is a single host's.

    Raises StateUnusable as an open does.
    """
    with closing(StateReader.open(config.state_dir)) as reader, reader.rows() as rows:
        return None if read_position(rows) is None else credentials(rows)


def _change(entry: CredentialRecord) -> Change:
    """Return the change that makes an entry one of a cluster; raises ConfigError if it can't be one."""
    field, rule = fault(entry)
    if field:
        raise ConfigError(f"credential {entry.name}: {field}: {rule}; remove it, and add it with fewer")
    return add_credential(
        f"{layout.SYSTEM_PREFIX}credential/{entry.name}",
        entry.name,
        entry.role,
        entry.secret_hash,
        audiences=entry.audiences,
        actor=layout.SYSTEM_ACTOR,
    )


def leave(config: Config) -> Head:
    """Make this host a single one again, with the cluster's callers in its own file; return the head.

    Raises as ``leaving.leave`` does, ConfigError if the file can't be written.
    """
    carried = carried_credentials(config)
    if carried is None:
        raise StateError("the folder belongs to no cluster")
    # Before the leave: in between both places have the same ones.
    CredentialFile(config.credentials_file).include(carried)
    return membership.leave(config.state_dir)
