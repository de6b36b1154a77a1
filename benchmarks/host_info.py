"""Commit, machine and versions of a run, for results that are read later."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("sessauth", "grpcio", "protobuf", "lmdb", "pynacl", "cython")


def describe() -> dict[str, object]:
    """Return when, and commit, processor, load, system and versions, as plain values; before measuring."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "cpu": cpu_model(Path("/proc/cpuinfo")),
        "cores": os.cpu_count() or 0,
        "load_before": load(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def load() -> float:
    """Return how many processes ran or waited to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def cpu_model(cpuinfo: Path) -> str:
    """Return the processor's name from a cpuinfo file, else what the platform module says."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    """Return what git says, empty where there is no repository."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
