"""``sessauth gateway authzen`` and ``extmcp`` as processes: what they need, how they begin and end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from sessauth.gateways.extmcp.v1 import ext_mcp_pb2 as messages
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE
from tests.support.service import wait_until

EXTAUTHZ = ("extauthz", "--listen", "x.sock", "--http", "api")
LOGIN = ("--authorization-server", "https://idp.example")


def command(world: World, *arguments: str) -> list[str]:
    """Return the command line of a gateway beside the server."""
    program = [sys.executable, "-m", "sessauth.cli.main", "--home", str(world.server.home), "gateway"]
    return [*program, *arguments, "--audience", AUDIENCE]


def catalogue_file(world: World, folder: Path) -> str:
    """Return the file of the catalogue."""
    file = folder / "catalogue.json"
    file.write_text(world.catalogue.to_json())
    return str(file)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_authzen_serves_callers_until_a_signal(world: World, tmp_path: Path, ending: signal.Signals) -> None:
    """It says where it listens, leaves with 0 and removes its socket; the reason of a denial is logged."""
    path = world.server.home / "pdp.sock"
    credentials = world.server.made.state_dir / "credentials.toml"
    arguments = ("authzen", "--listen", str(path), "--callers", str(credentials), "--json")
    catalogue = catalogue_file(world, tmp_path)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command(world, *arguments, "--catalogue", catalogue), stdout=subprocess.PIPE, stderr=log
        )
        assert wait_until(path.exists)
        request = {
            "subject": {"type": "sessauth", "id": world.token().present().text},
            "action": {"name": "call"},
            "resource": {"type": "tool", "id": "delete_repo"},
        }
        credential = world.credential_file().read_text().strip()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20) as client:
            url = "http://localhost/access/v1/evaluation"
            assert client.post(url, json=request).status_code == 401
            headers = {"authorization": f"Bearer {credential}"}
            assert client.post(url, json=request, headers=headers).json()["decision"] is False
        process.send_signal(ending)
        answered, _ = process.communicate(timeout=30)

    assert (process.returncode, path.exists()) == (0, False)
    assert json.loads(answered) == {
        "listening": str(path),
        "identifier": "http://localhost",
        "audience": AUDIENCE,
    }
    logged = (tmp_path / "log").read_text()
    assert "OUT_OF_SCOPE" in logged
    assert "sessauth_token" not in logged


def test_extmcp_serves_until_a_signal(world: World, tmp_path: Path) -> None:
    """It names its targets and leaves with 0."""
    path = world.server.home / "policy.sock"
    arguments = ("extmcp", "--listen", str(path), "--catalogue", catalogue_file(world, tmp_path), "--json")
    process = subprocess.Popen(
        command(world, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert wait_until(path.exists)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        check = channel.unary_unary(
            "/agentgateway.dev.ext_mcp.ExtMcp/CheckRequest",
            messages.McpRequest.SerializeToString,
            messages.McpRequestAnswer.FromString,
        )
        answer = check(messages.McpRequest(service_names=["tools"], method="tools/list"), timeout=20)
    process.send_signal(signal.SIGTERM)
    answered, logged = process.communicate(timeout=30)

    assert answer.WhichOneof("answer") == "refused"
    assert process.returncode == 0
    assert json.loads(answered) == {"listening": str(path), "targets": "tools", "audience": AUDIENCE}
    assert "NO_TOKEN" in logged


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("authzen", "--listen", "0.0.0.0:0"), "others reach"),
        (("authzen", "--certificate", "x.pem"), "key"),
        (("authzen", "--catalogue", "missing.json"), "missing.json"),
        (("authzen", "--register-as", "x"), "give"),
        (("extmcp", "--listen", "x.sock"), "catalogue"),
        (("extmcp",), "--listen"),
        (("extauthz", "--listen", "x.sock"), "nothing would be served"),
        ((*EXTAUTHZ, "--origin", "https://a.example"), "give both"),
        ((*EXTAUTHZ, *LOGIN), "give both"),
        ((*EXTAUTHZ, *LOGIN, "--origin", "https://a.example/x"), "without a path"),
        ((*EXTAUTHZ, *LOGIN, "--origin", "a.example"), "--origin: must"),
        (
            (*EXTAUTHZ, "--origin", "https://a.example", "--authorization-server", "i"),
            "--authorization-server: must",
        ),
    ],
)
def test_a_command_that_can_not_serve_leaves_at_once(
    world: World, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    """It says what is missing."""
    done = subprocess.run(
        command(world, *arguments), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
