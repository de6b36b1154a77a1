"""A kernel that is missing, or older than its source, is refused at import and never worked around."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sessauth._fast import _stamp
from tests.support.tree import PACKAGE, ROOT

KERNEL = PACKAGE / "_fast"
# Each module's own file and those that it includes, by its path below the kernel's folder without the suffix.
MODULES = _stamp.modules(KERNEL)
# A module's own file, the last that it includes, and one that all depend on.
SOURCES = sorted(
    {path for files in MODULES.values() for path in (files[0], files[-1])} | {next(KERNEL.rglob("*.pxd"))}
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the kernel as it stands, sources and built modules, in a package of its own."""
    target = tmp_path / "sessauth"
    shutil.copytree(KERNEL, target / "_fast", ignore=shutil.ignore_patterns("*.c", "__pycache__"))
    (target / "__init__.py").touch()
    return target / "_fast"


def _import(kernel: Path, module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            _PROGRAM,
            str(kernel.parents[1]),
            *_site_packages(),
            module.replace("/", "."),
        ],
        capture_output=True,
        text=True,
        cwd=kernel.parents[1],
    )


_PROGRAM = "import sys; sys.path[:0] = sys.argv[1:-1]; __import__('sessauth._fast.' + sys.argv[-1])"


def _site_packages() -> list[str]:
    """Return where PyNaCl is, without the tree or an editable install of it in reach."""
    return [path for path in sys.path if path.endswith("site-packages")]


def test_the_kernel_as_built_is_accepted(copy: Path) -> None:
    """The copy imports, so that the refusals below are about what was done to it."""
    answer = _import(copy, "_check")

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_extension_is_refused(copy: Path, module: str) -> None:
    """Without the built module the import fails, and the message says how to build it."""
    for built in copy.glob(f"{module}.*.so"):
        built.unlink()

    answer = _import(copy, module)

    assert answer.returncode != 0
    assert "make build" in answer.stderr or "build_ext" in answer.stderr


def test_a_kernel_of_another_python_is_named(copy: Path) -> None:
    """A build for another Python is not called missing: the message names both, and the way out."""
    for built in copy.glob("_check.*.so"):
        built.rename(built.with_name("_check.cpython-399-x86_64-linux-gnu.so"))

    answer = _import(copy, "_check")

    assert answer.returncode != 0
    assert "built for cpython-399-x86_64-linux-gnu, and" in answer.stderr
    assert ".venv/bin/activate" in answer.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_stale_extension_is_refused(copy: Path, path: Path) -> None:
    """A source that changed after the build makes the import fail, and the message says what to do."""
    source = copy / path.relative_to(KERNEL)
    source.write_text(source.read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    later = time.time() + 60
    os.utime(source, (later, later))

    answer = _import(copy, "codec/errors")

    assert answer.returncode != 0
    assert "make build" in answer.stderr or "build_ext" in answer.stderr


def test_every_source_is_of_one_module(copy: Path) -> None:
    """No file is left out or included twice, and a change of one makes its module stale and no other."""
    files = [path for paths in MODULES.values() for path in paths]
    before = _stamp.digests(copy)

    assert sorted(path for path in files if path.suffix == ".pyx") == sorted(KERNEL.rglob("*.pyx"))
    assert len(files) == len(set(files))
    for module, paths in MODULES.items():
        source = copy / paths[-1].relative_to(KERNEL)
        text = source.read_text(encoding="utf-8")
        source.write_text(text + "\nCHANGED = True\n", encoding="utf-8")
        changed = {name for name, digest in _stamp.digests(copy).items() if digest != before[name]}
        source.write_text(text, encoding="utf-8")
        assert changed == {module}


def test_each_function_that_is_placed_is_there() -> None:
    """``setup.py`` places the functions of a check by their names in C; a renamed one loses its place."""
    listed = re.search(r'IN_ORDER = """(.*?)"""', (ROOT / "setup.py").read_text("utf-8"), re.S)
    source = "\n".join(path.read_text("utf-8") for path in [*MODULES["_check"], *KERNEL.rglob("*.pxd")])
    assert listed is not None
    names = listed[1].split()
    assert len(names) > 20
    assert [name for name in names if not _is_defined(name, source)] == []


def _is_defined(name: str, source: str) -> bool:
    """Find a function, a method as ``7Checker_?check``, whose class has a length before it, or a class."""
    method = re.match(r"\d+", name)
    if method is not None:
        owner, _, name = name[method.end() :].partition("_")
        if len(owner) != int(method[0]) or f"cdef class {owner}" not in source:
            return False
    pattern = rf"^ *(?:cdef|def) (?:class {name}\b|[^(\n]*\b{name.lstrip('?')}\()"
    return re.search(pattern, source, re.M) is not None
