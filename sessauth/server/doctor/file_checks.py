"""Files that give authority: their modes, credentials, keys, certificates."""

from __future__ import annotations

from collections.abc import Iterator

from ...client._target import load_credential
from ...crypto.issuer_key import KeyStatus
from ...errors import ConfigError, KeyFolderError, StateError, StateUnusable
from ...model.group_record import ServerKey
from ...state.host.proof_keys import HostProofKeys, keys_path
from ...state.lmdb.reader import StateReader
from ..cluster.membership import server_key_file
from ..config.config import Config
from ..keys.credentials import CredentialFile
from ..keys.expiry import WARN_DAYS, stated_certificates
from ..keys.issuer_keyring import KeyRing
from ..process import preflight
from ..rpc.access import OPERATOR
from .finding import Finding, of_error
from .host import Host


def find(host: Host) -> Iterator[Finding]:
    """Yield the findings."""
    for problem in preflight.problems(host.config):
        yield of_error("open_file", problem)
    yield from _certificates(host)
    yield from _credentials(host)
    yield from _proof_keys(host)
    yield from _issuer_key(host)
    yield from _host_key(host.config)


def _certificates(host: Host) -> Iterator[Finding]:
    now_ms = host.clock.now_ms()
    for each in stated_certificates(host.config):
        name, left = f"{each.setting} {each.path}", each.days_left(now_ms)
        if each.problem:
            yield Finding(
                "certificate_unusable",
                f"{name}: {each.problem}",
                "state a PEM certificate, and the private key that it was made for, without a passphrase",
            )
        elif left < 0 or each.begins_s * 1000 > now_ms:
            yield Finding(
                "certificate_expired",
                f"{name} is not valid now, so no client that verifies it connects",
                "put a new one in its place; it is read again by itself",
            )
        elif left < WARN_DAYS[-1]:
            yield Finding("certificate_ends", f"{name} ends in {left} days", "put a new one in its place")


def _credentials(host: Host) -> Iterator[Finding]:
    try:
        stored = CredentialFile(host.config.credentials_file).list()
    except (ConfigError, OSError) as error:
        yield of_error("credentials", error, "nobody may call: put the file back, or remove it and add again")
        return
    operators = [each for each in stored if each.principal.role == OPERATOR]
    in_certificates = any(entry.role == OPERATOR for entry in host.config.identities)
    # The callers of a cluster are in its log; a follower has none of its own.
    alone = not host.config.cluster.enabled and not host.config.follow.servers
    if alone and not operators and not in_certificates:
        yield Finding(
            "no_operator",
            "no credential and no certificate has the role operator",
            "sessauth credential add operator --role operator --out operator.credential",
        )


def _proof_keys(host: Host) -> Iterator[Finding]:
    folder = host.config.state_dir
    if not keys_path(folder).exists():
        # Made at the first start.
        return
    try:
        keys = HostProofKeys.read(folder)
    except StateUnusable as error:
        yield of_error("proof_keys", error)
        return
    if host.status is not None and not keys.counting(host.clock.now_ms()):
        yield Finding(
            "proof_keys",
            f"no key in {keys_path(folder)} counts now, so bound tokens are denied",
            "read the log for proofs_unavailable and background_task_failed, then restart the server",
        )


def _host_key(config: Config) -> Iterator[Finding]:
    """Find a key or credential that a host can't show to its cluster: a server's or a follower's."""
    try:
        if config.cluster.enabled:
            ServerKey.load(server_key_file(config))
        elif config.follow.servers and config.follow.credential:
            load_credential(config.path(config.follow.credential))
    except KeyFolderError as error:
        yield of_error(
            "host_key", error, "put the key's file back, or 'sessauth cluster prepare' and admit it"
        )
    except ConfigError as error:
        yield of_error("host_key", error, "put the credential into the file of follow.credential")


def _issuer_key(host: Host) -> Iterator[Finding]:
    if host.config.follow.servers:
        return
    try:
        ring = KeyRing(host.config.keys_dir)
    except KeyFolderError as error:
        yield of_error("issuer_key", error)
        return
    if host.state_fault is not None:
        # A finding of the folder.
        return
    try:
        reader = StateReader.open(host.config.state_dir)
    except StateError:
        # A finding of the folder.
        return
    try:
        with reader.rows() as rows:
            records = [record for record in map(rows.key, rows.key_ids()) if record is not None]
    except StateUnusable as error:
        yield of_error("state_unusable", error)
        return
    finally:
        reader.close()
    try:
        problem = ring.problem(records)
    except (KeyFolderError, OSError) as error:
        problem = str(error)
    if problem:
        states = ", ".join(f"{each.id.hex()[:8]} {KeyStatus(each.status).name}" for each in records)
        yield Finding(
            "issuer_key",
            f"{problem} (the state lists {states or 'none'}), so no token can be minted",
            "put the key's file back, or 'sessauth keys add' and 'sessauth keys activate'",
        )
