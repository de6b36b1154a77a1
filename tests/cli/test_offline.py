from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sessauth.crypto.keys import IssuerKey
from sessauth.tokens.token import Token
from tests.support.tree import ROOT

from .conftest import Run

SESSION = "00112233445566778899aabbccddeeff"
SCOPE = 'read:mcp/github/* where owner == "acme" free *'


@pytest.fixture
def stored(run: Run, issuer_key: Path, tmp_path: Path) -> Path:
    """Give the file of an open token."""
    out = tmp_path / "stored"
    ran = run(
        "token", "mint", SESSION, "--issuer-key", issuer_key, "--scope", SCOPE, "--audience", "github",
        "--ttl", "15m", "--open", "--out", out,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return out


def test_mint_attenuate_present_need_no_server(
    run: Run, stored: Path, issuer_key: Path, tmp_path: Path
) -> None:
    """A token is minted with a key file, attenuated and presented, and its signatures stand."""
    child = tmp_path / "child"
    narrowed = run("token", "attenuate", stored, "--scope", SCOPE, "--label", "sub", "--open", "--out", child)
    presented = run("token", "present", child)
    token = presented.out.strip()
    inspected = run("token", "inspect", "-", "--issuer-key", issuer_key, "--json", stdin=token)

    assert (narrowed.code, presented.code, inspected.code) == (0, 0, 0)
    assert token.startswith("sessauth_token_")
    assert inspected.json["verdict"] == "VERIFIED"
    assert [block["ending"] for block in inspected.json["blocks"]] == ["open", "open", "sealed"]
    assert inspected.json["blocks"][1]["label"] == "sub"


def test_scopes_are_read_from_a_file(run: Run, issuer_key: Path, stored: Path, tmp_path: Path) -> None:
    """They follow those that are given, for a root block and for an attenuation; a bad line is named."""
    file, other = tmp_path / "some.scopes", 'read:mcp/github/get_issue where owner == "acme"'
    file.write_text(f"# of a report\n\n{other}\n")

    def scopes(made: str) -> list[str]:
        inspected = run("token", "inspect", "-", "--json", stdin=made).json
        return list(inspected["blocks"][-1]["scopes"])

    root = ("token", "mint", SESSION, "--issuer-key", issuer_key, "--audience", "github", "--ttl", "15m")
    assert scopes(run(*root, "--scope", SCOPE, "--scope-file", file).out) == [SCOPE, other]
    assert scopes(run(*root, "--scope-file", "-", stdin=other).out) == [other]
    assert scopes(run("token", "attenuate", stored, "--open", "--scope-file", file).out) == [other]
    file.write_text(f"{other}\nread mail\n")
    refused = run(*root, "--scope-file", file)
    assert (refused.code, refused.out) == (2, "")
    assert "--scope-file" in refused.err and "line 2" in refused.err


def test_inspect_says_unverified_unless_it_verified(run: Run, stored: Path) -> None:
    """Without a key to verify by, an inspection begins with UNVERIFIED and shows the chain as a tree."""
    presented = run("token", "present", stored).out

    shown = run("token", "inspect", "-", stdin=presented)

    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].startswith("UNVERIFIED")
    assert any(line.startswith("root block, open, ") for line in lines)
    assert any(line.startswith("│  scope 0   read:mcp/github/*") for line in lines)
    assert any(line.startswith("└─ block 1, sealed, ") for line in lines)
    assert run("token", "inspect", "-", "--json", stdin=presented).json["verified"] is False


def test_inspect_under_another_key(run: Run, stored: Path, tmp_path: Path) -> None:
    """A token of another issuer is NOT VERIFIED, and the command exits with 1."""
    other = tmp_path / "other.pem"
    IssuerKey.generate().save(other)

    shown = run("token", "inspect", stored, "--issuer-key", other)

    assert shown.code == 1
    assert shown.out.startswith("NOT VERIFIED")
    assert "another issuer key" in shown.out


def test_inspect_finds_a_forged_block(run: Run, stored: Path, issuer_key: Path, tmp_path: Path) -> None:
    """A chain whose bytes were changed is NOT VERIFIED, and the block is named."""
    data = bytearray(Token.parse(run("token", "present", stored).out).data)
    at = data.rindex(bytes.fromhex(run("token", "inspect", stored, "--json").json["token_id"]))
    data[at] ^= 1
    forged = tmp_path / "forged"
    forged.write_bytes(Token.parse(bytes(data)).text.encode())

    shown = run("token", "inspect", forged, "--issuer-key", issuer_key)

    assert shown.code == 1
    assert "the signature of block 0 is wrong" in shown.out


