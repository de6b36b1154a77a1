"""The commands that serve the console: refusals that name the option, and the rights of its credential."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import httpx
import pytest

from sessauth.client import AsyncClient, Client
from sessauth.errors import Unauthenticated
from sessauth.server.keys.credentials import CredentialFile
from tests.cli.conftest import invoke
from tests.console.conftest import Browser, World, console
from tests.console.test_session_pages import _has, _shown
from tests.support.service import wait_until


def test_a_port_in_use_and_a_missing_folder_are_named(world: World, tmp_path: Path) -> None:
    """Each is refused before anything is served, with the option that states it."""
    home = ("--home", world.service.made.home)
    with socket.create_server(("127.0.0.1", 0)) as other:
        ran = invoke(*home, "console", "--port", other.getsockname()[1])
    assert ran.code == 2 and "--port" in ran.err
    ran = invoke(*home, "console", "--audit", tmp_path / "nowhere")
    assert ran.code == 2 and "--audit" in ran.err
    ran = invoke(*home, "approval", "ui", "--approver-key", tmp_path / "nowhere")
    assert ran.code != 0 and "nowhere" in ran.err


@pytest.mark.parametrize("module", ["starlette", "jinja2", "uvicorn"])
def test_a_missing_part_is_named(module: str, tmp_path: Path) -> None:
    """Without the extra the command says what to install."""
    script = f"import sys; sys.modules[{module!r}] = None; from sessauth.cli.main import main; main()"
    command = [sys.executable, "-c", script, "--home", str(tmp_path), "console"]
    ran = subprocess.run(command, capture_output=True, text=True)

    assert ran.returncode == 2
    assert module in ran.stderr and "sessauth[console]" in ran.stderr


def test_enter_prints_another_link(world: World) -> None:
    """Each Enter in a terminal prints a link."""
    ours, theirs = pty.openpty()
    home = str(world.service.made.home)
    command = [sys.executable, "-m", "sessauth.cli.main", "--home", home, "console"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            links = [process.stdout.readline(), process.stdout.readline()]
            os.write(ours, b"\n")
            links += [process.stdout.readline()]
        finally:
            process.terminate()
    assert process.returncode == 0
    secrets = re.findall(r"/login/(\S+)", "".join(links))
    assert len(set(secrets)) == 2
    os.close(ours)
    os.close(theirs)


def _take_terminal() -> None:
    """Make the child's standard input the terminal of a session of its own."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_in_the_background_it_goes_on_serving(world: World) -> None:
    """Lines that are typed for another command neither stop it nor print a link."""
    ours, theirs = pty.openpty()
    home = str(world.service.made.home)
    command = shlex.join([sys.executable, "-m", "sessauth.cli.main", "--home", home, "console"])
    shell = ["bash", "-m", "-c", f"{command} & echo $!; wait"]
    with subprocess.Popen(
        shell, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True, preexec_fn=_take_terminal
    ) as process:
        assert process.stdout
        console_pid = int(process.stdout.readline())
        try:
            origin = process.stdout.readline().split()[-1].partition("/login")[0]
            process.stdout.readline()
            for _ in range(5):
                os.write(ours, b"\n")
                assert httpx.get(origin, timeout=30).status_code == 401
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(console_pid, signal.SIGTERM)
                os.kill(console_pid, signal.SIGCONT)
        assert "login" not in process.stdout.read()
    os.close(ours)
    os.close(theirs)


