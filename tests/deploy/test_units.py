"""deploy/: units that systemd takes, that confine the service, and under which it works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support import booted
from tests.support.issuer import CLIENT, SERVER, Issued
from tests.support.markdown import Document
from tests.support.tree import ROOT

DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "how-to" / "install.md"
UNITS = [DEPLOY / "sessauth.service", DEPLOY / "sessauth-follow.service"]
# Set by .ci/run, where nothing is left out.
REQUIRED = os.environ.get("SESSAUTH_TEST_SYSTEMD") == "1"
# A process of the service, as the kernel shows it.
CONFINED = {
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "CapBnd": "0" * 16,
    "CapEff": "0" * 16,
    "own users": "True",
    "libnghttp2": "True",
}
FOLLOW = """\
[server]
workers = 1
[follow]
servers = ["127.0.0.1:7443"]
host_name = "host-1"
credential = "/etc/sessauth/host-1.credential"
insecure_tcp = true
"""
needs_analyze = pytest.mark.skipif(
    not REQUIRED and shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed: it is in Debian's package systemd",
)


def _analyze(*words: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_the_service_well_confined(unit: Path) -> None:
    """The overall exposure is at most 2.0 of 10, and what the page says."""
    shown = _analyze("security", "--offline=true", "--threshold=20", str(unit))
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", shown)

    assert exposure is not None and float(exposure[1]) <= 2.0, shown
    assert f"says {exposure[1]} of 10" in Document(PAGE).text


@needs_analyze
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """It knows each directive, and finds nothing to warn of."""
    command = tmp_path / "opt/sessauth/bin/sessauth"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for unit in UNITS:
        text = unit.read_text("utf-8").replace("/opt/sessauth", str(tmp_path / "opt/sessauth"))
        copy = tmp_path / unit.name
        copy.write_text(text)
        assert _analyze("verify", "--man=no", "--recursive-errors=no", str(copy)).strip() == ""


def _directives(unit: Path) -> list[str]:
    lines = unit.read_text("utf-8").splitlines()
    return [line for line in lines if "=" in line and not line.startswith("#")]


def test_a_follower_is_confined_as_a_server_is() -> None:
    """Its unit differs only in its name, in what it runs and in what it excludes."""
    server, follower = map(_directives, UNITS)
    differing = {line.split("=")[0] for line in {*server} ^ {*follower}}

    assert differing == {"Description", "Conflicts", "ExecStart", "TimeoutStartSec"}


def _certificates() -> dict[str, bytes]:
    """Return those that the sample settings name, and the client's that they know."""
    # Of a length that nothing warns of.
    days = (-1, 90)
    ca = Issued.ca("ca", days)
    server = ca.issue("localhost", [x509.DNSName("localhost")], usage=SERVER, days=days)
    name = x509.UniformResourceIdentifier("spiffe://example.org/orchestrator")
    client = ca.issue("orchestrator", [name], usage=CLIENT, days=days)
    return {
        "server.pem": server.pem,
        "server.key": server.key_pem,
        "clients.pem": ca.pem,
        "client.pem": client.pem,
        "client.key": client.key_pem,
    }


def _boot(program: str, files: dict[str, str | bytes]) -> dict[str, Any]:
    """Return the facts that a program prints on a machine that is booted for it."""
    refused = booted.refusal()
    if refused and not REQUIRED:
        pytest.skip(f"no machine can be booted here: {refused}")
    files = {"usr/lib/sysusers.d/gateway.conf": "u gateway - gateway\n", **files}
    return json.loads(booted.run(ROOT / "tests/support/procs" / program, files, seconds=270))


def _host() -> dict[str, Any]:
    """Return facts of the service, installed as the page says."""
    typed = [fence.body for fence in Document(PAGE).fences() if "tests/deploy types it" in fence.mark]
    files: dict[str, str | bytes] = {
        "probe/install.sh": "\n".join(typed),
        **{f"probe/deploy/{path.name}": path.read_bytes() for path in DEPLOY.iterdir()},
        **{f"probe/{name}": pem for name, pem in _certificates().items()},
    }
    assert len(typed) == 5
    return _boot("installed_host.py", files)


@pytest.mark.timeout(300)
def test_the_service_works_under_its_unit() -> None:
    """It opens, checks, reloads, replaces a worker, comes back after a kill, and stops as it should.

    Each process is confined by the kernel: a filter, no capability, no way to any.
    """
    host = _host()
    assert {"active", "nothing was found"} < {*host["typed"]} and host["status"] == "serving"
    assert host["embedded"] == host["over the worker's socket"] == host["over TLS"] == "ALLOWED"
    assert 'sessauth_process_up{process="worker-1"} 1.0' in host["metrics"]
    assert [line["needs_restart"] for line in host["reloaded"]] == [["limits.drain_ms"]]
    assert host["with a worker replaced"] == "active"
    assert host["after a kill"] == "ALLOWED" and host["ended"] == "SESSION_ENDED"
    assert host["result"] == "success"

    assert host["confined"] == dict.fromkeys(("control", "worker 0", "worker 1"), CONFINED)

    modes = {Path(path).name: mode for path, mode in host["modes"].items()}
    assert modes["state"] == "0750 sessauth:sessauth" and modes["data.mdb"] == "0640 sessauth:sessauth"
    assert modes["keys"] == "0700 sessauth:sessauth"


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not REQUIRED and shutil.which("etcd") is None,
    reason="etcd is not installed: etcd-server has it",
)
def test_a_follower_works_under_its_unit() -> None:
    """It is active when it has a state, verifiers judge by it, and an end reaches them."""
    user, folders, unit = (
        (DEPLOY / name).read_text("utf-8")
        for name in ("sessauth.sysusers", "sessauth.tmpfiles", "sessauth-follow.service")
    )
    files: dict[str, str | bytes] = {
        "usr/lib/sysusers.d/sessauth.conf": f"{user}m gateway sessauth\n",
        "usr/lib/tmpfiles.d/sessauth.conf": folders,
        "etc/systemd/system/sessauth-follow.service": unit,
        "etc/sessauth/sessauth.toml": FOLLOW,
    }
    host = _boot("followed_host.py", files)

    assert host == {"confined": [CONFINED] * 2, "result": "success"}
