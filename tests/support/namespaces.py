"""Hosts in network namespaces of their own, on cables that can be pulled.

Only inside a user namespace of the caller's own: :func:`inside` says so, :func:`command` starts a program
there. All that is made here ends with the process.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

_NEW_NET: Final = 0x40000000
_MARK: Final = "SESSAUTH_TEST_NAMESPACES"
# Networks, by name: the second number of their addresses' third part.
NETWORKS: Final = {"engine": 1, "service": 2}
RACKS: Final = ("a", "b")
# The processes of a PID namespace end with the first one.
_UNSHARE: Final = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
_libc = ctypes.CDLL(None, use_errno=True)


def inside() -> bool:
    """Return True if this process was started by :func:`command`."""
    return _MARK in os.environ


def command(program: Sequence[str]) -> list[str]:
    """Return a command that runs a program as root of namespaces of its own."""
    return [*_UNSHARE, "env", f"{_MARK}=1", *program]


def refusal() -> str:
    """Return why this machine gives no namespaces with bridges; empty if it does."""
    tried = "ip link add b0 type bridge && ip link add v0 type veth peer name v1"
    try:
        done = subprocess.run(command(["sh", "-c", tried]), capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


class Cables:
    """Two networks, each of two racks that a trunk joins. This process has an address in rack a of both."""

    def __init__(self) -> None:
        """Lay the trunks."""
        assert inside()
        self._own = _namespace()
        self._hosts: dict[str, int] = {}
        _ip("link", "set", "lo", "up")
        for network, number in NETWORKS.items():
            for rack in RACKS:
                _ip("link", "add", f"{network}-{rack}", "type", "bridge")
                _ip("link", "set", f"{network}-{rack}", "up")
            _ip("link", "add", f"{network}-ab", "type", "veth", "peer", "name", f"{network}-ba")
            for rack, trunk in (("a", "ab"), ("b", "ba")):
                _ip("link", "set", f"{network}-{trunk}", "master", f"{network}-{rack}", "up")
            _ip("address", "add", f"10.77.{number}.1/24", "dev", f"{network}-a")

    def add(self, host: str, rack: str, number: int) -> None:
        """Add a host with the address 10.77.NETWORK.``number`` in both networks."""
        if _libc.unshare(_NEW_NET):
            raise OSError(ctypes.get_errno(), "unshare")
        self._hosts[host] = _namespace()
        _ip("link", "set", "lo", "up")
        for network in NETWORKS:
            self._enter(self._own)
            _ip("link", "add", f"{network}-{host}", "type", "veth", "peer", "name", network)
            self._move(network, host)
            _ip("link", "set", f"{network}-{host}", "master", f"{network}-{rack}", "up")
            with self.at(host):
                _ip("address", "add", f"{address(network, number)}/24", "dev", network)
                _ip("link", "set", network, "up")
        self._enter(self._own)

    @contextmanager
    def at(self, host: str) -> Iterator[None]:
        """Have what this thread starts run on a host."""
        self._enter(self._hosts[host])
        try:
            yield
        finally:
            self._enter(self._own)

    def pull(self, host: str, networks: Sequence[str] = tuple(NETWORKS)) -> None:
        """Pull a host's cables."""
        self._set(host, networks, "down")

    def plug(self, host: str, networks: Sequence[str] = tuple(NETWORKS)) -> None:
        """Plug them in again."""
        self._set(host, networks, "up")

    def pull_trunks(self) -> None:
        """Part the racks."""
        self._set("ab", tuple(NETWORKS), "down")

    def plug_trunks(self) -> None:
        """Join them again."""
        self._set("ab", tuple(NETWORKS), "up")

    def _set(self, host: str, networks: Sequence[str], state: str) -> None:
        for network in networks:
            _ip("link", "set", f"{network}-{host}", state)

    def _move(self, link: str, host: str) -> None:
        """Give a link to a host: to a process there, for as long as that takes."""
        with self.at(host):
            holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        try:
            _ip("link", "set", link, "netns", str(holder.pid))
        finally:
            holder.communicate()

    def _enter(self, namespace: int) -> None:
        if _libc.setns(namespace, _NEW_NET):
            raise OSError(ctypes.get_errno(), "setns")


def address(network: str, number: int) -> str:
    """Return the address of a host with that number."""
    return f"10.77.{NETWORKS[network]}.{number}"


def _namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
