"""Tools of the programs that run as root on a booted machine (tests.support.booted)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME = "/var/lib/sessauth"
COMMAND = "/opt/sessauth/bin/sessauth"
EMBEDDED = f"""
import sys
from sessauth import Verifier
with Verifier.embedded("{HOME}/state", audience="gateway") as verifier:
    print(verifier.check(sys.argv[1], "read", "files/a").reason.name)
"""


def typed(*command: str, user: str = "sessauth", home: str = HOME) -> str:
    """Run a command as a user, for the service of a home; return what it printed."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SESSAUTH_HOME": home}
    switched = ("runuser", "-u", user, "--", *command)
    done = subprocess.run(
        switched, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )
    if done.returncode:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def sessauth(*words: str, **options: Any) -> str:
    """Run ``sessauth``."""
    return typed(COMMAND, *words, **options)


def show(name: str, unit: str = "sessauth") -> str:
    """Return a property of a unit."""
    return typed("systemctl", "show", unit, "--property", name, "--value", user="root")


def embedded(token: str) -> str:
    """Return the reason of a check by a verifier that a gateway embeds."""
    return typed("/opt/sessauth/bin/python", "-c", EMBEDDED, token, user="gateway")


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so, for a minute and a half at most."""
    deadline = time.monotonic() + 90
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"never so: {condition}\n{typed('journalctl', '-u', 'sessauth*', user='root')}")
        time.sleep(0.05)


def workers(unit: str = "sessauth") -> list[int]:
    """Return a unit's processes but the first."""
    group = Path("/sys/fs/cgroup" + show("ControlGroup", unit), "cgroup.procs")
    main = int(show("MainPID", unit))
    return [pid for pid in map(int, group.read_text().split()) if pid != main]


def ready(*words: str) -> bool:
    """Return True if a command of the gateway's succeeds."""
    done = subprocess.run(
        ("runuser", "-u", "gateway", "--", COMMAND, *words), capture_output=True, check=False
    )
    return done.returncode == 0


def confined(pid: int) -> dict[str, str]:
    """Return what holds a process, as the kernel shows it."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    found = {name: status[name].strip() for name in ("NoNewPrivs", "Seccomp", "CapBnd", "CapEff")}
    found["own users"] = str(os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"))
    found["libnghttp2"] = str("libnghttp2" in Path(f"/proc/{pid}/maps").read_text())
    return found


def logged() -> list[dict[str, Any]]:
    """Return the service's lines of the journal."""
    lines = typed("journalctl", "-u", "sessauth", "-o", "cat", user="root").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
