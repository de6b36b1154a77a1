"""Section ``[cluster]`` of ``sessauth.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ...errors import ConfigError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
# The schemes of a PostgreSQL connection URI, which is one entry of ``engine``.
POSTGRES: Final = ("postgresql://", "postgres://")
ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
# Below it a pause of the machine is taken for a lost engine; above it an end takes too long to count.
MIN_STALENESS_MS: Final = 1_500
MAX_STALENESS_MS: Final = 60_000


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
