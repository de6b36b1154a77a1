"""``sessauth allowed``: verdicts by a server and by its state folder, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.decisions.tool_catalog import ToolCatalog

from .conftest import Run, Service

SCOPES = ("read:mcp/github/*", 'write:mcp/github/* where owner == "acme" free *')


@pytest.fixture
def token(service: Service, tmp_path: Path) -> Path:
    """Give the file of a token of a new session."""
    return _mint(service, tmp_path)[1]


def _mint(service: Service, folder: Path) -> tuple[str, Path]:
    ran = service("session", "open", "--subject", "agent", "--ceiling", "*:mcp/**", "--json")
    session, out = str(ran.json["id"]), folder / "token"
    scopes = [part for scope in SCOPES for part in ("--scope", scope)]
    ran = service("token", "mint", session, *scopes, "--audience", "gateway", "--out", out)
    assert ran.code == 0, ran.err
    return session, out


def test_verdicts_for_people_and_programs(service: Service, token: Path) -> None:
    """Each call has its verdict, in order; server and state folder say the same."""
    calls = ("read:mcp/github/get", "write:mcp/github/put", "read:files/x")
    state = ("--state", service.home / "state")
    shown = service("allowed", token, *calls, "--audience", "gateway")
    told = service("allowed", token, *calls, "--audience", "gateway", "--json")
    here = service("allowed", token, *calls, "--audience", "gateway", "--json", *state)

    assert (shown.code, told.code, here.code) == (0, 0, 0)
    assert [line.split() for line in shown.out.splitlines()[1:]] == [
        ["yes", "read", "mcp/github/get"],
        ["maybe", "write", "mcp/github/put"],
        ["no", "read", "files/x"],
    ]
    assert (told.json["reason"], told.json["stage"]) == ("ALLOWED", "NONE")
    assert [each["verdict"] for each in told.json["verdicts"]] == ["YES", "MAYBE", "NO"]
    assert told.json["verdicts"][0] == {"action": "read", "resource": "mcp/github/get", "verdict": "YES"}
    assert here.json == told.json


@pytest.mark.parametrize(("arguments", "verdict"), [('{"owner": "acme"}', "YES"), ('{"owner": "x"}', "NO")])
def test_with_arguments(service: Service, token: Path, tmp_path: Path, arguments: str, verdict: str) -> None:
    """Arguments, as JSON or from a file, are judged as a check judges them."""
    file = tmp_path / "arguments"
    file.write_text(arguments)
    for given in (arguments, f"@{file}"):
        ran = service(
            *("allowed", token, "write:mcp/github/put", "--audience", "gateway"),
            *("--arguments", given, "--json"),
        )
        assert [each["verdict"] for each in ran.json["verdicts"]] == [verdict]


def test_the_tools_of_a_catalogue(service: Service, token: Path, tmp_path: Path) -> None:
    """Every tool of a pinned catalogue is asked about, behind the calls."""
    tools = [{"name": "get", "annotations": {"readOnlyHint": True}}, {"name": "put"}]
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(ToolCatalog.from_mcp("github", tools).to_json())
    ran = service(
        "allowed", token, "read:files/x", "--catalogue", catalogue, "--audience", "gateway", "--json"
    )

    assert [(each["resource"], each["verdict"]) for each in ran.json["verdicts"]] == [
        ("files/x", "NO"),
        ("mcp/github/get", "YES"),
        ("mcp/github/put", "MAYBE"),
    ]


def test_a_token_that_is_refused(service: Service, tmp_path: Path) -> None:
    """It exits with 1 and says why, by server and state folder; the verdicts are all no."""
    session, token = _mint(service, tmp_path)
    service("session", "end", session)
    for more in ((), ("--state", service.home / "state")):
        ran = service("allowed", token, "read:mcp/github/get", "--audience", "gateway", *more)
        assert ran.code == 1
        assert ran.out.splitlines()[0] == "REFUSED SESSION_ENDED at stage session"
        assert ran.out.splitlines()[2].split() == ["no", "read", "mcp/github/get"]


@pytest.mark.parametrize(
    "arguments", [(), ("read",), ("--catalogue", "none-there"), ("read:x", "--arguments", "@none-there")]
)
def test_what_can_not_be_asked(run: Run, service: Service, token: Path, arguments: tuple[str, ...]) -> None:
    """Nothing to ask about, a call without a colon or a file that is missing exit with 2."""
    assert service("allowed", token, *arguments).code == 2


def test_stdin_is_read_once(service: Service, token: Path) -> None:
    """A token and arguments can't both come from stdin; one of them can."""
    calls = ("read:mcp/github/get", "--audience", "gateway")
    assert service("allowed", "-", *calls, "--arguments", "@-", stdin="x").code == 2
    assert service("allowed", "-", *calls, stdin=token.read_text()).code == 0
    assert service("allowed", token, *calls, "--arguments", "@-", stdin="{}").code == 0
