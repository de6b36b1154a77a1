"""``sessauth status``: a server that is ready, one that denies, one that is gone."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessauth.cli.commands.local.service import byte_text, status_lines
from sessauth.model.server_status import ClusterStanding, HostStanding, ServerStatus
from tests.support.service import wait_until
from tests.support.tls_pair import SERVER_PAIR

from .conftest import COMMAND, Ran, Service, invoke, start_service, stop_service


@pytest.fixture(scope="module")
def watched() -> Iterator[Service]:
    """A server with a worker, TLS, metrics and audit."""
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        home = Path(folder) / "home"
        assert invoke("--home", home, "init").code == 0
        (home / "server.pem").write_bytes(SERVER_PAIR.pem)
        (home / "server.key").write_bytes(SERVER_PAIR.key_pem)
        (home / "server.key").chmod(0o600)
        (home / "sessauth.toml").write_text(
            '[tcp]\naddress = "localhost:0"\ncertificate = "server.pem"\nprivate_key = "server.key"\n'
            '[metrics]\naddress = "127.0.0.1:0"\n[audit]\nenabled = true\ncheckpoint_ms = 1000\n'
            "[server]\nworkers = 1\n"
        )
        service = start_service(home)
        yield service
        if service.process.poll() is None:
            stop_service(service)


def test_a_ready_server_is_one_screen(watched: Service) -> None:
    """It has the numbers of what was done a moment ago, over all processes."""
    opened = watched("session", "open", "--subject", "agent:a", "--ceiling", "read:a", "--json").json
    suspended = watched("session", "open", "--subject", "agent:b", "--ceiling", "read:a", "--json").json
    watched("session", "suspend", suspended["id"])
    token = watched("token", "mint", opened["id"], "--scope", "read:a", "--audience", "gw").out
    shown: list[Ran] = []

    def counted() -> bool:
        """Check three calls, and ask; a slow machine's first calls may be over a minute ago."""
        calls = [
            watched("check", "-", "read", name, "--audience", "gw", stdin=token).code
            for name in ("a", "b", "b")
        ]
        assert calls == [0, 1, 1]
        shown.append(watched("status", "--json"))
        found = shown[-1].json
        return bool(
            found["checks"] >= 3 and 3 * found["denials"] == 2 * found["checks"] and found["audit_lines"] > 3
        )

    assert wait_until(counted), watched("status").out
    ran, lines = shown[-1], watched("status").out
    found = ran.json

    assert (ran.code, found["serving"], found["not_ready"], found["role"]) == (0, True, "", "single")
    assert (found["active_sessions"], found["suspended_sessions"]) == (1, 1)
    assert (found["workers"], found["worker_restarts"]) == (1, 0)
    assert found["certificate_ends_at_ms"] // 1000 == int(
        SERVER_PAIR.certificate.not_valid_after_utc.timestamp()
    )
    assert 0 < found["state_used_bytes"] < found["state_map_bytes"]
    assert 0 < found["disk_free_bytes"] <= found["disk_bytes"]
    assert watched("audit", "verify", "--expect-head", found["audit_head"]).code == 0
    assert watched("audit", "verify", "--expect-head", "00" * 32).code == 1
    assert "2 living, 1 suspended" in lines
    assert " denied, in the last " in lines
    assert lines.startswith("server       ready\n")


def test_a_braked_server_is_not_ready(watched: Service) -> None:
    """Exit code 1, with the reason."""
    watched("freeze", "--this-host", "--reason", "fire drill")
    try:
        ran = watched("status")
    finally:
        watched("thaw", "--this-host")

    assert ran.code == 1
    assert "fire drill" in ran.out


def test_an_issuer_does_not_read_the_status(watched: Service, tmp_path: Path) -> None:
    """Operators and auditors do."""
    for role, code in (("issuer", 3), ("auditor", 0)):
        file = tmp_path / f"{role}.credential"
        watched("credential", "add", f"an-{role}", "--role", role, "--out", file)
        assert wait_until(
            lambda file=file, code=code: (  # type: ignore[misc]
                invoke("--home", watched.home, "--credential-file", file, "status").code == code
            )
        ), role


def test_a_watch_goes_on_when_the_server_is_gone(watched: Service) -> None:
    """It prints a status every two seconds, until Ctrl-C."""
    watch = subprocess.Popen(
        [*COMMAND, "--home", str(watched.home), "status", "--watch", "--json"], stdout=subprocess.PIPE
    )
    assert watch.stdout is not None
    with watch, watch.stdout as lines:
        assert json.loads(lines.readline())["serving"] is True
        watched.process.kill()
        watched.process.wait()
        serving = [json.loads(lines.readline())["serving"] for _ in range(2)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130
    assert serving[-1] is False


def test_a_server_that_is_gone_is_read_from_its_folder(watched: Service) -> None:
    """Exit code 4; the sessions, the room and the audit are those of the folder."""
    if watched.process.poll() is None:
        watched.process.kill()
        watched.process.wait()

    ran = watched("status", "--json")
    found = ran.json

    assert (ran.code, found["serving"], found["uptime_ms"]) == (4, False, 0)
    assert "no server answers" in found["not_ready"]
    assert (found["active_sessions"], found["suspended_sessions"]) == (1, 1)
    assert found["audit_head"]
    assert found["certificate_ends_at_ms"]
    assert "not counted" not in watched("status").out


def test_a_remote_server_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """No folder stands for it."""
    ran = invoke("--target", "localhost:1", "--insecure-tcp", "status", "--json")

    assert (ran.code, ran.out) == (4, "")
    assert json.loads(ran.err)["error"]["kind"] == "Unreachable"


def test_hosts_of_a_cluster_show_their_lag() -> None:
    """Names are made harmless; a host that is in alarm is marked."""
    hosts = (HostStanding("server/a", "a:1"), HostStanding("f\n1", "", True, 40, 7, "FORK"))
    standing = ClusterStanding(b"", b"", "server/a", 9, b"", 1, 1, leading=True, fresh=True, hosts=hosts)
    status = ServerStatus(role="leader", host="server/a", record=9, alarm="left", fresh=False)

    lines = status_lines(status, standing, 0)

    assert any("2 records behind 40ms ago, ALARM FORK" in line for line in lines)
    assert any("STALE, record 9" in line for line in lines)
    assert not any("\n" in line for line in lines)


def test_bytes_have_units() -> None:
    """Decimal ones, as disks are sold."""
    assert [byte_text(size) for size in (0, 999, 1_500, 20_000_000, 3e12)] == [
        *("0 B", "999 B", "1.5 kB", "20.0 MB", "3.0 TB")
    ]
