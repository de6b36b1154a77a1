from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from sessauth.cli.main import cli

from .conftest import COMMAND, Run, Service

SCOPE = "read:files/** free *"


def _token(service: Service, tmp_path: Path) -> tuple[Path, str]:
    session = service("session", "open", "--subject", "x", "--ceiling", SCOPE, "--json").json["id"]
    out = tmp_path / "stored"
    service("token", "mint", session, "--scope", SCOPE, "--audience", "gateway", "--open", "--out", out)
    return out, out.read_text().strip()


@pytest.mark.parametrize("prefix", ["sessauth_token_", "sessauth_secret_"])
@pytest.mark.parametrize(
    "command",
    [
        ("token", "present"),
        ("token", "inspect"),
        ("token", "attenuate"),
        ("token", "revoke"),
        ("token", "prove"),
        ("check",),
    ],
)
def test_token_as_an_argument_is_refused(run: Run, command: tuple[str, ...], prefix: str) -> None:
    """A token given as an argument is refused with the way to hand it over, and is not repeated."""
    more: tuple[str, ...] = ("read", "files/a") if command in (("check",), ("token", "prove")) else ()
    more += ("--key", "holder.pem") if command == ("token", "prove") else ()

    ran = run(*command, prefix + "Q0FGRUJBQkU.abcdef", *more)

    assert (ran.code, ran.out) == (2, "")
    assert "- for stdin" in ran.err
    assert "Q0FGRUJBQkU" not in ran.err


def test_no_command_takes_a_secret_by_value() -> None:
    """No option or argument of any command is for a token, a secret or a credential's text."""

    def walk(command: object, path: str) -> list[str]:
        found = []
        for parameter in command.params:  # type: ignore[attr-defined]
            if parameter.name in ("token", "secret", "credential", "key", "api_key", "password"):
                found.append(f"{path} {parameter.name}")
        for name in getattr(command, "commands", {}) or (command.list_commands(None) if path == "" else ()):  # type: ignore[attr-defined]
            child = command.get_command(None, name)  # type: ignore[attr-defined]
            found += walk(child, f"{path} {name}")
        return found

    assert walk(cli, "") == []


def test_outputs_beside_the_result_hold_no_secret(service: Service, tmp_path: Path) -> None:
    """Output beside the result, on stdout or stderr, repeats no token and no secret."""
    stored, text = _token(service, tmp_path)
    presented = service("token", "present", stored).out.strip()
    damaged = tmp_path / "damaged"
    damaged.write_text(text[:-1] + ("A" if text[-1] != "A" else "B"))
    credential = (service.home / "operator.credential").read_text().strip()

    said = ""
    for args in (
        ("token", "inspect", stored),
        ("token", "inspect", stored, "--json"),
        ("token", "inspect", stored, "--server"),
        ("token", "inspect", damaged),
        ("token", "revoke", stored, "--json"),
        ("token", "attenuate", damaged, "--label", "x"),
        ("token", "attenuate", stored, "--scope", "write:files/x"),
        ("check", stored, "read", "files/a", "--audience", "gateway", "--json"),
        ("check", damaged, "read", "files/a", "--json"),
        ("session", "list", "--json"),
        ("credential", "list", "--json"),
    ):
        ran = service(*args)
        said += ran.out + ran.err

    for secret in (text, presented, credential):
        body = secret[20:]
        assert all(body[at : at + 24] not in said for at in range(0, len(body) - 24, 4))


def test_running_command_shows_no_secret_in_ps(service: Service, tmp_path: Path) -> None:
    """While a command waits for its token on stdin, what ps reads of it holds none."""
    _, text = _token(service, tmp_path)
    command = [
        *COMMAND,
        "--home",
        str(service.home),
        "check",
        "-",
        "read",
        "files/a",
        "--audience",
        "gateway",
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(text[:40].encode())
    process.stdin.flush()

    argv = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    out, err = process.communicate(text[40:].encode(), timeout=30)

    assert b"OPEN_TOKEN" in out
    for seen in (argv, environment, out, err):
        assert text[20:60].encode() not in seen


def test_credential_is_printed_once(service: Service) -> None:
    """A new credential is the only thing on stdout, and the file that keeps its hash does not hold it."""
    ran = service("credential", "add", "once", "--role", "gateway", "--audience", "a")
    secret = ran.out.strip()[-43:]

    assert ran.out.startswith("sessauth_key_once_")
    assert ran.err == ""
    stored = (service.home / "state" / "credentials.toml").read_text()
    assert "once" in stored
    assert secret not in stored


def test_a_holders_secrets_show_nowhere(service: Service, tmp_path: Path) -> None:
    """Output while a bound token is made, narrowed, proven and checked holds no line of a key file."""
    key, other, token = (tmp_path / name for name in ("holder.pem", "other.pem", "token"))
    session = service("session", "open", "--subject", "x", "--ceiling", SCOPE, "--json").json["id"]
    said = ""
    for args in (
        ("holder-key", "new", key),
        ("holder-key", "new", other, "--json"),
        ("holder-key", "new", key),
        (
            "token",
            "mint",
            session,
            "--scope",
            SCOPE,
            "--to",
            f"@{key}",
            "--audience",
            "gateway",
            "--out",
            token,
        ),
        ("token", "inspect", token),
        ("token", "attenuate", token, "--to", f"@{other}", "--key", key, "--json"),
        ("token", "attenuate", token, "--to", f"@{other}", "--key", other),
        ("token", "prove", token, "read", "files/a", "--key", key, "--json"),
        ("token", "prove", token, "read", "files/a", "--key", other),
        ("check", token, "read", "files/a", "--audience", "gateway", "--holder-key", key, "--json"),
        ("check", token, "read", "files/a", "--audience", "gateway", "--holder-key", token),
    ):
        ran = service(*args)
        said += ran.out + ran.err

    lines = key.read_text().splitlines() + other.read_text().splitlines()
    secrets = [line[22:] for line in lines if not line.startswith("-")]
    assert len(secrets) == 4
    assert [secret for secret in secrets if secret in said] == []
    host = json.loads((service.home / "state" / "proof" / "keys").read_text())
    assert [each for each in host["keys"] if each["secret"] in said] == []


def test_private_key_is_not_read_from_stdin(run: Run, issuer_key: Path, tmp_path: Path) -> None:
    """A private key comes from a file of its owner's alone, and is refused from anywhere else."""
    text = issuer_key.read_text()
    token = run(
        "token", "mint", "00" * 16, "--issuer-key", issuer_key, "--scope", SCOPE, "--audience", "a",
        "--ttl", "1m", "--out", tmp_path / "t",
    )  # fmt: skip
    assert token.code == 0

    from_stdin = run("token", "inspect", tmp_path / "t", "--issuer-key", "-", stdin=text)
    os.chmod(issuer_key, 0o644)
    readable = run("token", "mint", "00" * 16, "--issuer-key", issuer_key, "--scope", SCOPE)

    assert (from_stdin.code, readable.code) == (2, 5)
    assert text.splitlines()[1] not in from_stdin.err + readable.err
