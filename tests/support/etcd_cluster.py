"""A cluster of etcd on loopback, whose members can be stopped, killed, wiped and restarted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from sessauth.carriers.etcd.carrier import EtcdCarrier
from sessauth.state.replication.carrier import CarrierError
from tests.support.interop_server import free_port

# An environment in which their absence fails: .ci/run has them.
REQUIRED: Final = "SESSAUTH_TEST_ETCD"
START_S: Final = 30.0


def program() -> str:
    """Return the path of etcd; skips the test where there is none."""
    found = shutil.which("etcd")
    if found is None:
        assert not os.environ.get(REQUIRED), "etcd is missing, and tests with it must not be skipped"
        pytest.skip("needs etcd: apt-get install etcd-server")
    return found


@dataclass
class EtcdMember:
    """One process of etcd. ``options`` are more of its options, as ``cert-file``."""

    folder: Path
    name: str
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"{self.host}:{self.client_port}"

    @property
    def peer(self) -> str:
        """The address for other members."""
        return f"http://{self.host}:{self.peer_port}"

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.folder / self.name

    def start(self, members: Sequence[EtcdMember], options: Mapping[str, str], token: str) -> None:
        """Start it, as one of ``members``."""
        scheme = "https" if "cert-file" in options else "http"
        stated = {
            "name": self.name,
            "data-dir": str(self.data),
            "listen-client-urls": f"{scheme}://{self.address}",
            "advertise-client-urls": f"{scheme}://{self.address}",
            "listen-peer-urls": self.peer,
            "initial-advertise-peer-urls": self.peer,
            "initial-cluster": ",".join(f"{member.name}={member.peer}" for member in members),
            "initial-cluster-token": token,
            "initial-cluster-state": "new",
            "heartbeat-interval": "50",
            "election-timeout": "500",
            "log-level": "error",
            **options,
        }
        command = [program(), *(f"--{name}={value}" for name, value in stated.items())]
        # Options of an operator's environment are none of the test's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.stopped = False

    def stop(self) -> None:
        """Let it go silent: its connections stay open, and are accepted."""
        self._signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self) -> None:
        """Let a silent one go on."""
        self._signal(signal.SIGCONT)
        self.stopped = False

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)


class EtcdCluster:
    """One or three members."""

    def __init__(self, folder: Path, size: int, options: Mapping[str, str] | None = None) -> None:
        """Prepare them; nothing runs yet."""
        self._token = f"test-{folder.name}"
        self._options = options or {}
        self._folder = folder
        self.members = [EtcdMember(folder, f"m{number}") for number in range(size)]

    @property
    def addresses(self) -> list[str]:
        """The addresses for clients."""
        return [member.address for member in self.members]

    def start(self) -> None:
        """Start members that do not run, and let silent ones go on; returns once the cluster answers."""
        for member in self.members:
            if member.process is None:
                member.start(self.members, self._options, self._token)
            elif member.stopped:
                member.go_on()

    def await_quorum(self, carrier: EtcdCarrier) -> None:
        """Return once a quorum answers ``carrier``."""
        end = time.monotonic() + START_S
        while True:
            try:
                carrier.barrier("probe", b"")
            except CarrierError:
                assert time.monotonic() < end, self.logs()
                time.sleep(0.02)
            else:
                return

    def logs(self) -> str:
        """Return the logs of all members."""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self._folder.glob("*.log"))

    def leading(self) -> EtcdMember:
        """Return the member that leads, by its metrics."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            for member in self.members:
                if member.process is not None and not member.stopped and _leads(member):
                    return member
            time.sleep(0.05)
        raise AssertionError(f"no member leads: {self.logs()}")

    def wipe(self) -> None:
        """Kill all members, remove their data and start them: the cluster id stays, as token and URLs do."""
        for member in self.members:
            member.kill()
            shutil.rmtree(member.data)
        self.start()

    def close(self) -> None:
        """Kill all members, and remove their data: 64 MB each at least, which pytest would retain."""
        for member in self.members:
            member.kill()
            shutil.rmtree(member.data, ignore_errors=True)


def _leads(member: EtcdMember) -> bool:
    try:
        with urllib.request.urlopen(f"http://{member.address}/metrics", timeout=1) as answer:
            return b"\netcd_server_is_leader 1\n" in answer.read()
    except OSError:
        return False


@contextmanager
def etcd_cluster(folder: Path, size: int, options: Mapping[str, str] | None = None) -> Iterator[EtcdCluster]:
    """Run a cluster; yields it once a quorum answers."""
    cluster = EtcdCluster(folder, size, options)
    try:
        cluster.start()
        carrier = EtcdCarrier(cluster.addresses, b"probe")
        try:
            cluster.await_quorum(carrier)
        finally:
            carrier.close()
        yield cluster
    finally:
        cluster.close()
