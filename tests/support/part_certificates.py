"""Certificates of a cluster's parts, as files: servers and followers by their SPIFFE ids."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.support.etcd_tls import write
from tests.support.issuer import Issued

_LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
TRUST: str = "spiffe://example.org"


class PartCertificates:
    """A CA of parts, and what it signed, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the CA."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = Issued.ca("parts")
        self.authority = write(folder / "parts-ca.pem", self.ca.pem)

    def pair(self, file: str, part: str, **issued: Any) -> tuple[Path, Path]:
        """Write a certificate for localhost that names ``part``, and its key, over those of the same name.

        ``part`` empty: it names none. ``by`` is another CA.
        """
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), _LOOPBACK]
        if part:
            names.append(x509.UniformResourceIdentifier(f"{TRUST}/sessauth/{part}"))
        by = issued.pop("by", self.ca)
        made = by.issue("part", names, **issued)
        certificate = write(self.folder / f"{file}.pem", made.pem)
        private_key = write(self.folder / f"{file}.key", made.key_pem)
        private_key.chmod(0o600)
        return certificate, private_key
