"""Rules of names: one class of a name, one module of a name in a package, small folders, plain words."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.naming import classes, faults, findings, words_of
from tests.support.tree import PACKAGE, ROOT, sources

MAX_ROOT_FILES = 5
ENDINGS = (".py", ".pyx", ".pxd", ".pyi")
WRITTEN = sources(PACKAGE, *ENDINGS)

# Names of modules that stand more than once in a package, and why. The list may only shrink.
_VIEW = "a command, and the rendering of its answer"
SAME_MODULES: dict[tuple[str, str], str] = {
    ("audit", "stream"): "writes a stream; the verification's checks one",
    ("cli", "audit"): _VIEW,
    ("cli", "session"): _VIEW,
}


def _modules(package: Path) -> dict[str, set[Path]]:
    """Return the folders of each module's name; ``X.pyx``, ``X.pxd`` and ``X.pyi`` are one module."""
    folders: dict[str, set[Path]] = defaultdict(set)
    for path in WRITTEN:
        if package in path.parents and path.stem != "__init__":
            folders[path.stem].add(path.parent)
    return folders


def test_no_class_name_is_defined_twice() -> None:
    """A class is found by its name: no two files of the package define one of the same name."""
    files: dict[str, set[str]] = defaultdict(set)
    for path in WRITTEN:
        if path.suffix in (".py", ".pyx"):
            for name in classes(path):
                files[name].add(str(path.relative_to(PACKAGE)))

    assert len(files) > 400
    assert {name: sorted(paths) for name, paths in files.items() if len(paths) > 1} == {}


def test_no_module_name_stands_twice_in_a_package() -> None:
    """Within a folder of ``sessauth/`` a name is one module, but for the list, which holds no other."""
    twice = {
        (package.name, name)
        for package in PACKAGE.iterdir()
        if package.is_dir()
        for name, folders in _modules(package).items()
        if len(folders) > 1
    }

    assert twice == SAME_MODULES.keys()


def test_the_root_is_small() -> None:
    """Few files stand beside the packages."""
    stems = {path.stem for path in WRITTEN if path.parent == PACKAGE} - {"__init__"}

    assert len(stems) <= MAX_ROOT_FILES


def test_names_and_docstrings_use_plain_words() -> None:
    """No name of the package has a word of the list, and no docstring opens with a relative clause."""
    support = sources(ROOT / "tests" / "support", ".py")

    found = {line for path in (*WRITTEN, *support) for line in findings(path)}

    assert sorted(found) == [], "use the field's words, CONTRIBUTING.md has them"


@pytest.mark.parametrize(("folder", "files"), [("benchmarks", 60), ("tests", 400)])
def test_docstrings_elsewhere_use_plain_words(folder: str, files: int) -> None:
    """No docstring of tests and benchmarks opens with a relative clause."""
    written = sources(ROOT / folder, ".py", ".pyx", ".pxd")

    opened = {line for path in written for line in findings(path) if ": docstring of " in line}

    assert len(written) > files
    assert sorted(opened) == [], "open it with a verb or a noun"


def test_faults_are_found() -> None:
    """A fault of each kind is found, in Python and in Cython."""
    python = 'class ToldBy:\n  """What it is."""\n  def f(self, asked: int) -> None:\n    self.seen_ms = 0\n'
    cython = '"""Who asks."""\ncdef class Taker:\n  cdef int told_by(self) except -1:\n    pass\n'

    assert words_of("ToldBy") == words_of("_told_by") == {"told", "by"}
    assert set(faults("tap.py", python)) == {
        *("module tap", "class ToldBy", "parameter asked", "attribute seen_ms"),
        "docstring of ToldBy opens with What",
    }
    assert faults("chain.pyx", cython) == ["definition told_by", "docstring of the module opens with Who"]
