"""Errors name what a user of the command line can type, never a parameter of the Python API."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import sessauth
from sessauth import errors
from sessauth.cli import output
from sessauth.cli.main import cli
from sessauth.cli.output import PARAMETERS, with_option_names

from .conftest import Run, Service

# As it is installed, which may be without a source tree.
PACKAGE = Path(sessauth.__file__).parent
# Code that a command reaches, here or at a server. Configuration errors name their own keys.
REACHED = (
    *("client", "server/services", "server/request_fields.py", "server/events.py", "cli"),
    *(f"tokens/{name}.py" for name in ("block_draft", "prover", "token")),
    *("crypto/keys.py", "approvals/approver.py", "scopes/call_arguments.py", "verifier/base.py"),
)
# Read by the server alone: what a verifier or a follower reports has no options.
NOT_REACHED = {"client/_usage_messages.py", "server/services/cluster.py"}
# Parameters that no command passes on as its user's, and words that only look like one.
NO_OPTIONS = {
    *(
        "address",
        "from_now",
        "has_arguments",
        "incarnation",
        "issuer_keys",
        "item",
        "items",
        "method",
        "min_revision",
    ),
    *("now_ms", "principal", "proof_key", "request", "revision", "selector", "sid", "statement", "token"),
    "token_index",
    *("tokens", "trace", "verifier_key"),
    # Of the Python API alone.
    *("report_usage", "to_json"),
}
PARAMETER = re.compile(r"(?<![\w.'{/-])([a-z]+(?:_[a-z]+)+)(?![\w}])|(?<![\w.'-])([a-z_]+)=")
HEAD = re.compile(r"(?:items?(?:\[3\])?\.)?([a-z_]+)(?:\[3\])?: ")


def text_of(node: ast.expr) -> str:
    """A message, with {} for what is put into it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) if isinstance(value, ast.Constant) else "{}" for value in values)
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
    return "{}"


def filled_in(message: str) -> str:
    """A message with something in each of its places."""
    return re.sub(r"^\{\}\.", "item.", message).replace("[{}]", "[3]").replace("{}", "5")


def messages() -> Iterator[tuple[str, str]]:
    """Every message that a command's user may come to see, with its place."""
    for part in REACHED:
        for path in [PACKAGE / part] if part.endswith(".py") else sorted((PACKAGE / part).rglob("*.py")):
            if path.relative_to(PACKAGE).as_posix() in NOT_REACHED:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                if called == "invalid":
                    yield place, filled_in(": ".join(text_of(each) for each in node.args[:2]))
                elif called in errors.__dict__:
                    yield place, filled_in(text_of(node.args[0]))


def parameters_of(command: click.Command) -> Iterator[click.Parameter]:
    """Every parameter of a command and of all below it."""
    yield from command.params
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from parameters_of(below)


def known_of(*parameters: click.Parameter) -> dict[str, str]:
    """The names of these parameters on the command line."""
    return output.options_of(click.Context(click.Command("command", params=list(parameters))))


def everything() -> dict[str, str]:
    """A command that had all that any command has: parameters by what their user calls them."""
    return known_of(*parameters_of(cli))


def mentioned(message: str) -> set[str]:
    """The parameters that a message names."""
    found = {name or other for name, other in PARAMETER.findall(message)}
    head = HEAD.match(message)
    return found | ({head[1]} if head else set())


def test_every_parameter_in_a_message_is_known() -> None:
    """Each that a message names is said as an option, or is none that a command's user could give."""
    known = everything()
    left = {
        name: f"{place}: {message}"
        for place, message in messages()
        for name in mentioned(message) & mentioned(with_option_names(message, known))
    }

    assert {name: where for name, where in left.items() if name not in NO_OPTIONS} == {}
    assert NO_OPTIONS - set(left) == set()


def test_what_parameters_are_said_as_exists() -> None:
    """Each option in the table is one of some command."""
    known = {name for each in parameters_of(cli) for name in (*each.opts, each.name)}

    assert set(PARAMETERS.values()) - known == set()


