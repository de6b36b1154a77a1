"""Runs as root on a booted machine: installs and uses the service, and prints facts.

It sees only the package, and nothing of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from functools import partial
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


def typed(*command: str, user: str = "sessauth", status: int = 0) -> str:
    """Run a command as a user; return what it printed."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SESSAUTH_HOME": HOME}
    switched = ("runuser", "-u", user, "--", *command)
    done = subprocess.run(
        switched, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )
    if done.returncode != status:
        raise SystemExit(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def sessauth(*words: str, **options: Any) -> str:
    """Run ``sessauth``."""
    return typed(COMMAND, *words, **options)


def show(name: str) -> str:
    """Return a property of the unit."""
    return typed("systemctl", "show", "sessauth", "--property", name, "--value", user="root")


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"never so: {condition}\n{typed('journalctl', '-u', 'sessauth', user='root')}")
        time.sleep(0.05)


def workers() -> list[int]:
    """Return the service's processes but the first."""
    group = Path("/sys/fs/cgroup" + show("ControlGroup"), "cgroup.procs")
    main = int(show("MainPID"))
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


def main() -> None:
    """Install, start, use, hurt and stop the service; print what was found as one document."""
    found: dict[str, Any] = {}
    os.chdir("/probe")
    found["typed"] = subprocess.check_output(["bash", "-eu", "install.sh"], text=True).splitlines()
    os.chmod("client.key", 0o600)
    found["status"] = show("StatusText")
    files = ("--tls-ca", "/etc/sessauth/tls/clients.pem")
    files += ("--tls-certificate", "/probe/client.pem", "--tls-key", "/probe/client.key")
    orchestrator = partial(sessauth, "--target", "localhost:7443", *files, user="root")
    opened = ("--quiet", "--subject", "agent:a", "--ceiling", "read:files/**")
    session = orchestrator("session", "open", *opened)
    token = orchestrator("token", "mint", session, "--scope", "read:files/**", "--audience", "gateway")

    def embedded() -> str:
        return typed("/opt/sessauth/bin/python", "-c", EMBEDDED, token, user="gateway")

    found["embedded"] = embedded()
    credential = sessauth("credential", "add", "gateway", "--role", "gateway")
    for name, text in (("token", token), ("gateway.credential", credential)):
        typed("sh", "-c", 'umask 077; printf %s "$2" >"$1"', "sh", f"/tmp/{name}", text, user="gateway")
    check = ("check", "/tmp/token", "read", "files/a", "--audience", "gateway")
    target = ("--target", f"{HOME}/run/check-0.sock", "--credential-file", "/tmp/gateway.credential")
    wait_for(lambda: ready(*target, *check))
    found["over the worker's socket"] = sessauth(*target, *check, user="gateway").split()[0]
    Path("/probe/gateway.credential").write_text(credential)
    os.chmod("/probe/gateway.credential", 0o600)
    Path("/probe/token").write_text(token)
    target = ("--target", "localhost:7444", *files, "--credential-file", "/probe/gateway.credential")
    over_tls = ("check", "/probe/token", *check[2:])
    found["over TLS"] = sessauth(*target, *over_tls, user="root").split()[0]
    before = workers()
    found["confined"] = {
        "control": confined(int(show("MainPID"))),
        **{f"worker {place}": confined(pid) for place, pid in enumerate(sorted(before))},
    }
    page = urllib.request.urlopen("http://127.0.0.1:9464/metrics").read().decode()
    found["metrics"] = [line for line in page.splitlines() if line.startswith("sessauth_process_up")]
    with open("/etc/sessauth/sessauth.toml", "a") as settings:
        settings.write("[limits]\ndrain_ms = 4000\n")
    typed("systemctl", "reload", "sessauth", user="root")
    found["reloaded"] = [line for line in logged() if line["event"] == "reloaded"]
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(workers()) == 2 and before[0] not in workers())
    found["with a worker replaced"] = show("ActiveState")
    os.kill(int(show("MainPID")), signal.SIGKILL)
    wait_for(lambda: show("NRestarts") == "1" and show("ActiveState") == "active")
    found["after a kill"] = embedded()
    orchestrator("session", "end", session)
    found["ended"] = embedded()
    typed("systemctl", "stop", "sessauth", user="root")
    found["result"] = show("Result")
    found["modes"] = {
        str(path): f"{path.stat().st_mode & 0o7777:04o} {path.owner()}:{path.group()}"
        for path in map(
            Path, (HOME, f"{HOME}/state", f"{HOME}/state/data.mdb", f"{HOME}/keys", f"{HOME}/audit")
        )
    }
    sessauth("audit", "verify")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
