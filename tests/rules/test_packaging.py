"""What a wheel and an sdist hold."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.tree import PACKAGE, ROOT, sources


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of everything but extensions that a wheel would hold, as setuptools lays it out."""
    target = tmp_path_factory.mktemp("wheel")
    program = (
        "import setuptools\n"
        "from setuptools.command.build_py import build_py\n"
        f"distribution = setuptools.dist.Distribution({{'script_name': 'setup.py'}})\n"
        "distribution.parse_config_files()\n"
        "command = build_py(distribution)\n"
        f"command.build_lib = {str(target)!r}\n"
        "command.ensure_finalized()\n"
        "command.run()\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True, capture_output=True)
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def test_a_wheel_holds_no_kernel_source(wheel_files: set[str]) -> None:
    """No .c, .pyx or .pxd is installed."""
    assert {name for name in wheel_files if Path(name).suffix in {".c", ".pyx", ".pxd"}} == set()


def test_a_wheel_holds_every_module_and_its_types(wheel_files: set[str]) -> None:
    """Each .py and .pyi of the package is installed, and the mark that it is typed."""
    expected = {
        str(path.relative_to(ROOT))
        for suffix in ("*.py", "*.pyi")
        for path in PACKAGE.rglob(suffix)
        if "__pycache__" not in path.parts
    }

    assert expected <= wheel_files
    assert "sessauth/py.typed" in wheel_files


def test_a_wheel_holds_only_the_package(wheel_files: set[str]) -> None:
    """Neither tests nor the oracle nor tools are shipped."""
    assert {name.split("/")[0] for name in wheel_files} == {"sessauth"}


def test_every_kernel_module_has_its_types() -> None:
    """Beside each .pyx that Python imports stands a .pyi, which ``make lint`` compares with the build."""
    untyped = [
        path.name
        for path in sources(PACKAGE / "_fast", ".pyx")
        if not path.with_suffix(".pyi").exists() and "\ndef " in path.read_text(encoding="utf-8")
    ]

    assert untyped == []


def test_runtime_dependencies_have_lower_bounds_and_no_pins() -> None:
    """A library's bounds say what it needs: a floor for each, no exact version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert all(">=" in dependency and "==" not in dependency for dependency in project["dependencies"])
