"""Sections of ``sessauth.toml``: their keys, defaults and checks.

Each ``check`` refuses values out of range and contradictions within its section. It raises
:class:`ConfigError` that names the key.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from .. import limits
from ..audit.write.retention import RetentionLimits
from ..audit.write.stream import STOP_MINTING, AuditOptions
from ..errors import ConfigError, UsageError
from ..model.host import AUDIENCE, ROLES

# Half a key's life must outlast a proof's time by far, so that a rotation never meets a proof on its way.
MIN_PROOF_KEY_LIFETIME_MS: Final = 120_000
# An end is answered with time to spare, even for a caller with a short deadline.
MAX_RECEIPT_WAIT_MS: Final = 5_000
OTLP: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter:OTLPSpanExporter"
# Prefix of names that only the server itself gives, such as that of its workers.
RESERVED: Final = "sessauth/"
MAX_STALENESS_MS: Final = 60_000
HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
MAX_NAME_CHARS: Final = 128
URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[\x21-\x7e]{1,2048}", re.ASCII)
THUMBPRINT: Final = re.compile(r"sha256:[0-9A-Fa-f]{64}", re.ASCII)
_IMPORT_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Section ``[server]``. Folders that are not stated lie in the home folder."""

    state_dir: str = ""
    keys_dir: str = ""
    run_dir: str = ""
    workers: int = 0
    log_level: str = "INFO"
    map_size_bytes: int = 1 << 30
    checks_at_control: bool = True

    def check(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.workers <= 64:
            raise ConfigError("server.workers: must be 0 to 64")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ConfigError("server.log_level: must be DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """Section ``[tcp]``: off unless ``address`` is stated; with TLS unless ``insecure_tcp`` is set."""

    address: str = ""
    check_address: str = ""
    certificate: str = ""
    private_key: str = ""
    client_ca: str = ""
    insecure_tcp: bool = False

    def check(self) -> None:
        """Require TLS unless ``insecure_tcp`` is set; refuse both."""
        if (self.address or self.check_address) and not self.insecure_tcp:
            if not (self.certificate and self.private_key):
                raise ConfigError(
                    "tcp.certificate, tcp.private_key: TCP needs TLS; state both files, or set "
                    "tcp.insecure_tcp = true to send credentials and tokens in the clear"
                )
        if self.insecure_tcp and (self.certificate or self.client_ca):
            raise ConfigError("tcp.insecure_tcp: contradicts tcp.certificate; remove one of them")


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Section ``[limits]``: threads and queue places per pool, times in ms, rates per second."""

    # In a cluster a call waits on its thread, so this is also how many changes one fsync can carry there.
    change_threads: int = 64
    # Two of them check; the others help while those are held up.
    check_threads: int = 4
    read_threads: int = 4
    # As many as of changes: so many ends and revocations can share an fsync.
    reserved_threads: int = 64
    stream_threads: int = 32
    # Open WatchSessions calls; threads start when they are needed.
    event_threads: int = 64
    # Open Follow and Snapshot calls of followers; threads start when they are needed.
    feed_threads: int = 1_024
    # Calls that one stream may watch, and their weight: a request, its token's chain, and 1 KiB each.
    watched_calls: int = 1024
    watched_bytes: int = 4 << 20
    # Calls that may wait for a thread of their pool before the next one is refused.
    queue_places: int = 256
    max_deadline_ms: int = 30_000
    # From a call's headers to the end of its first message.
    receive_ms: int = 2_000
    # How long the client of a stream may leave sent messages unread.
    slow_reader_ms: int = 10_000
    drain_ms: int = 5_000
    # Failed signatures that one peer may cause at once, and how many it regains each second.
    failed_signatures_burst: int = 1_000
    failed_signatures_per_second: int = 100
    cache_bytes: int = 64 << 20
    # Verified chains of calls that cost something, which the writer checks again.
    writer_cache_bytes: int = 16 << 20

    def check(self) -> None:
        """Refuse values out of range."""
        for entry in dataclasses.fields(self):
            if getattr(self, entry.name) < 1:
                raise ConfigError(f"limits.{entry.name}: must be at least 1")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Section ``[sessions]``: lifetimes in ms."""

    default_ttl_ms: int = 3_600_000
    max_ttl_ms: int = 86_400_000

    def check(self) -> None:
        """Require a default within the maximum."""
        if not 1_000 <= self.default_ttl_ms <= self.max_ttl_ms:
            raise ConfigError("sessions.default_ttl_ms: must be 1000 to sessions.max_ttl_ms")


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """Section ``[proofs]``: the host's keys for proofs of bound tokens, and its table of used proofs."""

    # A key that leaked is worthless after this; holders ask for a new one every half of it.
    key_lifetime_ms: int = 3_600_000
    # Each proof takes one for a minute, 8 bytes: enough for some 8,000 a second, 500 of them of one holder.
    replay_slots: int = 1_048_576

    def check(self) -> None:
        """Refuse values out of range."""
        if not MIN_PROOF_KEY_LIFETIME_MS <= self.key_lifetime_ms <= limits.MAX_TIME_MS:
            raise ConfigError(f"proofs.key_lifetime_ms: must be at least {MIN_PROOF_KEY_LIFETIME_MS}")
        if not 256 <= self.replay_slots <= 1 << 28 or self.replay_slots & (self.replay_slots - 1):
            raise ConfigError("proofs.replay_slots: must be a power of two from 256 to 268435456")


# How long a new key of transaction tokens is published before it signs, and after it signed last.
TRANSACTION_KEY_SHOWN_MS: Final = 86_400_000
MAX_TRANSACTION_TTL_MS: Final = 60_000
# Ed25519 by the name of RFC 8037.
EDDSA: Final = "EdDSA"
TRANSACTION_ALGORITHMS: Final = (EDDSA, "ES256", "RS256")


@dataclass(frozen=True, slots=True)
class TransactionTokenSettings:
    """Section ``[transaction_tokens]``: off unless ``issuer`` is stated. Times in ms.

    ``issuer`` is the tokens' ``iss``, ``trust_domains`` are those who may be their ``aud``.
    """

    issuer: str = ""
    trust_domains: tuple[str, ...] = ()
    algorithm: str = EDDSA
    ttl_ms: int = 15_000
    # A new key is made this long after the last one.
    key_lifetime_ms: int = 7_776_000_000

    def check(self) -> None:
        """Refuse values out of range and contradictions."""
        if bool(self.issuer) != bool(self.trust_domains):
            raise ConfigError(
                "transaction_tokens.issuer, transaction_tokens.trust_domains: go together; state both or "
                "neither"
            )
        for name, values in (("issuer", (self.issuer,)), ("trust_domains", self.trust_domains)):
            if any(len(value) > 1024 or not value.isprintable() for value in values):
                raise ConfigError(f"transaction_tokens.{name}: must be printable, up to 1024 characters")
        if not all(self.trust_domains) or len(set(self.trust_domains)) < len(self.trust_domains):
            raise ConfigError("transaction_tokens.trust_domains: has an empty one, or one twice")
        if self.algorithm not in TRANSACTION_ALGORITHMS:
            raise ConfigError(
                f"transaction_tokens.algorithm: must be one of {', '.join(TRANSACTION_ALGORITHMS)}"
            )
        if not 1_000 <= self.ttl_ms <= MAX_TRANSACTION_TTL_MS:
            raise ConfigError(f"transaction_tokens.ttl_ms: must be 1000 to {MAX_TRANSACTION_TTL_MS}")
        least = 2 * TRANSACTION_KEY_SHOWN_MS
        if not least <= self.key_lifetime_ms <= limits.MAX_TIME_MS:
            raise ConfigError(f"transaction_tokens.key_lifetime_ms: must be at least {least}, two days")


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Section ``[audit]``: recording of decisions, off unless ``enabled``. Times in ms, sizes in bytes.

    The folder is ``audit`` in the home folder unless ``dir`` is stated.
    """

    enabled: bool = False
    dir: str = ""
    # The share of allows that is recorded; every denial is.
    sample_allows: float = 1.0
    # Decisions that may wait to be recorded, and records that may wait for the disk; in each process.
    queue_bytes: int = 16 << 20
    when_full: str = STOP_MINTING
    rotate_bytes: int = 64 << 20
    fsync_ms: int = 1_000
    checkpoint_ms: int = 10_000
    # Closed files go when one of these is exceeded; 0: never.
    keep_days: int = 0
    keep_bytes: int = 0
    keep_files: int = 0

    @property
    def limits(self) -> RetentionLimits:
        """The limits of the folder."""
        return RetentionLimits(self.keep_days, self.keep_bytes, self.keep_files)

    def options(self, folder: Path) -> AuditOptions:
        """Return the options of a stream in ``folder``. Raises UsageError that names the key."""
        stated = {item.name: getattr(self, item.name) for item in dataclasses.fields(AuditOptions)}
        return AuditOptions(**{**stated, "dir": folder})

    def check(self) -> None:
        """Refuse values out of range."""
        try:
            self.options(Path("audit"))
        except UsageError as error:
            raise ConfigError(str(error)) from None
        for name in ("keep_days", "keep_bytes", "keep_files"):
            if getattr(self, name) < 0:
                raise ConfigError(f"audit.{name}: must be 0, for no limit, or more")
        if 0 < self.keep_bytes < 2 * self.rotate_bytes:
            raise ConfigError("audit.keep_bytes: must be 0, or twice audit.rotate_bytes or more")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Section ``[metrics]``: HTTP without TLS, on the loopback unless ``insecure_http`` is set."""

    address: str = ""
    insecure_http: bool = False

    def check(self) -> None:
        """Require a loopback address unless ``insecure_http`` is set."""
        if self.address:
            host, _ = host_and_port(self.address)
            if not is_loopback(host) and not self.insecure_http:
                raise ConfigError(
                    f"metrics.address: {host} may be reached from other machines, and metrics are served "
                    "without TLS or credential; use 127.0.0.1, or set metrics.insecure_http = true if you "
                    "mean it"
                )


def host_and_port(address: str, setting: str = "metrics.address") -> tuple[str, int]:
    """Return the parts of HOST:PORT, or of [HOST]:PORT for IPv6. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{setting}: must be HOST:PORT, not {address!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a host of that name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Section ``[tracing]``. ``exporter`` is the class that spans are sent to, as ``module:Class``.

    A tracer provider that the process has already, from ``opentelemetry-instrument`` for instance, takes
    precedence.
    """

    enabled: bool = False
    exporter: str = OTLP

    def check(self) -> None:
        """Require the form of an import path."""
        if not _IMPORT_PATH.fullmatch(self.exporter):
            raise ConfigError(f"tracing.exporter: must be module:Class, not {self.exporter!r}")


@dataclass(frozen=True, slots=True)
class UsageSettings:
    """Section ``[usage]``: observations of sessions. Sizes in bytes, times in ms.

    The folder is ``usage`` in the home folder unless ``dir`` is stated.
    """

    # Report observed blocks, and uses after the end, even if nothing else records decisions.
    census: bool = False
    # Store values of arguments of allowed calls too, for reports: in memory and in files of mode 0600.
    enabled: bool = False
    dir: str = ""
    # In memory, and as many again in files.
    max_sessions: int = 4_096
    max_bytes: int = 64 << 20
    max_session_bytes: int = 4 << 20
    max_stored_bytes: int = 256 << 20
    # How long the file of a session that ended is stored.
    keep_ms: int = 30 * 86_400_000

    def check(self) -> None:
        """Refuse values out of range."""
        for name in ("max_sessions", "max_bytes", "max_session_bytes", "max_stored_bytes", "keep_ms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"usage.{name}: must be at least 1")


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Section ``[evidence]``: receipts that sessions are over. Times in ms."""

    # How long the answer to an end may wait for verifiers to acknowledge it; 0: not at all.
    receipt_wait_ms: int = 200

    def check(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.receipt_wait_ms <= MAX_RECEIPT_WAIT_MS:
            raise ConfigError(f"evidence.receipt_wait_ms: must be 0 to {MAX_RECEIPT_WAIT_MS}")


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """Section ``[follow]``: the cluster that ``sessauth follow`` feeds this host from. Files are PEM."""

    # HOST:PORT of each server.
    servers: tuple[str, ...] = ()
    # The name of this host in the cluster; empty: the machine's.
    host_name: str = ""
    # The file of an API key with the role follower, or a client certificate with that role.
    credential: str = ""
    certificate: str = ""
    private_key: str = ""
    # The CA that may sign the servers' certificates; empty: those that the machine trusts.
    server_ca: str = ""
    insecure_tcp: bool = False
    # How long calls may be allowed after the last proof that this host has all of the log.
    staleness_ms: int = 3_000

    @property
    def connections(self) -> str:
        """The protection of connections to servers, for operators."""
        if self.insecure_tcp:
            return "in the clear"
        return f"TLS {'with' if self.certificate else 'without'} a client certificate"

    def check(self) -> None:
        """Refuse values out of range."""
        if not 1_000 <= self.staleness_ms <= MAX_STALENESS_MS:
            raise ConfigError(f"follow.staleness_ms: must be 1000 to {MAX_STALENESS_MS}")
        if self.host_name and not HOST.fullmatch(self.host_name):
            raise ConfigError("follow.host_name: must be 1 to 64 letters, digits, '.', '_' or '-'")
        if bool(self.certificate) != bool(self.private_key):
            raise ConfigError("follow.certificate, follow.private_key: go together; state both or neither")
        if self.insecure_tcp and (self.certificate or self.server_ca):
            raise ConfigError("follow.insecure_tcp: contradicts TLS; remove one of them")


@dataclass(frozen=True, slots=True)
class Identity:
    """One ``[[identities]]`` entry: a client certificate and its role.

    ``uri`` is a URI SAN (SPIFFE ids included); ``thumbprint`` is ``sha256:`` and 64 hex digits of
    the certificate in DER. One of them is stated.
    """

    name: str
    role: str
    uri: str = ""
    thumbprint: str = ""
    audiences: tuple[str, ...] = ()

    def check(self, where: str) -> tuple[str, str]:
        """Return the key that names the certificate, and its value in canonical form.

        ``where`` names the entry in errors.
        """
        name = self.name
        if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
            raise ConfigError(
                f"{where}.name: must be 1 to {MAX_NAME_CHARS} printable characters without blanks around them"
            )
        if name.startswith(RESERVED):
            raise ConfigError(
                f"{where}.name: names that begin with {RESERVED} are the server's own; choose another"
            )
        if self.role not in ROLES:
            raise ConfigError(f"{where}.role: must be one of {', '.join(ROLES)}")
        for audience in self.audiences:
            if not AUDIENCE.fullmatch(audience):
                raise ConfigError(
                    f"{where}.audiences: each must be 1 to 256 characters without quotes, '\\' and control "
                    "characters"
                )
        if bool(self.uri) == bool(self.thumbprint):
            raise ConfigError(f"{where}: state either uri or thumbprint")
        if self.uri:
            if not URI.fullmatch(self.uri):
                raise ConfigError(f"{where}.uri: must be a URI as written in the certificate, scheme://...")
            return "uri", self.uri
        if not THUMBPRINT.fullmatch(self.thumbprint):
            raise ConfigError(f"{where}.thumbprint: must be 'sha256:' and 64 hex digits")
        return "thumbprint", self.thumbprint.lower()


def check_identities(identities: Sequence[Identity], *, client_ca: str) -> None:
    """Refuse entries that name no certificate, or one of another entry. Raises ConfigError."""
    certificates: dict[tuple[str, str], int] = {}
    principals: dict[str, tuple[int, Identity]] = {}
    for index, entry in enumerate(identities):
        where = f"identities[{index}]"
        kind, certificate = entry.check(where)
        other = certificates.setdefault((kind, certificate), index)
        if other != index:
            raise ConfigError(f"{where}.{kind}: is that of identities[{other}] too; remove one of them")
        first, known = principals.setdefault(entry.name, (index, entry))
        if (known.role, known.audiences) != (entry.role, entry.audiences):
            raise ConfigError(
                f"{where}.name: is that of identities[{first}], which has another role or other audiences"
            )
    if identities and not client_ca:
        raise ConfigError(
            "identities: need tcp.client_ca, the CA file that client certificates are checked by"
        )


NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
# The schemes of a PostgreSQL connection URI, which is one entry of ``engine``.
POSTGRES: Final = ("postgresql://", "postgres://")
ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
# Below it a pause of the machine is taken for a lost engine; above it an end takes too long to count.
MIN_STALENESS_MS: Final = 1_500


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """A server's part in a cluster: off unless ``engine`` is stated. Times in ms.

    ``engine`` are the members of etcd, HOST:PORT each, or one connection URI of PostgreSQL. ``address`` is
    where other hosts reach this server, HOST:PORT.
    """

    name: str = ""
    address: str = ""
    engine: tuple[str, ...] = ()
    engine_ca: str = ""
    engine_certificate: str = ""
    engine_private_key: str = ""
    insecure_engine: bool = False
    # A PostgreSQL without a synchronous standby: its acknowledged records are lost with its disk.
    engine_without_standby: bool = False
    # The CA of the servers' certificates, for calls this server forwards to the leader; empty: in the clear,
    # which tcp.insecure_tcp must allow.
    server_ca: str = ""
    # Shown to other servers; empty: those of [tcp].
    certificate: str = ""
    private_key: str = ""
    # Refuse servers and followers whose client certificate does not name them.
    require_client_certificates: bool = False
    # How long a host may allow after its last proof that it is fresh.
    staleness_ms: int = 3_000
    # How long the lead of a server that died is kept from others.
    lead_ttl_ms: int = 5_000

    @property
    def enabled(self) -> bool:
        """True if this server is one of a cluster."""
        return bool(self.engine)

    @property
    def postgres(self) -> bool:
        """True if PostgreSQL carries the log."""
        return any(entry.startswith(POSTGRES) for entry in self.engine)

    def check(self) -> None:
        """Refuse values out of range and contradictions."""
        if not self.enabled:
            if self.name or self.address:
                raise ConfigError(
                    "cluster.engine: state the members of etcd too, HOST:PORT each, or PostgreSQL's URI"
                )
            return
        if not NAME.fullmatch(self.name):
            raise ConfigError("cluster.name: must be 1 to 32 of a-z, 0-9, '.' and '-'")
        members = () if self.postgres else self.engine
        for key, addresses in (("address", (self.address,)), ("engine", members)):
            for address in addresses:
                if not ADDRESS.fullmatch(address):
                    # A URI that is mistyped may have a password.
                    stated = "" if "@" in address else f", not {address!r}"
                    raise ConfigError(f"cluster.{key}: must be HOST:PORT{stated}")
        if self.postgres:
            self._check_postgres()
        else:
            self._check_etcd()
        if bool(self.certificate) != bool(self.private_key):
            raise ConfigError("cluster.certificate, cluster.private_key: go together; state both or neither")
        if not MIN_STALENESS_MS <= self.staleness_ms <= MAX_STALENESS_MS:
            raise ConfigError(f"cluster.staleness_ms: must be {MIN_STALENESS_MS} to {MAX_STALENESS_MS}")
        if not 2_000 <= self.lead_ttl_ms <= 60_000:
            raise ConfigError("cluster.lead_ttl_ms: must be 2000 to 60000")

    def _check_etcd(self) -> None:
        if self.engine_without_standby:
            raise ConfigError("cluster.engine_without_standby: is for PostgreSQL alone")
        files = (self.engine_ca, self.engine_certificate, self.engine_private_key)
        if self.insecure_engine and any(files):
            raise ConfigError("cluster.insecure_engine: contradicts cluster.engine_ca; remove one of them")
        if not self.insecure_engine and not all(files):
            raise ConfigError(
                "cluster.engine_ca, engine_certificate, engine_private_key: the engine needs TLS with client "
                "certificates; state the three files, or set cluster.insecure_engine = true"
            )

    def _check_postgres(self) -> None:
        """Refuse anything but a single URI without a password. No message has the URI."""
        if len(self.engine) != 1:
            raise ConfigError("cluster.engine: must be one URI of PostgreSQL, with all of its hosts in it")
        if self.engine_ca or self.engine_certificate or self.engine_private_key:
            raise ConfigError(
                "cluster.engine_ca, engine_certificate, engine_private_key: are for etcd; state sslrootcert, "
                "sslcert and sslkey in the URI of PostgreSQL"
            )
        try:
            uri = urlsplit(self.engine[0])
        except ValueError:
            raise ConfigError("cluster.engine: is not a connection URI of PostgreSQL") from None
        options = dict(parse_qsl(uri.query, keep_blank_values=True))
        if uri.password is not None or options.keys() & {"password", "sslpassword"}:
            raise ConfigError(
                "cluster.engine: has a password; use a password file (passfile) or a client certificate"
            )
        if not self.insecure_engine and options.get("sslmode") != "verify-full":
            raise ConfigError(
                "cluster.engine: state sslmode=verify-full in the URI of PostgreSQL, or set "
                "cluster.insecure_engine = true"
            )
