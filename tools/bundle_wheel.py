#!/usr/bin/env python3
"""Make a manylinux wheel with libnghttp2 inside; auditwheel sets its tag.

    tools/bundle_wheel.py WHEEL TARGET [--library FILE] [--licence FILE]

The native server loads the library at run time, so auditwheel does not see that it is needed. It is put
beside the module that loads it, with its licence.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

LIBRARY: Final = "libnghttp2.so.14"
FOLDER: Final = "sessauth/_fast/"
LICENCE: Final = Path("/usr/share/doc/libnghttp2-14/copyright")


def main() -> int:
    """Write the wheel into the target folder; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--library", type=Path, help="default: the one that this system loads")
    parser.add_argument("--licence", type=Path, default=LICENCE)
    options = parser.parse_args()
    try:
        library = options.library or loaded_path()
    except OSError as error:
        print(f"{error}; install Debian's libnghttp2-14, or name a file with --library", file=sys.stderr)
        return 1
    if not options.licence.exists():
        print(
            f"{options.licence}: is missing; name the licence of libnghttp2 with --licence", file=sys.stderr
        )
        return 1
    options.target.mkdir(parents=True, exist_ok=True)
    bundled = options.target / options.wheel.name
    added = {
        FOLDER + LIBRARY: library.read_bytes(),
        FOLDER + f"{LIBRARY}.licence": options.licence.read_bytes(),
    }
    add(options.wheel, bundled, added)
    repaired = subprocess.run(
        [sys.executable, "-m", "auditwheel", "repair", "--strip", "-w", str(options.target), str(bundled)],
        check=False,
    )
    if repaired.returncode == 0:
        bundled.unlink()
    return repaired.returncode


def loaded_path() -> Path:
    """Return the file of the library that the system's loader finds. Raises OSError if there is none."""
    ctypes.CDLL(LIBRARY)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if LIBRARY in line:
            return Path(line.split(maxsplit=5)[5])
    raise OSError(f"{LIBRARY}: was loaded from no file")


def add(source: Path, target: Path, added: dict[str, bytes]) -> None:
    """Copy a wheel with more files; its RECORD names them too."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                content += "".join(record(name, data) for name, data in added.items()).encode()
            new.writestr(entry, content)
        for name, data in added.items():
            new.writestr(name, data)


def record(name: str, data: bytes) -> str:
    """Return the line of RECORD for a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


if __name__ == "__main__":
    sys.exit(main())
