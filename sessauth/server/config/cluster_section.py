"""Section ``[cluster]`` of ``sessauth.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
# Below it a pause of the machine is taken for a lost engine; above it an end takes too long to count.
MIN_STALENESS_MS: Final = 1_500
MAX_STALENESS_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """A server's part in a cluster: off unless ``engine`` is stated. Times in ms.

    ``engine`` are the members of etcd and ``address`` is where other hosts reach this server, HOST:PORT
    each.
    """

    name: str = ""
    address: str = ""
    engine: tuple[str, ...] = ()
    engine_ca: str = ""
    engine_certificate: str = ""
    engine_private_key: str = ""
    insecure_engine: bool = False
    # The CA of the servers' certificates, for what this server hands on to the leader; empty: in the clear,
    # which tcp.insecure_tcp must allow.
    server_ca: str = ""
    # How long a host may allow after its last proof that it is fresh.
    staleness_ms: int = 3_000
    # How long the lead of a server that died is kept from others.
    lead_ttl_ms: int = 5_000

    @property
    def enabled(self) -> bool:
        """True if this server is one of a cluster."""
        return bool(self.engine)

    def check(self) -> None:
        """Refuse values out of range and contradictions."""
        if not self.enabled:
            if self.name or self.address:
                raise ConfigError("cluster.engine: state the members of etcd too, HOST:PORT each")
            return
        if not NAME.fullmatch(self.name):
            raise ConfigError("cluster.name: must be 1 to 32 of a-z, 0-9, '.' and '-'")
        for key, addresses in (("address", (self.address,)), ("engine", self.engine)):
            for address in addresses:
                if not ADDRESS.fullmatch(address):
                    raise ConfigError(f"cluster.{key}: must be HOST:PORT, not {address!r}")
        files = (self.engine_ca, self.engine_certificate, self.engine_private_key)
        if self.insecure_engine and any(files):
            raise ConfigError("cluster.insecure_engine: contradicts cluster.engine_ca; remove one of them")
        if not self.insecure_engine and not all(files):
            raise ConfigError(
                "cluster.engine_ca, engine_certificate, engine_private_key: the engine needs TLS with client "
                "certificates; state the three files, or set cluster.insecure_engine = true"
            )
        if not MIN_STALENESS_MS <= self.staleness_ms <= MAX_STALENESS_MS:
            raise ConfigError(f"cluster.staleness_ms: must be {MIN_STALENESS_MS} to {MAX_STALENESS_MS}")
        if not 2_000 <= self.lead_ttl_ms <= 60_000:
            raise ConfigError("cluster.lead_ttl_ms: must be 2000 to 60000")
