"""A certificate for one run, made by openssl: its own authority, for the loopback address, one day."""

from __future__ import annotations

import os
import shutil
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


def make(folder: Path) -> Certificate | None:
    """Make a certificate below ``folder``, readable by this user only; None if there is no openssl.

    Raises RuntimeError with what openssl says.
    """
    program = shutil.which("openssl")
    if program is None:
        return None
    made = Certificate(folder / "server.pem", folder / "server.key")
    os.close(os.open(made.private_key, os.O_CREAT | os.O_WRONLY, 0o600))
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", NAMES]
    files = ["-keyout", str(made.private_key), "-out", str(made.certificate)]
    answer = subprocess.run([program, *new, *names, *files], capture_output=True, text=True)
    if answer.returncode != 0:
        raise RuntimeError(f"openssl made no certificate:\n{answer.stderr[-1000:]}")
    return made
