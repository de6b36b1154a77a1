"""docs/cluster.md, typed on three hosts that have nothing yet, with real members of etcd and TLS."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from tests.support.etcd_cluster import EtcdCluster, program
from tests.support.etcd_tls import EtcdTls, write
from tests.support.interop_server import free_port
from tests.support.issuer import CLIENT, Issued
from tests.support.markdown import Document, Fence
from tests.support.newcomer import SYSTEM_PATH, environment, fresh_home
from tests.support.service import wait_until
from tests.support.tree import ROOT
from tests.support.typed_page import TypedPage, typed_page

PAGE = Document(ROOT / "docs" / "cluster.md")
MARK = "tests/docs/test_cluster_page.py"
HOME: Final = Path(".local/state/sessauth")
# The name that the page's settings state, which is none of this machine.
FOLLOWER: Final = "spiffe://example.org/follower/host-1"
SESSION = "session=$(sessauth session open --quiet --subject agent --ceiling 'read:files/**')"
MINT = "sessauth token mint $session --scope 'read:files/**' --audience gw --out agent.token"


class Hosts:
    """Three empty homes, a terminal in each, and what the page expects to be there: etcd and certificates."""

    def __init__(self, opened: ExitStack, scratch: Path) -> None:
        """Start etcd, and write the certificates that the page's settings name."""
        self.homes: dict[str, Path] = {}
        self.typed: dict[str, TypedPage] = {}
        folder = scratch / "etcd"
        folder.mkdir()
        tls = EtcdTls(folder)
        tls.client("etcd-client")
        engine = EtcdCluster(folder, 3, tls.options)
        opened.callback(engine.close)
        engine.start()
        # One of the servers, and one of the hosts that follow.
        self._ca, self._hosts_ca = Issued.ca("servers"), Issued.ca("followers")
        self._pair = self._ca.issue("localhost", [x509.DNSName("localhost")])
        self._places = {
            **{f"{name}.internal:7443": f"localhost:{free_port()}" for name in ("one", "two")},
            **{f"etcd-{n + 1}.internal:2379": address for n, address in enumerate(engine.addresses)},
        }
        for name in ("one", "two", "gateway"):
            home = opened.enter_context(fresh_home())
            work = scratch / name
            work.mkdir()
            path = f"{Path(sys.prefix, 'bin')}{os.pathsep}{SYSTEM_PATH}"
            self.homes[name] = home / HOME
            self.homes[name].mkdir(parents=True)
            self._write_tls(home / HOME, folder)
            self.typed[name] = opened.enter_context(
                typed_page(environment(home, path=path, SCRATCH=str(scratch)), home, work)
            )

    def _write_tls(self, home: Path, engine: Path) -> None:
        tls = home / "tls"
        tls.mkdir()
        write(tls / "server.pem", self._pair.pem)
        write(tls / "server.key", self._pair.key_pem).chmod(0o600)
        write(tls / "etcd-ca.pem", (engine / "ca.pem").read_bytes())
        write(tls / "servers-ca.pem", self._ca.pem)
        write(home / "servers-ca.pem", self._ca.pem)
        write(tls / "hosts-ca.pem", self._hosts_ca.pem + self._ca.pem)
        host = self._hosts_ca.issue("host-1", [x509.UniformResourceIdentifier(FOLLOWER)], usage=CLIENT)
        write(home / "host-1.pem", host.pem)
        write(home / "host-1.key", host.key_pem).chmod(0o600)
        for name in ("etcd-client.pem", "etcd-client.key"):
            write(tls / name, (engine / name).read_bytes()).chmod(0o600)

    def configure(self, host: str, *blocks: str) -> None:
        """Write settings as the page has them, at addresses of this machine."""
        text = "\n".join(blocks)
        if host == "two":
            # Its own name and address: those of the page are the first server's.
            text = text.replace('name = "one"', 'name = "two"')
            text = text.replace('address = "one.internal', 'address = "two.internal')
        own = self._places.get(f"{host}.internal:7443", "").replace("localhost", "127.0.0.1")
        for place, address in {"0.0.0.0:7443": own, **self._places}.items():
            text = text.replace(place, address)
        (self.homes[host] / "sessauth.toml").write_text(text, encoding="utf-8")

    def run(self, host: str, command: str, status: int = 0) -> str:
        """Type a command of the test's own into a host's terminal."""
        mark = f"exit {status}" if status else ""
        return self.typed[host].type(Fence("sh", command + "\n", mark, 0, False))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Three hosts that have nothing yet."""
    program()
    with ExitStack() as opened:
        yield Hosts(opened, tmp_path)


def test_the_page_makes_a_cluster(hosts: Hosts) -> None:
    """Two servers and a host that follows, by the page alone; the first server stops, the rest goes on."""
    servers, join, follow = (fence.body for fence in PAGE.fences() if fence.language == "toml")
    first, prepare, admit, second, credential, follows = (
        fence for fence in PAGE.fences() if MARK in fence.mark
    )
    one, two, gateway = (hosts.homes[name] for name in ("one", "two", "gateway"))
    desk = one.parents[2]

    hosts.configure("one", servers)
    hosts.typed["one"].type(first)
    assert wait_until(lambda: "leader          one" in hosts.run("one", "sessauth cluster status"), 30)

    hosts.configure("two", servers, join)
    hosts.typed["two"].type(prepare)
    shutil.copy(two.parents[2] / "two.json", desk)
    hosts.typed["one"].type(admit)
    shutil.copy(desk / "two.credential", two)
    shutil.copy(one / "operator.credential", two)
    hosts.typed["two"].type(second)
    assert "leader          one" in hosts.run("two", "sessauth cluster status")

    hosts.typed["one"].type(credential)
    hosts.configure("gateway", follow)
    shutil.copy(desk / "host-1.credential", gateway)
    hosts.typed["gateway"].type(follows)

    check = f"sessauth check {desk}/agent.token read files/report --audience gw --state {gateway}/state"
    shown = hosts.run("one", f"{SESSION}\n{MINT}\necho $session")
    session = shown.split()[-1]
    assert wait_until(lambda: "ALLOWED" in hosts.run("gateway", f"{check} || true"), 10)
    assert "stale          False" in hosts.run("gateway", "sessauth state check")
    assert "connections  TLS with a client certificate" in hosts.run("gateway", "sessauth cluster status")

    hosts.typed["one"].close()
    assert wait_until(lambda: "leader          two" in hosts.run("two", "sessauth cluster status"), 30)
    hosts.run("two", f"sessauth session end {session} --reason 'ticket closed'")
    assert wait_until(lambda: "SESSION_ENDED" in hosts.run("gateway", f"{check} || true"), 10)
