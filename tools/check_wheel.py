#!/usr/bin/env python3
"""Try a wheel where nothing else is: an environment of its own, no compiler, an empty home.

    tools/check_wheel.py PYTHON WHEEL

It is installed without building anything, and its size is held. Then a server is started with a worker, and a
call is checked over gRPC. The worker must have loaded the wheel's own libnghttp2, and no other.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LIBRARY: Final = "libnghttp2.so.14"
# Bytes of an installed wheel without libnghttp2: 6.0 MB are, 1.5 of them extensions.
BUDGET: Final = 7_000_000
# The C library of Debian 12, Ubuntu 22.04 and RHEL 9; what is built with newer headers may need a newer one.
NEWEST_GLIBC: Final = 34
WAIT_S: Final = 60.0
SETTINGS: Final = "[server]\nworkers = 1\n"


def main() -> int:
    """Try the wheel; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="the interpreter that the wheel is for")
    parser.add_argument("wheel", type=Path)
    options = parser.parse_args()
    faults = [*wrong_with(options.wheel)]
    with tempfile.TemporaryDirectory(prefix="wheel-", dir="/tmp") as name:
        faults += tried(options.python, options.wheel.resolve(), Path(name))
    for fault in faults:
        print(f"{options.wheel.name}: {fault}", file=sys.stderr)
    return 1 if faults else 0


def sizes(wheel: Path) -> tuple[int, int]:
    """Return the bytes that a wheel takes when it is installed: without libnghttp2, and libnghttp2's."""
    with zipfile.ZipFile(wheel) as archive:
        entries = [(entry.filename.rsplit("/")[-1], entry.file_size) for entry in archive.infolist()]
    library = sum(size for name, size in entries if name.startswith(LIBRARY))
    return sum(size for _, size in entries) - library, library


def wrong_with(wheel: Path) -> list[str]:
    """Return the faults of a wheel's contents, in words."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    faults = [f"holds the source {name}" for name in names if name.endswith((".c", ".pyx", ".pxd"))]
    if not any(name.endswith(".data/data/share/man/man1/sessauth.1") for name in names):
        faults.append("lacks the manual pages")
    for needed in (LIBRARY, f"{LIBRARY}.licence"):
        if f"sessauth/_fast/{needed}" not in names:
            faults.append(f"lacks {needed}")
    glibc = re.search(r"manylinux_2_(\d+)_", wheel.name)
    if glibc is None or int(glibc[1]) > NEWEST_GLIBC:
        faults.append(f"is not for every Linux with glibc 2.{NEWEST_GLIBC}")
    own, library = sizes(wheel)
    print(f"{wheel.name}: {own / 1e6:.2f} MB installed, and {library / 1e6:.2f} MB of libnghttp2")
    if own > BUDGET:
        faults.append(f"takes {own} bytes, more than {BUDGET}")
    return faults


def tried(python: str, wheel: Path, folder: Path) -> list[str]:
    """Install a wheel and use it; return what went wrong, in words."""
    installed, home = folder / "env", folder / "home"
    subprocess.run([python, "-m", "venv", installed], check=True)
    # Neither a compiler nor anything else that this machine has.
    bare = {
        "PATH": str(installed / "bin"),
        "HOME": str(folder),
        "SESSAUTH_HOME": str(home),
        "LANG": "C.UTF-8",
    }
    pip = ("pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
    run(installed, bare, *pip, str(wheel))
    run(installed, bare, "sessauth", "init")
    (home / "sessauth.toml").write_text(SETTINGS)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([installed / "bin" / "sessauth", "serve"], env=bare, cwd=folder, stderr=log)
    try:
        return used(installed, bare, server.pid, folder)
    except (subprocess.CalledProcessError, TimeoutError) as error:
        return [f"{error}\n{(folder / 'log').read_text()}"]
    finally:
        server.terminate()
        server.wait(WAIT_S)


def used(installed: Path, bare: Mapping[str, str], control: int, folder: Path) -> list[str]:
    """Check a call by a worker; return what was wrong with it, or with the libraries that it has loaded."""
    socket = folder / "home" / "run" / "check-0.sock"
    deadline = time.monotonic() + WAIT_S
    while '"worker_ready"' not in (folder / "log").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker is not ready")
        time.sleep(0.05)
    opened = ("--quiet", "--subject", "agent", "--ceiling", "read:x")
    session = run(installed, bare, "sessauth", "session", "open", *opened)
    minted = ("--scope", "read:x", "--audience", "gateway", "--out", str(folder / "token"))
    run(installed, bare, "sessauth", "token", "mint", session, *minted)
    credential = ("--credential-file", str(folder / "home" / "operator.credential"))
    check = ("check", str(folder / "token"), "read", "x", "--audience", "gateway", "--json")
    answer = run(installed, bare, "sessauth", "--target", str(socket), *credential, *check)
    faults = [] if json.loads(answer)["allowed"] else [f"the call was denied: {answer}"]
    workers = Path(f"/proc/{control}/task/{control}/children").read_text().split()
    loaded = {
        line.split(maxsplit=5)[5].strip()
        for worker in workers
        for line in Path(f"/proc/{worker}/maps").read_text().splitlines()
        if "nghttp2.so" in line
    }
    own = next(installed.glob(f"lib/*/site-packages/sessauth/_fast/{LIBRARY}"))
    if loaded != {str(own)}:
        faults.append(f"its worker loaded {sorted(loaded)}, and not {own} alone")
    return faults


def run(installed: Path, bare: Mapping[str, str], command: str, *words: str) -> str:
    """Run a command of the environment, with nothing else; return what it printed."""
    program = installed / "bin" / command
    done = subprocess.run(
        [program, *words], env=bare, cwd=installed, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, [command, *words], done.stdout, done.stderr)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
