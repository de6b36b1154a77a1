"""Runs as root on a booted machine: a cluster of one server, and its follower under its unit."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from booted_host import COMMAND, HOME, confined, embedded, sessauth, show, typed, wait_for, workers

LEADER = "/var/lib/leader"
UNIT = "sessauth-follow"
SETTINGS = """\
[tcp]
address = "127.0.0.1:7443"
insecure_tcp = true
[cluster]
name = "one"
address = "127.0.0.1:7443"
engine = ["127.0.0.1:2379"]
insecure_engine = true
"""


def has_engine() -> bool:
    """Return True if etcd answers."""
    try:
        return b'"true"' in urllib.request.urlopen("http://127.0.0.1:2379/health", timeout=5).read()
    except OSError:
        return False


def lead() -> None:
    """Start an engine, and a server that begins a cluster on it."""
    engine = ("etcd", "--data-dir", "/tmp/engine", "--unsafe-no-fsync", "--log-level", "error")
    subprocess.Popen(engine, stdout=sys.stderr)
    typed("install", "-d", "-o", "sessauth", LEADER, user="root")
    sessauth("init", home=LEADER)
    Path(LEADER, "sessauth.toml").write_text(SETTINGS)
    wait_for(has_engine)
    sessauth("cluster", "begin", home=LEADER)
    command = ["runuser", "-u", "sessauth", "--", COMMAND, "--home", LEADER, "serve"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    while '"serving"' not in server.stderr.readline():
        if server.poll() is not None:
            raise SystemExit("the leader does not serve")


def main() -> None:
    """Lead, follow, check and end; print what was found as one document."""
    found: dict[str, Any] = {}
    lead()
    credential = sessauth("credential", "add", "host-1", "--role", "follower", home=LEADER)
    Path("/etc/sessauth/host-1.credential").write_text(credential)
    typed("chown", "sessauth:", "/etc/sessauth/host-1.credential", user="root")
    typed("chmod", "600", "/etc/sessauth/host-1.credential", user="root")
    typed("systemctl", "start", UNIT, user="root")
    wait_for(lambda: show("StatusText", UNIT) == "serving")
    opened = ("--quiet", "--subject", "agent:a", "--ceiling", "read:files/**")
    session = sessauth("session", "open", *opened, home=LEADER)
    mint = ("token", "mint", session, "--scope", "read:files/**", "--audience", "gateway")
    token = sessauth(*mint, home=LEADER)
    wait_for(lambda: embedded(token) == "ALLOWED")
    wait_for(Path(HOME, "run", "check-0.sock").exists)
    found["confined"] = [confined(pid) for pid in (int(show("MainPID", UNIT)), *workers(UNIT))]
    sessauth("session", "end", session, home=LEADER)
    wait_for(lambda: embedded(token) == "SESSION_ENDED")
    typed("systemctl", "stop", UNIT, user="root")
    found["result"] = show("Result", UNIT)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
