"""Settings of the server: ``sessauth.toml``, overridden by ``SESSAUTH_<SECTION>_<KEY>``.

Every setting has a default that works on one host over a Unix socket. An unknown key is an error, in the file
and in the environment, since a misspelt limit is a missing limit. Settings hold paths of secrets, never
secrets, so they may be printed and passed to workers.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_type_hints

from ..errors import ConfigError
from ..model.host import SERVER_PREFIX
from ..state.host.folder import read_file
from .identity.providers import IdentityProvider, check_providers
from .sections import (
    AuditSettings,
    ClusterSettings,
    EvidenceSettings,
    FollowSettings,
    Identity,
    LimitSettings,
    MetricsSettings,
    ProofSettings,
    ServerSettings,
    SessionSettings,
    TcpSettings,
    TracingSettings,
    TransactionTokenSettings,
    UsageSettings,
    check_identities,
    host_and_port,
)


def default_home() -> Path:
    """Return ``$SESSAUTH_HOME``, else ``~/.local/state/sessauth``."""
    stated = os.environ.get("SESSAUTH_HOME")
    return Path(stated) if stated else Path.home() / ".local" / "state" / "sessauth"


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, and the home folder that relative paths start from."""

    home: Path = field(default_factory=default_home)
    server: ServerSettings = field(default_factory=ServerSettings)
    tcp: TcpSettings = field(default_factory=TcpSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    proofs: ProofSettings = field(default_factory=ProofSettings)
    transaction_tokens: TransactionTokenSettings = field(default_factory=TransactionTokenSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    usage: UsageSettings = field(default_factory=UsageSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    follow: FollowSettings = field(default_factory=FollowSettings)
    identities: tuple[Identity, ...] = ()
    identity_providers: tuple[IdentityProvider, ...] = ()
    # Identity of the ``sessauth.toml`` that this was read from; None: no file that could change.
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
    def host(self) -> str:
        """The name of this host among those of its cluster; empty for a single host."""
        if self.cluster.enabled:
            return SERVER_PREFIX + self.cluster.name
        return (self.follow.host_name or platform.node()) if self.follow.servers else ""

    @property
    def reports_observations(self) -> bool:
        """True if the server's verifiers report observations: if decisions are recorded at all."""
        return self.usage.enabled or self.usage.census or self.audit.enabled

    @property
    def usage_dir(self) -> Path:
        """The folder of the usage of ended sessions."""
        return self._folder(self.usage.dir, "usage")

    @property
    def socket(self) -> Path:
        """The Unix socket of the control process."""
        return self.run_dir / "sessauth.sock"

    @property
    def credentials_file(self) -> Path:
        """The hashed API keys; in the state folder, since workers read it."""
        return self.state_dir / "credentials.toml"

    @property
    def part_certificate(self) -> tuple[str, str]:
        """The certificate and private key that a server of a cluster shows to others; empty if none."""
        if not self.cluster.enabled:
            return "", ""
        if self.cluster.certificate:
            return self.cluster.certificate, self.cluster.private_key
        return self.tcp.certificate, self.tcp.private_key

    @property
    def connections(self) -> str:
        """The protection of connections between hosts, for operators: of a follower those to its servers."""
        if not self.cluster.enabled:
            return self.follow.connections
        if self.tcp.insecure_tcp:
            return "in the clear"
        if not self.tcp.client_ca:
            return "TLS without client certificates"
        names = ", which name the host" if self.cluster.require_client_certificates else ""
        return f"TLS with client certificates{names}"

    @property
    def mutual_tls(self) -> bool:
        """True if the listeners take connections by TLS with a client certificate alone."""
        return bool(self.tcp.client_ca) and not self.tcp.insecure_tcp

    def require_workers(self) -> None:
        """Raise ConfigError if none would serve ``tcp.check_address``.

        Only a start needs it: the command line may have stated how many there are.
        """
        if self.tcp.check_address and self.server.workers == 0:
            raise ConfigError("tcp.check_address: is served by workers; set server.workers to 1 or more")

    @property
    def check_addresses(self) -> str:
        """The addresses of the workers, for people; empty without workers."""
        if not self.server.workers:
            return ""
        tcp = f" or {self.tcp.check_address}" if self.tcp.check_address else ""
        return f"{self.check_socket(0)}{tcp}"

    def check_socket(self, index: int) -> Path:
        """Return the Unix socket of check worker ``index``."""
        return self.run_dir / f"check-{index}.sock"

    def path(self, stated: str) -> Path:
        """Return a stated path; a relative one starts in the home folder."""
        return self.home / stated

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, which :func:`from_dict` reads."""
        return {**dataclasses.asdict(self), "home": str(self.home)}


SECTIONS: Mapping[str, type] = {
    name: kind
    for name, kind in get_type_hints(Config).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}

# Sections that are lists of tables.
_LISTS: Final = ("identities", "identity_providers")
# Of the 128 TiB of addresses that a process has.
MAX_MAP_BYTES: Final = 1 << 46
# Used in errors.
_TYPE_NAMES: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}

# A line that may name the state folder, in a file that is no TOML.
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
    # Before the file is read: a change meanwhile differs from it.
    stamp = stamp_of(home)
    try:
        table = tomllib.loads(read_file(file).decode("utf-8"))
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
    """Return the state folder of a home, and the error in its settings, empty if there is none.

    The brake must work while settings are wrong. Raises ConfigError if they leave the folder open.
    """
    try:
        return load(home).state_dir, ""
    except ConfigError as error:
        wrong = str(error)
    home = home if home is not None else default_home()
    stated = os.environ.get("SESSAUTH_SERVER_STATE_DIR")
    if stated is None:
        try:
            text = read_file(home / "sessauth.toml").decode("utf-8", "replace")
        except OSError:
            text = ""
        try:
            server = tomllib.loads(text).get("server")
            stated = server.get("state_dir", "") if isinstance(server, dict) else ""
        except tomllib.TOMLDecodeError:
            stated = None if _STATE_DIR.search(text) else ""
    if not isinstance(stated, str):
        raise ConfigError(f"{wrong}; so the state folder is unknown: name it with --state")
    return home / (stated or "state"), wrong


def from_dict(table: Mapping[str, Any]) -> Config:
    """Build a :class:`Config` from plain values and check it. Raises :class:`ConfigError`."""
    unknown = sorted(set(table) - {"home", "file_stamp", *_LISTS, *SECTIONS})
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such section; known: {', '.join([*SECTIONS, *_LISTS])}")
    entries, providers = (table.get(name, []) for name in _LISTS)
    for name, listed in zip(_LISTS, (entries, providers), strict=True):
        if not isinstance(listed, (list, tuple)):
            raise ConfigError(f"{name}: must be a list of tables, [[{name}]]")
    stamp = table.get("file_stamp")
    config = Config(
        home=Path(table.get("home") or default_home()),
        file_stamp=None if stamp is None else tuple(stamp),
        identities=tuple(_section(f"identities[{i}]", Identity, entry) for i, entry in enumerate(entries)),
        identity_providers=tuple(
            IdentityProvider.from_table(f"identity_providers[{i}]", entry)
            for i, entry in enumerate(providers)
        ),
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
        # Other programs may use names that begin alike; one that ends in a setting is a mistake.
        if not stated and name.startswith("SESSAUTH_") and name.endswith(keys):
            raise ConfigError(f"{name}: names no section; known: {', '.join(SECTIONS)}")
    return found


def _from_text(section: str, key: str, text: str) -> Any:
    expected = get_type_hints(SECTIONS[section]).get(key)
    if expected is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if expected in (int, float):
        try:
            return expected(text)
        except ValueError:
            name = f"SESSAUTH_{section.upper()}_{key.upper()}"
            raise ConfigError(f"{name}: must be {_TYPE_NAMES[expected]}") from None
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
                raise ConfigError(f"{where}.{key}: must be {_TYPE_NAMES[expected]}, not {value!r}")
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


def _check(config: Config) -> None:
    """Refuse values out of range and contradictions. Raises :class:`ConfigError`."""
    for name in SECTIONS:
        getattr(config, name).check()
    for name in ("address", "check_address"):
        stated = getattr(config.tcp, name)
        if stated and not stated.startswith("unix:"):
            # gRPC would take a port of another number for one that is too large, and 443 for none.
            host_and_port(stated, f"tcp.{name}")
    if config.server.map_size_bytes > MAX_MAP_BYTES:
        raise ConfigError(f"server.map_size_bytes: must be at most {MAX_MAP_BYTES}, 64 TiB")
    if config.server.workers and not config.server.checks_at_control:
        if config.tcp.address and not config.tcp.check_address:
            raise ConfigError(
                "server.checks_at_control: gateways that come by TCP have no other address; state "
                "tcp.check_address too, or set it to true"
            )
    if config.cluster.enabled and not config.tcp.address:
        raise ConfigError("cluster.address: is served on TCP; set tcp.address too")
    if config.cluster.enabled and not (config.cluster.server_ca or config.tcp.insecure_tcp):
        raise ConfigError("cluster.server_ca: state the CA file of the other servers' certificates")
    if config.cluster.require_client_certificates and not config.mutual_tls:
        raise ConfigError(
            "cluster.require_client_certificates: needs tcp.client_ca, the CA file that client certificates "
            "are checked by"
        )
    check_identities(config.identities, client_ca=config.tcp.client_ca)
    check_providers(config.identity_providers)
