"""Digests of the kernel's sources, so that a missing or stale extension is refused at import.

``setup.py`` calls :func:`write` after the build; ``sessauth._fast`` calls :func:`verify` when it is
imported. Where the sources are not installed (a wheel), only presence is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_NAME = "build.json"
_INCLUDE = re.compile(r'^include "([\w./]+)"$', re.M)
_HINT = "build the kernel: `make build`, or `python setup.py build_ext --inplace`"


def modules(folder: Path) -> dict[str, list[Path]]:
    """Return for each module below a folder its ``.pyx`` and the files that it includes, in their order.

    The key is the path below the folder without its suffix, for example ``_check``.
    """
    sources = {path: [path, *_included(path)] for path in sorted(folder.rglob("*.pyx"))}
    included = {path for files in sources.values() for path in files[1:]}
    return {
        path.relative_to(folder).with_suffix("").as_posix(): files
        for path, files in sources.items()
        if path not in included
        # The native server needs epoll, and is built only on systems that have it.
        if sys.platform == "linux" or "http2" not in path.stem
    }


def digests(folder: Path) -> dict[str, str]:
    """Return for each module below a folder a digest of its files and of all ``.pxd`` files, in hex."""
    shared = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.pxd")))
    return {
        name: hashlib.blake2b(
            b"".join(path.read_bytes() for path in files) + shared, digest_size=16
        ).hexdigest()
        for name, files in modules(folder).items()
    }


def _included(path: Path) -> list[Path]:
    return [path.parent / name for name in _INCLUDE.findall(path.read_text(encoding="utf-8"))]


def write(sources: Path, target: Path) -> None:
    """Record in ``target`` that its extensions were built from ``sources``."""
    (target / _NAME).write_text(json.dumps(digests(sources), indent=1) + "\n", encoding="ascii")


def verify(folder: Path | None = None) -> None:
    """Check that every extension is there and none is older than its source.

    Raises:
        ImportError: naming the extension, and how to build it.
    """
    folder = folder or Path(__file__).parent
    try:
        built = json.loads((folder / _NAME).read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise ImportError(f"the kernel was not built: {_HINT}") from None
    for name in built:
        if not any((folder / f"{name}{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
            raise ImportError(_missing(folder, name))
    for name, digest in digests(folder).items():
        if built.get(name) != digest:
            raise ImportError(f"the kernel's extension {name} is older than its source: {_HINT}")


def _missing(folder: Path, name: str) -> str:
    """Return the message for an extension that is missing for this Python."""
    others = sorted(path.name.split(".")[1] for path in folder.glob(f"{name}.*.so"))
    if not others:
        return f"the kernel's extension {name} is missing: {_HINT}"
    return (
        f"the kernel is built for {', '.join(others)}, and {sys.executable} is Python "
        f"{sys.version.split()[0]}: use the Python that built it (in a checkout `. .venv/bin/activate`), or "
        "`python setup.py build_ext --inplace` with this one"
    )
