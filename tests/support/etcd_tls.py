"""Certificates of an etcd on loopback and of its clients, as files."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from sessauth.crypto.pem import ClientFiles
from tests.support.issuer import CLIENT, Issued


def write(path: Path, content: bytes) -> Path:
    """Replace a file at once, as a certificate manager does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)
    return path


class EtcdTls:
    """A CA, and what it signed, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the CA and the server's certificate."""
        self._folder = folder
        self.ca = Issued.ca("ca of etcd")
        write(folder / "ca.pem", self.ca.pem)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        # etcd's own gateway shows it as a client's as well, so it states no usage.
        server = self.ca.issue("etcd", [loopback])
        write(folder / "server.pem", server.pem)
        write(folder / "server.key", server.key_pem)

    @property
    def options(self) -> Mapping[str, str]:
        """Options of etcd: only clients of the CA connect."""
        return {
            "cert-file": str(self._folder / "server.pem"),
            "key-file": str(self._folder / "server.key"),
            "trusted-ca-file": str(self._folder / "ca.pem"),
            "client-cert-auth": "true",
        }

    def client(self, name: str, issuer: Issued | None = None) -> ClientFiles:
        """Write a client's certificate and key, over those of the same name."""
        issued = (issuer or self.ca).issue("sessauth", usage=CLIENT)
        return ClientFiles(
            self._folder / "ca.pem",
            write(self._folder / f"{name}.pem", issued.pem),
            write(self._folder / f"{name}.key", issued.key_pem),
        )
