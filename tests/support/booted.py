"""A machine that boots this one's systemd, to try units on: namespaces over an overlay of the root folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import sessauth

_SCRIPT: Final = Path(__file__).with_suffix(".sh")
_SYSTEMD: Final = Path("/lib/systemd/systemd")
_PROBE: Final = """\
[Service]
Type=oneshot
TimeoutStartSec=240
ExecStart=/opt/sessauth/bin/python /probe/program.py
StandardOutput=append:/out/stdout
StandardError=append:/out/stderr
ExecStopPost=-+/bin/sh -c 'journalctl --no-pager -o cat -u "sessauth*" >/out/journal'
ExecStopPost=+/bin/sh -c 'systemctl --no-block exit $$EXIT_STATUS || systemctl --no-block exit 1'
"""


def refusal() -> str:
    """Return why nothing can be booted here; empty if it can."""
    if os.geteuid():
        return "only root boots a machine in namespaces"
    if not _SYSTEMD.exists():
        return "systemd is not installed"
    try:
        group = _hierarchy() / f"sessauth-{os.getpid()}"
        group.mkdir()
        group.rmdir()
    except OSError as error:
        return f"no control group can be made: {error}"
    done = subprocess.run(
        ["unshare", "--cgroup", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip()


def run(program: Path, files: Mapping[str, str | bytes], *, seconds: float) -> str:
    """Boot with the files, run a program as root there, power off; return what the program wrote.

    The package is installed as ``/opt/sessauth/bin/sessauth``. If the program fails, so does this, with the
    journal of the units.
    """
    with tempfile.TemporaryDirectory(prefix="booted-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("mounts", "files", "out"):
            (folder / part).mkdir()
        _install(folder / "files", program, files)
        group = _hierarchy() / f"sessauth-{folder.name}"
        bound = {
            folder / "out": "/out",
            Path(sessauth.__file__).parent: "/opt/sessauth/lib/sessauth",
            Path(sysconfig.get_path("purelib")): "/opt/sessauth/site",
            # The interpreter itself may lie where a unit can't look.
            Path(sys.base_prefix): "/opt/python",
        }
        command = [str(_SCRIPT), str(group), str(folder / "mounts"), str(folder / "files")]
        command += [f"{source}:{target}" for source, target in bound.items()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
            ended = f"{done.returncode}: {done.stderr}"
        except subprocess.TimeoutExpired:
            ended = "it runs on"
        finally:
            _remove(group)
        wrote = {file.name: file.read_text("utf-8", "replace") for file in (folder / "out").iterdir()}
        assert ended == "0: ", f"{ended}\n{wrote}"
        return wrote["stdout"]


def _install(target: Path, program: Path, files: Mapping[str, str | bytes]) -> None:
    """Lay out the root's new files: those of the test, the program, and commands that run the package."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    paths = "PYTHONPATH=/opt/sessauth/lib:/opt/sessauth/site LD_LIBRARY_PATH=/opt/python/lib"
    python = f"exec env {paths} /opt/python/bin/python{version}"
    written = {
        "etc/systemd/system/probe.target": "[Unit]\nWants=probe.service\n",
        "etc/systemd/system/probe.service": _PROBE,
        "probe/program.py": program.read_text("utf-8"),
        "probe/booted_host.py": program.with_name("booted_host.py").read_text("utf-8"),
        "opt/sessauth/bin/python": f'#!/bin/sh\n{python} "$@"\n',
        "opt/sessauth/bin/sessauth": f'#!/bin/sh\n{python} -P -m sessauth.cli.main "$@"\n',
        **files,
    }
    for name, content in written.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)


def _hierarchy() -> Path:
    """Return where control groups of the second version are mounted. Raises OSError if nowhere."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    raise OSError("no hierarchy of control groups of the second version is mounted")


def _remove(group: Path) -> None:
    """Remove a control group with those below it, when the processes of its namespace have ended."""
    for _ in range(100):
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        if not group.exists():
            return
        time.sleep(0.05)