def test_a_parameter_with_an_option_of_its_own_is_not_in_the_table() -> None:
    """The table holds what no declaration says, but for ``tls``: a file of certificates implies it."""
    assert PARAMETERS.keys() & everything().keys() == {"tls"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("ttl_ms: must be at most 5", "--ttl: must be at most 5"),
        ("raise timeout_ms if that is too short", "raise --timeout-ms if that is too short"),
        ("give tls=, or insecure_tcp=True if you mean it", "give --tls-ca, or --insecure-tcp if you mean it"),
        ("repeat it with request_id 'a1' to learn", "repeat it with --request-id 'a1' to learn"),
        ("item.retry_id: must be at most 64 bytes", "--retry-id: must be at most 64 bytes"),
        ("where[2]: is no condition", "--where[2]: is no condition"),
        ("WIDENS: where: scope 0 is wider", "WIDENS: --where: scope 0 is wider"),
        ("DENIED: the source: is unclear", "DENIED: the source: is unclear"),
        # Other commands' parameters and other words stay as they are.
        ("proofs.key_lifetime_ms: must be at least 5", "proofs.key_lifetime_ms: must be at least 5"),
        ("unix:/srv/timeout_ms/s can't be reached", "unix:/srv/timeout_ms/s can't be reached"),
        ("the source: is unclear", "the source: is unclear"),
        ("lease_ms: must be at most 5", "lease_ms: must be at most 5"),
        ("'a ttl_ms' is no label", "'a ttl_ms' is no label"),
    ],
)
def test_how_a_message_is_said(message: str, expected: str) -> None:
    """Parameters are said as the options that the command has; nothing else changes."""
    options = ("--timeout-ms", "--tls-ca", "--insecure-tcp", "--request-id", "--retry-id", "--where")
    known = known_of(
        click.Option(["--ttl", "ttl_ms"]), *(click.Option([option]) for option in (*options, "--source"))
    )

    assert with_option_names(message, known) == expected


def test_a_wrong_target_names_options(run: Run, tmp_path: Path) -> None:
    """Plain TCP, a missing certificate, half a pair, an unreadable credential."""
    (tmp_path / "open.credential").write_text("sessauth_key_x_y\n")
    (tmp_path / "open.credential").chmod(0o644)
    for options, expected in (
        (("--target", "127.0.0.1:1"), ("give --tls,", "--insecure-tcp")),
        (("--target", "nowhere"), ("--target: 'nowhere'",)),
        (("--target", "127.0.0.1:1", "--tls-ca", "none.pem"), ("--tls-ca: can't read none.pem",)),
        (("--target", "127.0.0.1:1", "--tls-key", "k.pem"), ("--tls-certificate", "--tls-key")),
        (("--target", "/x", "--credential-file", "open.credential"), ("--credential-file: others may read",)),
    ):
        ran = run(*options, "session", "list")
        assert ran.code == 2
        assert not re.search(r"[a-z_]=|insecure_tcp|(?<!-)credential:|(?<!-)target:|tls\.", ran.err)
        for part in expected:
            assert part in ran.err
        assert expected[0] in run(*options, "session", "list", "--json").err


def test_what_a_server_refuses_names_options(service: Service) -> None:
    """A field of a request that a server finds wrong is said as the option that it came by."""
    opened = service("session", "open", "--subject", "a", "--ceiling", "read:**", "--json").json["id"]
    for command, option in (
        (("session", "open", "--subject", "a", "--ceiling", "read:**", "--ttl", "9999d"), "--ttl: "),
        (("session", "open", "--subject", "", "--ceiling", "read:**"), "--subject: "),
        (("approval", "list", "--page", "AAAA"), "--page: "),
        (("token", "mint", opened, "--scope", "read:**", "--audience", "g", "--where", "x"), "--where"),
        (("token", "mint", opened, "--scope", "read:**"), "--audience: "),
    ):
        ran = service(*command)
        assert ran.code == 2, ran
        assert ran.err.startswith(f"sessauth: {option}"), ran.err
