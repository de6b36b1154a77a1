"""Three members of etcd on the loopback, without TLS, in a folder of the demo."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path
from typing import Final

from ....errors import UsageError
from .process import DemoProcess, ReservedPorts

SIZE: Final = 3


class Engine:
    """The members, and their addresses for clients."""

    def __init__(self, folder: Path, ports: ReservedPorts) -> None:
        """Prepare them; nothing runs yet. Raises UsageError if etcd is not installed."""
        program = etcd_program()
        names = [f"etcd-{number + 1}" for number in range(SIZE)]
        peers = {name: f"http://127.0.0.1:{ports.reserve()}" for name in names}
        self.addresses = [f"127.0.0.1:{ports.reserve()}" for _ in names]
        self.members = [
            DemoProcess(name, _command(program, folder, name, address, peers), folder / f"{name}.log")
            for name, address in zip(names, self.addresses, strict=True)
        ]

    def leading(self) -> DemoProcess | None:
        """Return the member that leads, by its metrics; None if none says so now."""
        for member, address in zip(self.members, self.addresses, strict=True):
            if member.runs and _leads(address):
                return member
        return None


def etcd_program() -> str:
    """Return the path of etcd. Raises UsageError if it is not on the PATH."""
    program = shutil.which("etcd")
    if program is None:
        raise UsageError(
            "etcd is not on the PATH, and a cluster needs it; on Debian: apt-get install etcd-server"
        )
    return program


def _command(program: str, folder: Path, name: str, address: str, peers: dict[str, str]) -> list[str]:
    options = {
        "name": name,
        "data-dir": folder / name,
        "listen-client-urls": f"http://{address}",
        "advertise-client-urls": f"http://{address}",
        "listen-peer-urls": peers[name],
        "initial-advertise-peer-urls": peers[name],
        "initial-cluster": ",".join(f"{member}={url}" for member, url in peers.items()),
        "initial-cluster-token": folder.name,
        "initial-cluster-state": "new",
        "log-level": "error",
    }
    return [program, *(f"--{option}={value}" for option, value in options.items())]


def _leads(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=1) as answer:
            return b"\netcd_server_is_leader 1\n" in answer.read()
    except OSError:
        return False
