"""Certificates for one run, made by openssl: each its own authority, for the loopback address, one day."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NO_OPENSSL: Final = "openssl is not installed"
NAMES: Final = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its private key, PEM."""

    certificate: Path
    private_key: Path

    @property
    def thumbprint(self) -> str:
        """The digest of the certificate, as ``[[identities]]`` writes it."""
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text("ascii"))
        return f"sha256:{hashlib.sha256(der).hexdigest()}"


def make(folder: Path, name: str) -> Certificate | None:
    """Make a certificate below ``folder``, readable by this user only; None if there is no openssl.

    Raises RuntimeError with what openssl says.
    """
    program = shutil.which("openssl")
    if program is None:
        return None
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    os.close(os.open(made.private_key, os.O_CREAT | os.O_WRONLY, 0o600))
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", NAMES]
    files = ["-keyout", str(made.private_key), "-out", str(made.certificate)]
    answer = subprocess.run([program, *new, *names, *files], capture_output=True, text=True)
    if answer.returncode != 0:
        raise RuntimeError(f"openssl made no certificate:\n{answer.stderr[-1000:]}")
    return made
