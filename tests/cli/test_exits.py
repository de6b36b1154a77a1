from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import pytest

from sessauth import Denied, errors
from sessauth.cli import output
from sessauth.cli.main import COMMANDS, SECTIONS, cli
from sessauth.decisions.decision import DecisionBase
from sessauth.guard import ToolDenied

from .conftest import COMMAND, Run, Service


def _classes(base: type[errors.SessauthError]) -> list[type[errors.SessauthError]]:
    return [base, *(each for child in base.__subclasses__() for each in _classes(child))]


def _made(kind: type[errors.SessauthError]) -> errors.SessauthError:
    return kind.__new__(kind)


EXPECTED = {
    Denied: 1,
    ToolDenied: 1,
    errors.UsageError: 2,
    errors.UnknownTool: 2,
    errors.TokenError: 2,
    errors.InvalidApproval: 2,
    errors.InvalidReceipt: 1,
    errors.Rejected: 3,
    errors.IdentityRefused: 3,
    errors.ServerError: 3,
    errors.Unavailable: 4,
    errors.StateError: 5,
}


def test_an_error_of_several_lines_is_printed_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is indented, so that none looks like a line of ours, and its other controls are escapes."""
    output.report(errors.UsageError(), "it did not start:\nserving\n\x1b[2J", as_json=False)

    assert capsys.readouterr().err == 'sessauth: it did not start:\n  serving\n  "\\u001b[2J"\n'


@pytest.mark.parametrize("kind", _classes(errors.SessauthError)[1:], ids=lambda kind: kind.__name__)
def test_each_error_has_its_exit_code(kind: type[errors.SessauthError]) -> None:
    """The exit code of an error is that of its nearest family in the error tree."""
    nearest = next(family for family in kind.__mro__ if family in EXPECTED)

    assert output.exit_code(_made(kind)) == EXPECTED[nearest]


def test_exit_codes_have_a_page(run: Run) -> None:
    """The help names the page, which has each code with its meaning."""
    assert "sessauth help exit-codes" in run("--help").out
    shown = " ".join(run("help", "exit-codes").out.split())
    for code, meaning in output.EXIT_CODES.items():
        assert f"{code} {meaning}" in shown


def test_no_server_exits_with_4(run: Run) -> None:
    """Without a server the command says so, names the socket, and exits with 4."""
    ran = run("session", "list")

    assert (ran.code, ran.out) == (4, "")
    assert "run/sessauth.sock can't be reached" in ran.err
    assert "nothing was done" in ran.err
    assert "sessauth serve" in ran.err
    assert run("--timeout-ms", "200", "session", "list", "--json").code == 4


def test_errors_in_json(run: Run) -> None:
    """An error with --json is one JSON document on stderr, with kind, word and message."""
    ran = run("session", "list", "--json")

    error = json.loads(ran.err)["error"]
    assert (error["kind"], set(error)) == ("Unreachable", {"kind", "word", "message"})


def test_help_has_each_command_once_in_a_section(run: Run) -> None:
    """Its line there is the first sentence of its own help, and is not cut off."""
    assert sum(map(len, SECTIONS.values())) == len(COMMANDS)
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.get_short_help_str(200) == line
    shown = run("--help").out
    assert "…" not in shown and "..." not in shown.replace("[ARGS]...", "")
    assert all(f"\n{section}:\n" in shown for section in SECTIONS)


def test_help_is_a_command_too(run: Run) -> None:
    """It shows the help of the command that follows, alone the help of all."""
    assert run("help", "session", "end").out == run("session", "end", "--help").out
    assert run("help").out == run("--help").out
    assert "nothing" in run("help", "nothing").err


@pytest.mark.parametrize(
    "args",
    [
        ("session", "get", "--json"),
        ("keys", "retire", "zz", "--json"),
        ("--json", "session", "get"),
        ("session", "list", "--unknown", "--json"),
        ("session", "lost", "--json"),
        ("lost", "--json"),
    ],
)
def test_usage_errors_in_json(run: Run, args: tuple[str, ...]) -> None:
    """A missing, unreadable or unknown word with --json is one JSON document on stderr too."""
    ran = run(*args)

    assert (ran.code, ran.out) == (2, "")
    assert json.loads(ran.err)["error"]["kind"] == "UsageError"


def test_broken_pipe_is_quiet(service: Service) -> None:
    """The command ends without a traceback if the reader of its output goes away."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [*COMMAND, "--home", str(service.home), "session", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)

    assert (process.returncode, process.stderr) == (output.BROKEN_PIPE, b"")


def test_interrupt_is_quiet() -> None:
    """Ctrl-C while a command waits for its token ends it with 130, without a traceback."""
    process = subprocess.Popen(
        [*COMMAND, "token", "inspect", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"sessauth_")
    process.stdin.flush()
    # Once the pipe is empty the command is reading, and waits for the rest.
    give_up = time.monotonic() + 20
    while _unread(process.stdin.fileno()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (output.INTERRUPTED, b"")
    assert err.strip() == b"sessauth: interrupted"


def test_an_interrupted_command_ends_whatever_its_destructors_do() -> None:
    """One of gRPC's waits forever behind a call that was interrupted at the wrong moment."""
    script = """
import sys, threading
from sessauth.cli import main as command
class Stuck:
    def __del__(self):
        threading.Event().wait()
def interrupted():
    stuck = Stuck()
    stuck.itself = stuck
    print("said")
    sys.exit(130)
command.cli.main = interrupted
command.main()
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)

    assert (ran.returncode, ran.stdout, ran.stderr) == (output.INTERRUPTED, b"said\n", b"")


def _unread(descriptor: int) -> int:
    waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int.from_bytes(waiting, sys.byteorder)


@pytest.mark.slow
def test_serve_drains_on_ctrl_c(tmp_path: Path) -> None:
    """A server that is interrupted at its terminal drains and exits with 0."""
    from .conftest import start_service

    service = start_service(tmp_path / "h")
    service.process.send_signal(signal.SIGINT)

    assert service.process.wait(30) == 0


def test_our_mistake_is_not_a_denial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw exits with 70 and never with 1, which means denied."""

    def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr("sessauth.cli.commands.token.read_token", broken)

    ran = run("token", "present", "-")

    assert (ran.code, ran.out) == (output.INTERNAL, "")
    assert "RuntimeError: bug" in ran.err


def test_denied_is_an_error_of_the_token_holder() -> None:
    """Denied keeps its decision, and its exit code is that of a denied check."""

    class Decided(DecisionBase):
        pass

    error = _made(Denied)
    error.decision = Decided()  # type: ignore[attr-defined]
    assert output.exit_code(error) == output.DENIED
