"""The credentials of a host that begins a cluster, or leaves it: from its file into the log, and back."""

from __future__ import annotations

from ...errors import ConfigError, StateError
from ...model.change import Change, add_credential
from ...model.credential import CredentialRecord, fault
from ...model.log_records import Head
from ...state import layout
from ...state.lmdb.cluster_rows import credentials, read_position
from ...state.lmdb.reader import StateReader
from ...state.replication import membership
from ..config.config import Config
from ..keys.carried_credentials import stored
from ..keys.credentials import CredentialFile, StoredCredential


def carried_credentials(config: Config) -> list[CredentialRecord] | None:
    """Return the credentials of the cluster by this host's folder; None if it is a single host's.

    Raises StateUnusable as an open does.
    """
    reader = StateReader.open(config.state_dir)
    try:
        with reader.rows() as rows:
            return None if read_position(rows) is None else credentials(rows)
    finally:
        reader.close()


def changes_of_file(file: CredentialFile) -> list[Change]:
    """Return the changes by which the entries of a file become credentials of a cluster.

    Raises ConfigError for an entry that a cluster does not take.
    """
    return [_change(entry) for entry in file.list()]


def _change(entry: StoredCredential) -> Change:
    caller = entry.principal
    record = CredentialRecord(caller.name, caller.role, caller.audiences, entry.secret_hash)
    field, rule = fault(record)
    if field:
        raise ConfigError(f"credential {caller.name}: {field}: {rule}; remove it, and add it with fewer")
    return add_credential(
        f"{layout.SYSTEM_PREFIX}credential/{caller.name}",
        caller.name,
        caller.role,
        entry.secret_hash,
        audiences=caller.audiences,
        actor=layout.SYSTEM_ACTOR,
    )


def leave(config: Config) -> Head:
    """Make this host a single one again, with the cluster's callers in its own file; return the head.

    Raises as ``leaving.leave`` does, ConfigError if the file can't be written.
    """
    carried = carried_credentials(config)
    if carried is None:
        raise StateError("the folder belongs to no cluster")
    # First: in between, both places have them, and they are the same.
    CredentialFile(config.credentials_file).include([stored(record) for record in carried])
    return membership.leave(config.state_dir)