@pytest.mark.parametrize("form", ["jwk", "jwks", "hex", "pem", "private"])
def test_inspect_takes_keys_in_each_form(
    run: Run, stored: Path, issuer_key: Path, tmp_path: Path, form: str
) -> None:
    """A verification key is read as JWK, JWK set, hex, PEM, or from the issuer's own key file."""
    key = IssuerKey.load(issuer_key)
    spki = bytes.fromhex("302a300506032b6570032100") + key.public_key
    text = {
        "jwk": json.dumps(key.public_jwk()),
        "jwks": json.dumps({"keys": [key.public_jwk()]}),
        "hex": key.public_key.hex(),
        "pem": f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(spki).decode()}\n-----END PUBLIC KEY-----\n",
        "private": issuer_key.read_text(),
    }[form]
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)

    assert run("token", "inspect", stored, "--issuer-key", path, "--json").json["verdict"] == "VERIFIED"


def test_unproven_scope_warns_and_strict_refuses(run: Run, stored: Path) -> None:
    """A scope not proven to narrow its parent is made with a warning, and refused with --strict."""
    scope = "read:mcp/github/get_commit free *"

    warned = run("token", "attenuate", stored, "--scope", scope)
    strict = run("token", "attenuate", stored, "--scope", scope, "--strict")

    assert warned.code == 0
    assert warned.err.startswith("warning: ")
    assert (strict.code, strict.out) == (2, "")
    assert run("token", "attenuate", stored, "--scope", scope, "--json").json["warnings"] != []


def test_a_token_signed_here_can_not_be_strict(run: Run, issuer_key: Path) -> None:
    """Only the server knows the ceiling that --strict holds the scopes to."""
    ran = run(
        *("token", "mint", SESSION, "--issuer-key", issuer_key, "--strict"),
        *("--scope", "read:a", "--audience", "g", "--ttl", "15m"),
    )

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("sessauth: --strict is for the server")


def test_out_file_is_new_and_private(run: Run, stored: Path, tmp_path: Path) -> None:
    """--out writes a file with mode 0600, and never over one that exists."""
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600

    ran = run("token", "present", stored, "--out", stored)

    assert ran.code == 2
    assert "File exists" in ran.err
    assert stored.read_text().startswith("sessauth_secret_")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not a token"),
        ("hello", "not a token"),
        ("cut", "truncated"),
        ("flip", "damaged"),
        (b"\xff\xfe", "no text"),
    ],
)
def test_bad_paste_is_named(
    run: Run, stored: Path, tmp_path: Path, content: str | bytes, expected: str
) -> None:
    """A paste that is cut or damaged is called that, and none of it is repeated."""
    text = run("token", "present", stored).out.strip()
    content = {"cut": text[:-10], "flip": text[:60] + "A" * 4 + text[64:]}.get(str(content), content)

    ran = run("token", "inspect", "-", stdin=content)

    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.err
    assert text[20:60] not in ran.err


@pytest.mark.parametrize(
    "args",
    [
        ("token", "mint", "xyz"),
        ("token", "mint", SESSION, "--ttl", "5"),
        ("token", "mint", SESSION, "--ttl", "0s"),
        ("token", "mint", SESSION, "--not-before", "2026-01-31T12:00:00"),
        ("session", "open", "--subject", "x", "--ceiling", "read:x", "--fact", "nothing"),
        ("session", "open", "--subject", "x", "--ceiling", "read:x", "--fact", "a:=[1]"),
        ("session", "open", "--subject", "x", "--ceiling", "read:x", "--fact", "a:=NaN"),
        ("session", "list", "--label", "x"),
        ("keys", "retire", "00"),
        ("token", "revoke"),
        ("token", "inspect", "missing-file"),
        ("token", "inspect", "-", "--server", "--state", "x"),
        ("no-such-command",),
        ("session", "open"),
    ],
)
def test_usage_errors_exit_with_2(run: Run, args: tuple[str, ...]) -> None:
    """An unreadable argument is exit code 2, with a word on stderr and nothing on stdout."""
    ran = run(*args)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err


def test_offline_commands_load_no_server_parts(run: Run, stored: Path) -> None:
    """Commands without a server start without gRPC, protobuf and LMDB."""
    program = (
        "import sys\nfrom sessauth.cli.main import cli\n"
        "try: cli.main(['token', 'present', sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "heavy = {name.split('.')[0] for name in sys.modules} & {'grpc', 'lmdb', 'google'}\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program, str(stored)], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert ran.stdout.startswith("sessauth_token_")
    assert ran.stderr == "[]\n"


def test_the_version_alone_loads_nothing_of_the_command_line(run: Run) -> None:
    """It is what the command line itself would print."""
    program = (
        "import sys\nfrom sessauth.cli.__main__ import main\n"
        "main()\nprint('click' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)

    assert (ran.stdout, ran.stderr) == (run("--version").out, "False\n")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_command_and_no_kernel(option: str) -> None:
    """They take as long as click does."""
    program = (
        "import sys\nfrom sessauth.cli.main import cli\n"
        "try: cli.main([sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "heavy = ('sessauth._fast', 'sessauth.cli.commands', 'sessauth.tokens')\n"
        "print([name for name in sys.modules if name.startswith(heavy)], file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, option], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ran.stdout
    assert ran.stderr == "[]\n"
