"""Binary wheels name every file that they hold, and are refused if they hold too much or too little."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_added_files_stand_in_the_record(tmp_path: Path) -> None:
    """Digests and sizes are theirs, and other files stay."""
    source, target = tmp_path / "a.whl", tmp_path / "b.whl"
    with zipfile.ZipFile(source, "w") as wheel:
        wheel.writestr("pkg/module.py", b"x = 1\n")
        wheel.writestr("pkg-1.dist-info/RECORD", b"pkg/module.py,sha256=abc,6\n")

    _tool("bundle_wheel").add(source, target, {"pkg/lib.so": b"library"})

    with zipfile.ZipFile(target) as wheel:
        rows = list(csv.reader(io.StringIO(wheel.read("pkg-1.dist-info/RECORD").decode())))
        assert wheel.read("pkg/lib.so") == b"library"
        assert wheel.read("pkg/module.py") == b"x = 1\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"library").digest()).rstrip(b"=").decode()
    assert rows == [["pkg/module.py", "sha256=abc", "6"], ["pkg/lib.so", f"sha256={digest}", "7"]]


NAME = "sessauth-1-cp313-cp313-manylinux_2_34_x86_64.whl"
LIBRARY = "sessauth/_fast/libnghttp2.so.14"
PAGE = "sessauth-1.data/data/share/man/man1/sessauth.1"


@pytest.mark.parametrize(
    ("name", "more", "missing", "fault"),
    [
        (NAME, {}, "", ""),
        (NAME, {"sessauth/a.pyx": b""}, "", "holds the source sessauth/a.pyx"),
        (NAME, {}, LIBRARY, "lacks libnghttp2.so.14"),
        (NAME, {}, f"{LIBRARY}.licence", "lacks libnghttp2.so.14.licence"),
        (NAME, {}, PAGE, "lacks the manual pages"),
        (NAME, {"sessauth/a.so": bytes(8_000_000)}, "", "takes 8000000 bytes, more than 7000000"),
        (NAME.replace("34", "38"), {}, "", "is not for every Linux with glibc 2.34"),
        ("sessauth-1-cp313-cp313-linux_x86_64.whl", {}, "", "is not for every Linux with glibc 2.34"),
    ],
)
def test_a_wheel_that_should_not_be_shipped_is_refused(
    tmp_path: Path, name: str, more: dict[str, bytes], missing: str, fault: str
) -> None:
    """Sources, a missing library, licence or page, size, and a C library that users don't have."""
    files = {LIBRARY: b"library", f"{LIBRARY}.licence": b"licence", PAGE: b"", **more}
    files.pop(missing, None)
    with zipfile.ZipFile(tmp_path / name, "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)

    assert _tool("check_wheel").wrong_with(tmp_path / name) == ([fault] if fault else [])