def test_the_demo_serves_living_sessions() -> None:
    """`demo --console` prints the link of a console in which agents call; it leaves nothing behind."""
    command = [sys.executable, "-m", "sessauth.cli.main", "demo", "--console"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            home = Path(process.stdout.readline().split("--home ")[1].split()[0])
            link = process.stdout.readline().split()[-1]
            with httpx.Client(follow_redirects=True) as http:
                origin = link.partition("/login")[0]
                first = http.post(link, headers={"origin": origin})
                assert "Sessions" in first.text
                origin = str(first.url).rstrip("/")
                assert wait_until(lambda: _is_alive(http.get(f"{origin}/").text))
                assert "prod/api" in http.get(f"{origin}/approvals").text
        finally:
            process.terminate()
    assert process.returncode == 0
    assert not home.exists()


def _is_alive(page: str) -> bool:
    """Return True if the orchestrator's session has allowed and denied calls."""
    found = re.search(r"<td>[^\n]*agent:orchestrator.*?</tr>", page, re.S)
    return bool(found and re.search(r'<strong class="bad">[1-9]', found[0]))


def test_an_auditor_looks_and_changes_nothing(world: World) -> None:
    """Every page is there for the role auditor; the server refuses its changes, and the page says so."""
    file = CredentialFile(world.service.made.state_dir / "credentials.toml")
    credential = file.add("audrey", "auditor", ())
    session = world.open("agent:audited")
    target = f"unix:{world.service.made.socket}"

    def connect() -> AsyncClient:
        return AsyncClient(target, credential, timeout_ms=10_000)

    with console(world, connect=connect, allow_changes=True) as browser:
        assert wait_until(lambda: "agent:audited" in browser.http.get("/").text)
        path = f"/sessions/{session.id.hex()}"
        for page in ("/approvals", "/decisions", "/hosts", "/identity", "/token", path, f"{path}/change/end"):
            assert browser.http.get(page).status_code == 200, page
        code, text = browser.post(f"{path}/change/end", epoch="1")
        assert code == 403 and "Not permitted" in _shown(text)
    assert world.client.get_session(session.id).status.name == "ACTIVE"


def test_an_issuer_sees_its_own_sessions(world: World) -> None:
    """The pages of an issuer have its sessions alone, and it ends them."""
    file = CredentialFile(world.service.made.state_dir / "credentials.toml")
    credential = file.add("ida", "issuer", ())
    target = f"unix:{world.service.made.socket}"
    with Client(target, credential, timeout_ms=10_000) as ida:
        assert wait_until(lambda: _opens(ida))
        session = ida.list_sessions(subject="agent:idas").sessions[0]
    with console(
        world, connect=lambda: AsyncClient(target, credential, timeout_ms=10_000), allow_changes=True
    ) as browser:
        assert _has(browser, "/", "agent:idas")
        assert "agent:orchestrator" not in browser.get("/")
        assert browser.http.get(f"/sessions/{world.session.id.hex()}").status_code == 404
        path = f"/sessions/{session.id.hex()}"
        assert "agent:idas" in browser.get(path)
        assert browser.post(f"{path}/change/end", epoch="1")[0] == 200
    assert world.client.get_session(session.id).status.name == "ENDED"


def _opens(client: Client) -> bool:
    """Open a session as soon as the server knows the credential."""
    try:
        client.open_session(subject="agent:idas", ceiling=["read:x"])
    except Unauthenticated:
        return False
    return True


def test_a_gateways_credential_is_told_what_it_may_not_see(world: World) -> None:
    """A page that the role may not read says so; the others are there."""
    file = CredentialFile(world.service.made.state_dir / "credentials.toml")
    credential = file.add("gate", "gateway", ("gateway",))
    target = f"unix:{world.service.made.socket}"

    def browser_of() -> AsyncClient:
        return AsyncClient(target, credential, timeout_ms=10_000)

    # The newest is on the first page, however many there are.
    world.open("agent:newest")
    with console(world, connect=browser_of) as browser:
        assert wait_until(lambda: browser.http.get("/hosts").status_code == 403)
        assert browser.http.get("/approvals").status_code == 200
        assert _has(browser, "/", "agent:newest")


def test_pages_name_their_server(world: World, reader: Browser) -> None:
    """Two consoles are told apart by the address of their server."""
    with console(world, server="tokens.example:8443") as browser:
        assert "tokens.example:8443 , read only" in _shown(browser.get("/"))
    assert "read only" in _shown(reader.get("/"))
