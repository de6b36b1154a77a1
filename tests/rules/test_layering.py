"""Imports point downwards only (docs/architecture.md, "Layers"). Reads the .pyx and .pxd files too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.tree import PACKAGE, imports, module_name, sources

# Lowest first. A module belongs to the layer with the longest prefix that fits its name.
LAYERS: dict[str, tuple[str, ...]] = {
    "kernel": ("_fast",),
    "words": ("errors", "reasons", "limits", "clock"),
    "data": (
        *(
            "value",
            "path",
            "segment",
            "needs",
            "record",
            "condition",
            "scope",
            "scope_form",
            "operators",
            "_scope_parser",
            "_scanner",
        ),
        *("keys", "key_record", "block", "draft", "text_form", "token", "_attenuation", "inspection"),
        *("key_file", "signing_key", "holder_public", "verifier_key"),
        *(
            "session",
            "decision_base",
            "decision_fields",
            "decision",
            "explanation",
            "meanings",
            "change",
            "consumption",
        ),
        *("catalogue", "approval", "approval_record", "approval_request", "visible", "usage", "survey"),
        *("seen", "issuer_keys", "receipt", "enrolment", "arguments"),
    ),
    "ports": ("state.ports",),
    "parties": ("issuer", "holder", "approver", "verifier_keys"),
    "state": ("state",),
    "audit": ("audit",),
    "replay": ("audit.replay",),
    "recording": ("recording",),
    "client": ("client", "v1", "seen_messages"),
    # Verifier.embedded opens a state folder and may have a server behind it: the verifier stands on state
    # and client, not beside them.
    "verifier": ("verifier", "verifier_base", "served", "enrolling", "closure", "metrics"),
    "conformance": ("conformance",),
    "edges": ("server", "cli"),
    "composition": ("server.build", "cli.main", "cli.serve", "cli.demo", "demo"),
}

_LOW = {"kernel", "words", "data"}
# What `import sessauth` itself may load: no edge, so that a gateway loads no RPC stack.
_ROOT = _LOW | {"ports", "parties", "verifier"}
MAY_IMPORT: dict[str, set[str]] = {
    "kernel": {"kernel"},
    "words": {"words"},
    "data": _LOW,
    "ports": _LOW | {"ports"},
    "parties": _LOW | {"ports", "parties"},
    "state": _LOW | {"ports", "state"},
    "audit": _LOW | {"audit"},
    "replay": _LOW | {"ports", "state", "audit", "replay"},
    "recording": _LOW | {"ports", "state", "audit", "recording"},
    "client": _LOW | {"ports", "parties", "client"},
    "verifier": _LOW | {"ports", "parties", "state", "audit", "recording", "client", "verifier"},
    "conformance": _LOW | {"conformance"},
    "edges": _LOW
    | {
        "ports",
        "parties",
        "state",
        "audit",
        "replay",
        "recording",
        "client",
        "verifier",
        "conformance",
        "edges",
    },
    "composition": set(LAYERS),
}

# Where a package of others may be imported. Anything that is not here and not in the standard library
# is not a dependency of ours.
FOREIGN: dict[str, tuple[str, ...]] = {
    "nacl": ("_fast",),
    "cpython": ("_fast",),
    "libc": ("_fast",),
    "cython": ("_fast",),
    "lmdb": ("state",),
    "grpc": ("server", "client", "v1"),
    "grpc_health": ("server", "client"),
    "google": ("server", "client", "v1"),
    "click": ("cli",),
    # Of the extras: loaded inside of functions, where they are asked for.
    "prometheus_client": ("metrics", "server.metrics"),
    "opentelemetry": ("server.tracing", "client._tracing"),
}

FILES = sources(PACKAGE, ".py", ".pyx", ".pxd")


def _inner(module: str) -> str:
    """Return the name of a module of ours without the package's, e.g. ``state.apply``."""
    return module.removeprefix("sessauth").removeprefix(".")


def _fits(inner: str, prefix: str) -> bool:
    return inner == prefix or inner.startswith(prefix + ".")


def _layer(inner: str) -> str:
    fits = [
        (len(prefix), layer)
        for layer, prefixes in LAYERS.items()
        for prefix in prefixes
        if _fits(inner, prefix)
    ]
    return max(fits)[1] if fits else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_every_import_points_downwards(path: Path) -> None:
    """A module imports only from its own layer and the layers that its layer may see."""
    inner = _inner(module_name(path))
    layer = _layer(inner)
    assert layer or not inner, f"{inner} is in no layer: add it to LAYERS"
    allowed = MAY_IMPORT[layer] if inner else _ROOT

    wrong = [
        f"line {line}: {target} is of layer {_layer(_inner(target))!r}"
        for line, target in imports(path)
        if target.startswith("sessauth.") and _layer(_inner(target)) not in allowed
    ]

    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_dependencies_stay_in_their_place(path: Path) -> None:
    """Each package of others is imported only where the table says, and no other package is."""
    inner = _inner(module_name(path))

    wrong = []
    for line, target in imports(path):
        top = target.split(".")[0]
        if top in {"sessauth", "__future__", ""} or top in sys.stdlib_module_names:
            continue
        if not any(_fits(inner, place) for place in FOREIGN.get(top, ())):
            wrong.append(f"line {line}: {target}")

    assert wrong == []


def test_the_reader_sees_cython_imports() -> None:
    """The rule reads .pyx files: the codec's import of its own table is among what it finds."""
    found = {target for _, target in imports(PACKAGE / "_fast" / "wire.pyx")}

    assert {"sessauth._fast.schema", "sessauth._fast.limits"} <= found


def test_apply_is_deterministic_by_what_it_imports() -> None:
    """The function that every follower runs sees no clock, no randomness and no I/O."""
    forbidden = {"time", "random", "secrets", "os", "io", "pathlib", "lmdb", "uuid", "datetime", "threading"}

    found = {target.split(".")[0] for _, target in imports(PACKAGE / "state" / "apply.py")}

    assert found & forbidden == set()
