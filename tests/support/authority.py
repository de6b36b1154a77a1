"""Certificates for tests, made with openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

OPENSSL: Final = shutil.which("openssl")
NEEDS_OPENSSL: Final = pytest.mark.skipif(
    OPENSSL is None, reason="makes its certificates with openssl, which is not here"
)


def _openssl(*arguments: str) -> None:
    subprocess.run([str(OPENSSL), *arguments], check=True, capture_output=True)


class Authority:
    """A CA that signs certificates for a test."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make its key and certificate."""
        self.folder, self.name = folder, name
        self.certificate = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        _openssl(*new, "-subj", f"/CN={name}", "-keyout", str(self.key), "-out", str(self.certificate))

    def sign(self, name: str, alternative: str) -> tuple[Path, Path]:
        """Make a certificate with a subjectAltName; returns certificate and key."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        certificate, extensions = self.folder / f"{name}.pem", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n")
        new = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
        ]
        _openssl(*new, "-keyout", str(key), "-out", str(request))
        by = ["-CA", str(self.certificate), "-CAkey", str(self.key), "-CAcreateserial", "-days", "2"]
        _openssl(
            "x509", "-req", "-in", str(request), *by, "-extfile", str(extensions), "-out", str(certificate)
        )
        return certificate, key
