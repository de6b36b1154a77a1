"""Initialises a server: folders with their modes, the issuer key, the operator's credential.

Nothing that exists is overwritten: a folder that was initialised is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...crypto.keys import KeyStatus
from ...errors import ConfigError
from ...model import change as changes
from ...model.change import Rejection
from ...state.writer.state_writer import StateWriter
from ..config import Config, load
from ..keys import local_files
from ..keys.credentials import CredentialFile
from ..keys.issuer_keyring import KeyRing

OPERATOR = "operator"
FIRST_KEY_REQUEST = "init-issuer-key"
WAIT_SECONDS = 30.0

SAMPLE = """\
# Settings of 'sessauth serve'. Each is at its default; see docs/operations/settings.md.
# The environment overrides them: SESSAUTH_SERVER_WORKERS=2, SESSAUTH_SESSIONS_MAX_TTL_MS=3600000.

[server]
# workers = 0              # read-only check processes, a socket each: run/check-0.sock
# log_level = "INFO"

[tcp]
# address = "0.0.0.0:7443" # off unless stated
# check_address = ""       # served by the workers
# certificate = "tls/server.pem"
# private_key = "tls/server.key"
# client_ca = "tls/clients.pem"

[sessions]
# default_ttl_ms = 3600000
# max_ttl_ms = 86400000

[proofs]
# key_lifetime_ms = 3600000
# replay_slots = 1048576

[audit]
# enabled = false          # every decision and every change, chained and signed, in audit/
# sample_allows = 1.0      # the share of allows that is recorded; denials are all
# when_full = "stop_minting" # what follows while that fails; or "deny", or "continue"

[usage]
# census = false           # which tokens were seen, and uses after the end
# enabled = false          # granted against used; keeps values of arguments

[evidence]
# receipt_wait_ms = 200    # how long an end may wait for verifiers to acknowledge it

[follow]                   # for 'sessauth follow', on a host that a cluster feeds
# servers = ["10.0.0.1:7443"]
# host_name = ""           # the name of this host; the machine's unless stated
# credential = "follower.credential"
# server_ca = "tls/servers.pem"
# staleness_ms = 3000      # how long calls are allowed without a proof that nothing is missing

[metrics]
# address = "127.0.0.1:9464" # off unless stated; needs sessauth[metrics]

[tracing]
# enabled = false          # needs sessauth[tracing]

# [[identities]]           # a client certificate and what it may do
# name = "gateway-1"
# role = "gateway"         # operator, issuer, gateway, auditor, approver or follower
# uri = "spiffe://example.org/gateway"
# audiences = ["gateway-1"]
"""


@dataclass(frozen=True, slots=True)
class Initialised:
    """The paths of a server. ``key_id`` names the issuer key, 32 bytes."""

    home: Path
    state_dir: Path
    keys_dir: Path
    config_file: Path
    credential_file: Path
    socket: Path
    key_id: bytes


def initialise(home: Path | None = None) -> Initialised:
    """Make folders, state, issuer key, operator credential and a sample configuration.

    Raises ConfigError if the home folder was initialised before, StateError if a folder can't be used.
    """
    config = load(home)
    credential_file = config.home / "operator.credential"
    # The last two steps of an init; one that was interrupted before them is resumed.
    for existing in (credential_file, config.credentials_file):
        if existing.exists():
            raise ConfigError(
                f"{existing}: exists; this folder was initialised before: serve it, or name another home "
                "(--home, SESSAUTH_HOME)"
            )
    make_folders(config)
    local_files.check(config)
    with StateWriter.open(config.state_dir, create=True, map_size=config.server.map_size_bytes) as log:
        key = KeyRing(config.keys_dir).make(FIRST_KEY_REQUEST)
        change = changes.add_key(FIRST_KEY_REQUEST, key.public_key, status=KeyStatus.ACTIVE, actor=OPERATOR)
        outcome = log.submit(change).result(timeout=WAIT_SECONDS)
        if outcome.rejection != Rejection.ALREADY_EXISTS:
            outcome.raise_if_rejected()
    credential = CredentialFile(config.credentials_file).add(OPERATOR, OPERATOR)
    _write_new(credential_file, credential + "\n", 0o600)
    config_file = config.home / "sessauth.toml"
    if not config_file.exists():
        _write_new(config_file, SAMPLE, 0o644)
    paths = config.home, config.state_dir, config.keys_dir, config_file, credential_file, config.socket
    return Initialised(*paths, key.key_id)


def make_folders(config: Config) -> None:
    """Make the home and the folders of keys and sockets, each with its mode. Raises ConfigError."""
    _make_folder(config.home, 0o755, keep_mode=True)
    _make_folder(config.keys_dir, 0o700)
    ensure_run_dir(config)


def ensure_run_dir(config: Config) -> None:
    """Make the folder of the sockets, 0750, if it is not there (it may lie on a tmpfs)."""
    _make_folder(config.run_dir, 0o750)


def _make_folder(folder: Path, mode: int, *, keep_mode: bool = False) -> None:
    try:
        existed = folder.is_dir()
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        if not (existed and keep_mode):
            folder.chmod(mode)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; make it writable or choose another") from error


def _write_new(file: Path, text: str, mode: int) -> None:
    handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    with open(handle, "w", encoding="utf-8") as stream:
        os.fchmod(handle, mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
