"""The reader of packs needs nothing else of the package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from sessauth.evidence.reader import verify

from .conftest import MadePack

READER = Path(verify.__file__).parent
PROGRAM = """
import json, sys
from pathlib import Path
from reader.crypto import read_keys
from reader.verify import verify_pack

pack, keys = map(Path, sys.argv[1:])
report = verify_pack(pack, read_keys({"keys": keys.read_text()}))
found = [(each.kind, each.member, each.line) for each in report.findings]
print(json.dumps({"proven": report.proven, "findings": found, "loaded": sorted(sys.modules)}))
"""


def test_it_verifies_where_nothing_else_of_sessauth_is(pack: MadePack, tmp_path: Path) -> None:
    """A copy of its folder alone, in a process that can't import the package, finds what it should."""
    shutil.copytree(READER, tmp_path / "reader")
    (key,) = pack.trusted.audit.values()
    (tmp_path / "keys").write_text(key.hex())
    changed = pack.data.replace(b"read", b"list", 1)
    for name, data, proven in (("good", pack.data, True), ("bad", changed, False)):
        (tmp_path / name).write_bytes(data)
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); exec({PROGRAM!r})"]
        ran = subprocess.run(
            [*command, name, "keys"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        answer = json.loads(ran.stdout)
        assert answer["proven"] is proven and bool(answer["findings"]) is not proven
        assert not [module for module in answer["loaded"] if module.split(".")[0] == "sessauth"]
