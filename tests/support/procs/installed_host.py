"""Runs as root on a booted machine: installs and uses the service, and prints facts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from booted_host import HOME, confined, embedded, logged, ready, sessauth, show, typed, wait_for, workers


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
    found["embedded"] = embedded(token)
    credential = sessauth("credential", "add", "gateway", "--role", "gateway")
    for name, text in (("token", token), ("gateway.credential", credential)):
        typed("sh", "-c", 'umask 077; printf %s "$2" >"$1"', "sh", f"/tmp/{name}", text, user="gateway")
    check = ("check", "/tmp/token", "read", "files/a", "--audience", "gateway")
    target = ("--target", f"{HOME}/run/check-0.sock", "--credential-file", "/tmp/gateway.credential")
    wait_for(lambda: all(Path(HOME, "run", f"check-{place}.sock").exists() for place in (0, 1)))
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
    found["after a kill"] = embedded(token)
    orchestrator("session", "end", session)
    found["ended"] = embedded(token)
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
