"""The nine floors (docs/architecture.md): a package imports from lower floors only, in Cython too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.tree import PACKAGE, import_graph, imports, module_name, sources

# Lowest first. A package is a folder or a file directly in sessauth/.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("_fast", "errors", "reasons", "limits", "clock", "v1"),
    ("scopes", "crypto"),
    ("tokens", "model"),
    ("state", "usage", "decisions", "approvals"),
    ("audit", "client", "carriers"),
    ("verifier", "metrics", "conformance", "evidence"),
    ("server", "guard"),
    ("gateways", "console", "testing"),
    ("cli",),
)
FLOOR = {package: number for number, floor in enumerate(FLOORS, start=1) for package in floor}

# Around the core, which works without them: the command line alone loads them.
RINGS = {"gateways", "guard", "console", "evidence", "conformance", "carriers", "testing"}
# A server opens the engine of its cluster.
OPENS_RINGS = {"server.cluster.membership": "carriers"}

# Packages that `import sessauth` may load: a gateway that embeds a verifier loads no RPC stack.
NOT_FOR_ROOT = {
    *("server", "guard", "gateways", "console", "cli", "client", "v1", "metrics", "conformance", "carriers"),
    *("evidence", "testing"),
}
ROOT_MAY_IMPORT = FLOOR.keys() - NOT_FOR_ROOT

# Where a package of others may be imported. Anything that is not here and not in the standard library
# is not a dependency of ours.
FOREIGN: dict[str, tuple[str, ...]] = {
    # The reader of evidence shares nothing with the kernel.
    "nacl": ("_fast", "evidence.reader"),
    "cpython": ("_fast",),
    "libc": ("_fast",),
    "cython": ("_fast",),
    "lmdb": ("state",),
    "grpc": (
        *("server", "client", "v1", "guard.grpc", "guard.grpc_client"),
        "carriers.etcd",
    ),
    "grpc_health": ("server", "client"),
    "google": (
        *("server", "client", "v1", "guard.grpc", "guard.services.methods", "guard.agents.google_adk"),
        "carriers.etcd",
    ),
    "click": ("cli",),
    # Frameworks, each in the module of its adapter, which nothing else imports.
    "mcp": ("guard.mcp", "guard.mcp_client", "guard.fastmcp"),
    "mcp_types": ("guard.fastmcp",),
    "fastmcp": ("guard.fastmcp",),
    "httpx2": ("guard.mcp_client",),
    "langchain": ("guard.agents.langchain",),
    "langchain_core": ("guard.agents.langchain",),
    "langgraph": ("guard.agents.langchain",),
    "pydantic_ai": ("guard.agents.pydantic_ai",),
    "agents": ("guard.agents.openai_agents", "guard.agents.openai_handoffs"),
    "crewai": ("guard.agents.crewai",),
    "pydantic": ("guard.agents.crewai",),
    "pydantic_core": ("guard.agents.adapter",),
    # Extras, imported inside functions.
    "prometheus_client": ("metrics", "server.metrics"),
    "opentelemetry": ("server.rpc.tracing", "client._transport"),
    # Adapters: each imports its framework in its own module.
    "fastapi": ("guard.fastapi",),
    "uvicorn": ("gateways.http_server", "console.serving"),
    "starlette": ("console",),
    "jinja2": ("console.pages",),
    "markupsafe": ("console.pages",),
    "psycopg": ("carriers.postgres",),
    "joserfc": (
        "server.identity",
        "server.keys.transaction_keys",
        "cli.demo.login_story",
        "gateways.event_transmitter",
    ),
}

FILES = sources(PACKAGE, ".py", ".pyx", ".pxd")


def _inner(module: str) -> str:
    """Return the name of a module of ours without the package's, e.g. ``state.layout``."""
    return module.removeprefix("sessauth").removeprefix(".")


def _package(module: str) -> str:
    return _inner(module).split(".")[0]


def test_every_package_has_a_floor() -> None:
    """No package is forgotten, and none is named that is gone."""
    packages = {_package(module) for module in import_graph(PACKAGE)} - {""}

    assert packages == FLOOR.keys()


def test_a_package_imports_from_lower_floors_only() -> None:
    """Between packages imports point downwards, lazy ones and those for types too."""
    wrong = [
        f"{module} imports {target}"
        for module, targets in import_graph(PACKAGE).items()
        for target in targets
        if (source := _package(module)) and (other := _package(target)) and source != other
        if FLOOR[other] >= FLOOR[source]
    ]

    assert sorted(wrong) == []


def test_the_core_imports_no_ring() -> None:
    """No package of the core imports a ring, lazily or not, but the one that opens a cluster's engine."""
    wrong = {
        (_inner(module), other)
        for module, targets in import_graph(PACKAGE).items()
        for target in targets
        if _package(module) not in RINGS | {"cli"} and (other := _package(target)) in RINGS
    }

    assert wrong == set(OPENS_RINGS.items())


def test_the_root_loads_no_edge() -> None:
    """``import sessauth`` loads neither the server nor a client."""
    loaded = {_package(target) for _, target in imports(PACKAGE / "__init__.py")} - {""}

    assert loaded - sys.stdlib_module_names <= ROOT_MAY_IMPORT


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_dependencies_stay_in_their_place(path: Path) -> None:
    """Each package of others is imported only where the table says, and no other package is."""
    inner = _inner(module_name(path))

    wrong = []
    for line, target in imports(path):
        top = target.split(".")[0]
        if top in {"sessauth", "__future__", ""} or top in sys.stdlib_module_names:
            continue
        if not any(inner == place or inner.startswith(place + ".") for place in FOREIGN.get(top, ())):
            wrong.append(f"line {line}: {target}")

    assert wrong == []


def test_the_reader_sees_cython_imports() -> None:
    """The rule reads .pyx files: the codec's imports of its own table and from C are among what it finds."""
    found = {target for _, target in imports(PACKAGE / "_fast" / "codec" / "protobuf.pyx")}

    assert {"sessauth._fast.codec.schema", "cpython.bytes"} <= found


def test_apply_is_deterministic_by_what_it_imports() -> None:
    """The function that every follower runs sees no clock, no randomness and no I/O."""
    forbidden = {"time", "random", "secrets", "os", "io", "pathlib", "lmdb", "uuid", "datetime", "threading"}

    found = {target.split(".")[0] for _, target in imports(PACKAGE / "state" / "rules" / "apply.py")}

    assert found & forbidden == set()
