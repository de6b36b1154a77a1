"""Runs as root on a booted machine: does what an engine does with the image's last stage, and prints facts.

The machine's root stands for the base image. The process has PID and mount namespaces of its own, a read-only
root, one volume, and no capability.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

IMAGE = json.loads(Path("/probe/image.json").read_text())
_ROOT = """
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
cd "$1"
exec "${@:2}"
"""


def contained(command: list[str]) -> list[str]:
    """Return a command that runs another one as an engine runs it in a container of the image."""
    user, group = IMAGE["user"].split(":")
    outside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    outside += ["bash", "-euc", _ROOT, "engine", IMAGE["volume"]]
    outside += ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    outside += ["--bounding-set=-all", "--inh-caps=-all", "--"]
    variables = [f"{name}={value}" for name, value in IMAGE["environment"].items()]
    return [*outside, "env", "-i", *variables, *command]


def healthy() -> bool:
    """Return True if the image's health check says so."""
    return subprocess.run(contained(IMAGE["healthcheck"]), capture_output=True, check=False).returncode == 0


def first_inside(engine: int) -> int:
    """Return the process that is the first of the container."""
    children = Path(f"/proc/{engine}/task/{engine}/children").read_text().split()
    return int(children[0])


def serve() -> subprocess.Popen[bytes]:
    """Start the container; return its engine when it is healthy."""
    engine = subprocess.Popen(contained([*IMAGE["entrypoint"], *IMAGE["command"]]))
    deadline = time.monotonic() + 90
    while not healthy():
        if engine.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the container does not become healthy")
        time.sleep(0.2)
    return engine


def main() -> None:
    """Build, run, hurt and stop; print what was found as one document."""
    found: dict[str, Any] = {}
    for step in IMAGE["run"]:
        subprocess.run(["sh", "-c", step], check=True, stdout=sys.stderr)
    found["healthy before it runs"] = healthy()
    subprocess.run(contained([*IMAGE["entrypoint"], "init"]), check=True, stdout=sys.stderr)
    found["root"] = subprocess.check_output(contained(["findmnt", "-no", "OPTIONS", "/"]), text=True)
    engine = serve()
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{first_inside(engine.pid)}/status").read_text().splitlines()
        if ":\t" in line
    )
    found["process"] = {name: status[name].split() for name in ("NSpid", "Uid", "CapEff", "NoNewPrivs")}
    os.kill(first_inside(engine.pid), signal.SIGKILL)
    engine.wait(30)
    engine = serve()
    os.kill(first_inside(engine.pid), getattr(signal, IMAGE["stop signal"]))
    found["status"] = engine.wait(30)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
