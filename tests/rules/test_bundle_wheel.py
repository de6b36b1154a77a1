"""Binary wheels name every file that they hold."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_wheel", ROOT / "tools" / "bundle_wheel.py")
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

    _tool().add(source, target, {"pkg/lib.so": b"library"})

    with zipfile.ZipFile(target) as wheel:
        rows = list(csv.reader(io.StringIO(wheel.read("pkg-1.dist-info/RECORD").decode())))
        assert wheel.read("pkg/lib.so") == b"library"
        assert wheel.read("pkg/module.py") == b"x = 1\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"library").digest()).rstrip(b"=").decode()
    assert rows == [["pkg/module.py", "sha256=abc", "6"], ["pkg/lib.so", f"sha256={digest}", "7"]]
