"""The cluster of docs/cluster.md: the page's blocks, typed on three hosts of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cryptography import x509

from tests.support.etcd_cluster import EtcdCluster
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
SESSION: Final = "session=$(sessauth session open --quiet --subject agent --ceiling 'read:files/**')"
STATUS: Final = "sessauth cluster status"
MINT: Final = "sessauth token mint $session --scope 'read:files/**' --audience gw --out agent.token"


class PageHosts:
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
        self.engine = engine
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

    def begin(self) -> None:
        """Type the page to its section on followers: servers ``one`` and ``two``, and host ``gateway``."""
        servers, join, follow = (fence.body for fence in PAGE.fences() if fence.language == "toml")
        first, prepare, admit, second, credential, follows = (
            fence for fence in PAGE.fences() if MARK in fence.mark
        )
        one, two, gateway = (self.homes[name] for name in ("one", "two", "gateway"))
        self.configure("one", servers)
        self.typed["one"].type(first)
        assert wait_until(lambda: self.leads("one", "one"), 30), self.run("one", STATUS)
        self.configure("two", servers, join)
        self.typed["two"].type(prepare)
        shutil.copy(two.parents[2] / "two.json", self.desk)
        self.typed["one"].type(admit)
        shutil.copy(self.desk / "two.credential", two)
        shutil.copy(one / "operator.credential", two)
        self.typed["two"].type(second)
        self.typed["one"].type(credential)
        self.configure("gateway", follow)
        shutil.copy(self.desk / "host-1.credential", gateway)
        self.typed["gateway"].type(follows)

    @property
    def desk(self) -> Path:
        """The folder in which commands are typed on the first server's host."""
        return self.homes["one"].parents[2]

    def leads(self, name: str, host: str) -> bool:
        """Return True if a server leads, by the status that ``host`` prints."""
        return f"leader          {name}" in self.run(host, STATUS)

    def mint(self, host: str) -> tuple[str, Path]:
        """Open a session at a server; return its id, and the file of a token."""
        file = self.homes[host].parents[2] / "agent.token"
        file.unlink(missing_ok=True)
        return self.run(host, f"{SESSION}\n{MINT}\necho $session").split()[-1], file
