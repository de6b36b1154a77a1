"""The contents of a wheel and an sdist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import sessauth
from sessauth._fast import _stamp
from sessauth.cli.main import COMMANDS, cli
from tests.support.tree import PACKAGE, ROOT


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


def test_a_wheel_has_the_version_of_the_package() -> None:
    """The version is stated once, in the package."""
    program = (
        "import setuptools\n"
        "distribution = setuptools.dist.Distribution()\n"
        "distribution.parse_config_files()\nprint(distribution.get_version())\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

    assert ran.stdout.strip() == sessauth.__version__


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


def test_type_checkers_find_the_installed_package(tmp_path: Path) -> None:
    """A program outside of the tree has the types of the client, in an editable install too."""
    pytest.importorskip("mypy", reason="needs mypy (group dev)")
    program = tmp_path / "program.py"
    program.write_text("from sessauth.errors import UsageError\n\nUsageError.no_such\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", program.name]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MYPY", "PYTHON"))
    }
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert ran.stdout.splitlines()[-1].startswith("Found 1 error"), ran.stdout
    assert 'has no attribute "no_such"' in ran.stdout


def test_a_wheel_holds_the_pages_of_the_console(wheel_files: set[str]) -> None:
    """Its templates, its stylesheet, its script and its picture are installed, and no file of others."""
    folders = [PACKAGE / "console" / name for name in ("templates", "static")]
    expected = {str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir()}

    assert len(expected) > 15
    assert expected <= wheel_files
    assert {Path(name).suffix for name in expected} == {".html", ".css", ".js", ".svg"}


@pytest.fixture(scope="module")
def man_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the manual pages of a wheel by name, written as setup.py has them written."""
    folder = tmp_path_factory.mktemp("man")
    program = (
        "import runpy, sys\n"
        "import setuptools\n"
        "setuptools.setup = lambda **terms: made.update(terms)\nmade = {}\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
        f"distribution = setuptools.dist.Distribution({{'script_name': 'setup.py', **made}})\n"
        f"distribution.get_command_obj('build').build_base = {str(folder)!r}\n"
        "distribution.run_command('build_man')\n"
        "for folder, files in distribution.data_files: print(folder, *files, sep='\\n')\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    where, *files = ran.stdout.splitlines()
    assert where == "share/man/man1"
    return {Path(file).name.removesuffix(".1"): ROOT / file for file in files}


def test_a_wheel_holds_a_manual_page_of_each_command(man_pages: dict[str, Path]) -> None:
    """A page has each option and each example of its command or its group, and no date."""
    assert man_pages.keys() == {"sessauth", *(f"sessauth-{name}" for name in COMMANDS)}
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        source = man_pages[f"sessauth-{name}"].read_text()
        page = re.sub(r"\\(-|\(aq|\(dq)", lambda found: {"-": "-", "(aq": "'", "(dq": '"'}[found[1]], source)
        assert f'.TH SESSAUTH-{name.upper()} 1 "" ' in page
        assert command is not None
        below = command.commands.values() if isinstance(command, click.Group) else ()
        for each in (command, *below):
            options = [option for parameter in each.params for option in parameter.opts if option[:2] == "--"]
            assert [option for option in options if not re.search(rf"^\.B {option}\b", page, re.M)] == []
            assert all(line in page for line in (each.epilog or "").splitlines()[2:])


@pytest.mark.skipif(
    shutil.which("groff") is None and not os.environ.get("SESSAUTH_TEST_GROFF"), reason="needs groff"
)
def test_manual_pages_are_read_without_a_warning(man_pages: dict[str, Path]) -> None:
    """A stray request or a character that can't be shown would be one."""
    command = ["groff", "-K", "utf8", "-man", "-ww", "-T", "utf8", "-z", *man_pages.values()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_wheel_holds_only_the_package(wheel_files: set[str]) -> None:
    """Neither tests nor the oracle nor tools are shipped: the package, and the fixture of pytest."""
    assert {name.split("/")[0] for name in wheel_files} == {"sessauth", "sessauth_pytest.py"}


def test_extensions_are_small() -> None:
    """The few extensions as built take less than 2 MB: they carry no debug information."""
    built = list((PACKAGE / "_fast").rglob("*.so"))

    assert len(built) == len(_stamp.modules(PACKAGE / "_fast"))
    assert len(built) <= 4
    assert sum(path.stat().st_size for path in built) < 2_000_000


def _build(target: Path, before: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    program = f"{before}\nimport runpy, sys\nsys.argv[1:] = ['-q', 'build_ext', '-b', {str(target)!r}]\n"
    return subprocess.run(
        [sys.executable, "-c", f"{program}runpy.run_path('setup.py', run_name='__main__')"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


NO_HEADERS = "import sysconfig\nsysconfig.get_path = lambda *_: '/no/such/include'"


@pytest.mark.parametrize(
    ("before", "compiler", "missing"),
    [
        ("", "no-such-compiler", "no C compiler 'no-such-compiler'"),
        (NO_HEADERS, "true", "headers are missing"),
    ],
    ids=["no compiler", "no headers"],
)
def test_what_can_not_be_compiled_says_what_to_install(
    tmp_path: Path, before: str, compiler: str, missing: str
) -> None:
    """Without a compiler or Python's headers the build ends in one line, which says what to install."""
    answer = _build(tmp_path, before, CC=compiler)

    assert answer.returncode == 1
    assert missing in answer.stderr
    assert "gcc python3-dev" in answer.stderr and "gcc python3-devel" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_every_kernel_module_has_its_types() -> None:
    """Each extension that Python imports has a .pyi beside it, which ``make lint`` checks."""
    untyped = [
        name
        for name, paths in _stamp.modules(PACKAGE / "_fast").items()
        if not paths[0].with_suffix(".pyi").exists()
        and any("\ndef " in path.read_text(encoding="utf-8") for path in paths)
    ]

    assert untyped == []


def test_runtime_dependencies_have_lower_bounds_and_no_pins() -> None:
    """A library's bounds say what it needs: a floor for each, no exact version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert all(">=" in dependency and "==" not in dependency for dependency in project["dependencies"])
