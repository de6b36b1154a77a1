"""Settings of the server: ``sessauth.toml``, overridden by ``SESSAUTH_<SECTION>_<KEY>``.

Every setting has a default that works on one host over a Unix socket. A key that is not known is
an error, in the file and in the environment, since a misspelt limit is a missing limit. Settings
hold paths of secrets, never secrets, so that they may be printed and handed to workers.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_type_hints

from ... import limits
from ...errors import ConfigError
from . import audit_settings, identity_settings, sections, usage_settings
from .audit_settings import AuditSettings
from .identity_settings import Identity
from .sections import MetricsSettings, TracingSettings
from .usage_settings import UsageSettings


def default_home() -> Path:
    """Return ``$SESSAUTH_HOME``, else ``~/.local/state/sessauth``."""
    stated = os.environ.get("SESSAUTH_HOME")
    return Path(stated) if stated else Path.home() / ".local" / "state" / "sessauth"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Section ``[server]``. Folders that are not stated lie in the home folder."""

    state_dir: str = ""
    keys_dir: str = ""
    run_dir: str = ""
    workers: int = 0
    log_level: str = "INFO"
    map_size_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """Section ``[tcp]``: off unless ``address`` is stated; TLS unless ``insecure_tcp`` says otherwise."""

    address: str = ""
    check_address: str = ""
    certificate: str = ""
    private_key: str = ""
    client_ca: str = ""
    insecure_tcp: bool = False


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Section ``[limits]``: threads and queue places per pool, times in ms, rates per second."""

    # A change waits for its fsync, so this is also how many changes one fsync can carry.
    change_threads: int = 64
    # Two of them check; the others help while those wait for callers whose messages are slow to come.
    check_threads: int = 4
    read_threads: int = 4
    # As many as of changes: so many ends and revocations can share an fsync.
    reserved_threads: int = 64
    stream_threads: int = 32
    # Open WatchSessions calls; threads start when they are needed.
    event_threads: int = 64
    # Calls that one stream may watch, and what they may weigh: a request, its token's chain, and 1 KiB each.
    watched_calls: int = 1024
    watched_bytes: int = 4 << 20
    # Calls that may wait for a thread of their pool before the next one is refused.
    queue_places: int = 256
    max_deadline_ms: int = 30_000
    # From a call's headers to the end of its first message.
    receive_ms: int = 2_000
    # How long the client of a stream may leave unread what it is sent.
    slow_reader_ms: int = 10_000
    drain_ms: int = 5_000
    # Failed signatures that one peer may cause at once, and how many it regains each second.
    failed_signatures_burst: int = 1_000
    failed_signatures_per_second: int = 100
    cache_bytes: int = 64 << 20
    # Verified chains of calls that cost something, which the writer judges again.
    writer_cache_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Section ``[sessions]``: lifetimes in ms."""

    default_ttl_ms: int = 3_600_000
    max_ttl_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """Section ``[proofs]``: the host's keys for proofs of bound tokens, and its memory of used ones."""

    # A key that leaked is worth nothing after this; holders ask for a new one every half of it.
    key_lifetime_ms: int = 3_600_000
    # Each proof takes one for a minute, 8 bytes: enough for some 8,000 a second, 500 of them of one holder.
    replay_slots: int = 1_048_576


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Section ``[evidence]``: what proves that sessions are over. Times in ms."""

    # How long the answer to an end may wait for verifiers to acknowledge it; 0: not at all.
    receipt_wait_ms: int = 200


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, and the home folder that relative paths start from."""

    home: Path = field(default_factory=default_home)
    server: ServerSettings = ServerSettings()
    tcp: TcpSettings = TcpSettings()
    limits: LimitSettings = LimitSettings()
    sessions: SessionSettings = SessionSettings()
    proofs: ProofSettings = ProofSettings()
    audit: AuditSettings = field(default_factory=AuditSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    usage: UsageSettings = field(default_factory=UsageSettings)
    evidence: EvidenceSettings = EvidenceSettings()
    identities: tuple[Identity, ...] = ()
    # Which ``sessauth.toml`` this was read from; None: from none that could change.
    file_stamp: tuple[int, ...] | None = field(default=None, compare=False)

    def _folder(self, stated: str, name: str) -> Path:
        return self.home / (stated or name)

    @property
    def state_dir(self) -> Path:
        """The folder of the log and its state."""
        return self._folder(self.server.state_dir, "state")

    @property
    def keys_dir(self) -> Path:
        """The folder of the issuer's private keys."""
        return self._folder(self.server.keys_dir, "keys")

    @property
    def run_dir(self) -> Path:
        """The folder of the Unix sockets."""
        return self._folder(self.server.run_dir, "run")

    @property
    def audit_dir(self) -> Path:
        """The folder of the audit streams."""
        return self._folder(self.audit.dir, "audit")

    @property
    def reports_observations(self) -> bool:
        """Whether the server's verifiers tell what they saw: where notes of decisions are taken at all."""
        return self.usage.enabled or self.usage.census or self.audit.enabled

    @property
    def usage_dir(self) -> Path:
        """The folder of what sessions that ended had used."""
        return self._folder(self.usage.dir, "usage")

    @property
    def socket(self) -> Path:
        """The Unix socket of the control process."""
        return self.run_dir / "sessauth.sock"

    @property
    def credentials_file(self) -> Path:
        """The hashed API keys; in the state folder, since workers read it."""
        return self.state_dir / "credentials.toml"

    def check_socket(self, index: int) -> Path:
        """The Unix socket of check worker ``index``."""
        return self.run_dir / f"check-{index}.sock"

    def path(self, stated: str) -> Path:
        """A path of the configuration, taken from the home folder if it is relative."""
        return self.home / stated

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values; :func:`from_dict` takes them back."""
        return {**dataclasses.asdict(self), "home": str(self.home)}


SECTIONS: Mapping[str, type] = {
    "server": ServerSettings,
    "tcp": TcpSettings,
    "limits": LimitSettings,
    "sessions": SessionSettings,
    "proofs": ProofSettings,
    "audit": AuditSettings,
    "metrics": MetricsSettings,
    "tracing": TracingSettings,
    "usage": UsageSettings,
    "evidence": EvidenceSettings,
}

# Half a key's life must outlast a proof's time by far, so that a rotation never meets a proof on its way.
MIN_PROOF_KEY_LIFETIME_MS = 120_000
# An end is answered with time to spare, whatever its caller's deadline.
MAX_RECEIPT_WAIT_MS = 5_000


# A line that may say where the state is, in a file that is no TOML.
_STATE_DIR: Final = re.compile(r"^[^#]*\bstate_dir\b", re.M)


def stamp_of(home: Path) -> tuple[int, ...]:
    """Return inode, time of change in ns and size of ``<home>/sessauth.toml``; empty if there is none."""
    try:
        found = (home / "sessauth.toml").stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def load(home: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read ``<home>/sessauth.toml`` (which may be absent) and the environment.

    Raises :class:`ConfigError` that names the key.
    """
    home = home if home is not None else default_home()
    file = home / "sessauth.toml"
    table: dict[str, Any] = {}
    # Looked at first: what is written meanwhile differs from it.
    stamp = stamp_of(home)
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    for section, key, text in _overrides(os.environ if environ is None else environ):
        table.setdefault(section, {})
        if isinstance(table[section], dict):
            table[section][key] = _from_text(section, key, text)
    if "file_stamp" in table:
        raise ConfigError(f"{file}: file_stamp: no such section")
    return from_dict({**table, "home": str(home), "file_stamp": stamp})


def state_dir_at(home: Path | None = None) -> tuple[Path, str]:
    """Return the state folder of a home, and what is wrong with its settings: empty if nothing is.

    The brake must work while settings are wrong. Raises ConfigError where the folder can't be told then.
    """
    try:
        return load(home).state_dir, ""
    except ConfigError as error:
        wrong = str(error)
    home = home if home is not None else default_home()
    stated = os.environ.get("SESSAUTH_SERVER_STATE_DIR")
    if stated is None:
        try:
            text = (home / "sessauth.toml").read_text("utf-8", "replace")
        except OSError:
            text = ""
        try:
            server = tomllib.loads(text).get("server")
            stated = server.get("state_dir", "") if isinstance(server, dict) else ""
        except tomllib.TOMLDecodeError:
            stated = None if _STATE_DIR.search(text) else ""
    if not isinstance(stated, str):
        raise ConfigError(f"{wrong}; so the state folder can't be told: name it with --state")
    return home / (stated or "state"), wrong


def from_dict(table: Mapping[str, Any]) -> Config:
    """Build a :class:`Config` from plain values and check it. Raises :class:`ConfigError`."""
    unknown = sorted(set(table) - {"home", "file_stamp", "identities", *SECTIONS})
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such section; known: {', '.join([*SECTIONS, 'identities'])}")
    entries = table.get("identities", [])
    if not isinstance(entries, (list, tuple)):
        raise ConfigError("identities: must be a list of tables, [[identities]]")
    stamp = table.get("file_stamp")
    config = Config(
        home=Path(table.get("home") or default_home()),
        file_stamp=None if stamp is None else tuple(stamp),
        identities=tuple(_section(f"identities[{i}]", Identity, entry) for i, entry in enumerate(entries)),
        **{name: _section(name, kind, table.get(name, {})) for name, kind in SECTIONS.items()},
    )
    _check(config)
    return config


def _overrides(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    found = []
    keys = tuple(f"_{key.upper()}" for kind in SECTIONS.values() for key in get_type_hints(kind))
    for name, text in environ.items():
        stated = [section for section in SECTIONS if name.startswith(f"SESSAUTH_{section.upper()}_")]
        for section in stated:
            found.append((section, name.removeprefix(f"SESSAUTH_{section.upper()}_").lower(), text))
        # Other names that begin alike may be anybody's; one that ends in a setting was meant for us.
        if not stated and name.startswith("SESSAUTH_") and name.endswith(keys):
            raise ConfigError(f"{name}: names no section; known: {', '.join(SECTIONS)}")
    return found


def _from_text(section: str, key: str, text: str) -> Any:
    expected = get_type_hints(SECTIONS[section]).get(key)
    if expected is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if expected is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"SESSAUTH_{section.upper()}_{key.upper()}: must be a whole number") from None
    if expected is float:
        try:
            return float(text)
        except ValueError:
            raise ConfigError(f"SESSAUTH_{section.upper()}_{key.upper()}: must be a number") from None
    return text


def _section(where: str, kind: type, table: object) -> Any:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: must be a table, [{where}]")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        expected = hints.get(key)
        if expected is None:
            raise ConfigError(f"{where}.{key}: no such key; known: {', '.join(hints)}")
        if expected is float and type(value) is int:
            value = float(value)
        if expected in (bool, int, float, str):
            if type(value) is not expected:
                raise ConfigError(f"{where}.{key}: must be {_words(expected)}, not {value!r}")
            values[key] = value
        else:
            if not isinstance(value, (list, tuple)) or not all(type(text) is str for text in value):
                raise ConfigError(f"{where}.{key}: must be a list of strings")
            values[key] = tuple(value)
    missing = [
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.default is dataclasses.MISSING and entry.name not in values
    ]
    if missing:
        raise ConfigError(f"{where}.{missing[0]}: is required")
    return kind(**values)


def _words(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[kind]


def _check(config: Config) -> None:
    """Refuse what contradicts itself. Raises :class:`ConfigError`."""
    tcp = config.tcp
    if (tcp.address or tcp.check_address) and not tcp.insecure_tcp:
        if not (tcp.certificate and tcp.private_key):
            raise ConfigError(
                "tcp.certificate, tcp.private_key: TCP needs TLS; state both files, or set "
                "tcp.insecure_tcp = true to send credentials and tokens in the clear"
            )
    if tcp.insecure_tcp and (tcp.certificate or tcp.client_ca):
        raise ConfigError("tcp.insecure_tcp: contradicts tcp.certificate; remove one of them")
    if tcp.check_address and config.server.workers == 0:
        raise ConfigError("tcp.check_address: is served by workers; set server.workers to 1 or more")
    if not 0 <= config.server.workers <= 64:
        raise ConfigError("server.workers: must be 0 to 64")
    if config.server.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError("server.log_level: must be DEBUG, INFO, WARNING or ERROR")
    for name in (entry.name for entry in dataclasses.fields(LimitSettings)):
        if getattr(config.limits, name) < 1:
            raise ConfigError(f"limits.{name}: must be at least 1")
    if not 1_000 <= config.sessions.default_ttl_ms <= config.sessions.max_ttl_ms:
        raise ConfigError("sessions.default_ttl_ms: must be 1000 to sessions.max_ttl_ms")
    if not MIN_PROOF_KEY_LIFETIME_MS <= config.proofs.key_lifetime_ms <= limits.MAX_TIME_MS:
        raise ConfigError(f"proofs.key_lifetime_ms: must be at least {MIN_PROOF_KEY_LIFETIME_MS}")
    slots = config.proofs.replay_slots
    if not 256 <= slots <= 1 << 28 or slots & (slots - 1):
        raise ConfigError("proofs.replay_slots: must be a power of two from 256 to 268435456")
    audit_settings.check(config.audit)
    sections.check(config.metrics, config.tracing)
    usage_settings.check(config.usage)
    if not 0 <= config.evidence.receipt_wait_ms <= MAX_RECEIPT_WAIT_MS:
        raise ConfigError(f"evidence.receipt_wait_ms: must be 0 to {MAX_RECEIPT_WAIT_MS}")
    identity_settings.check(config.identities, client_ca=tcp.client_ca)
