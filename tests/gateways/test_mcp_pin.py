"""``sessauth mcp pin``: catalogues made from servers, and how a server differs from an older one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sessauth.decisions.tool_catalog import ToolCatalog
from tests.support.mcp_server import TOOLS
from tests.support.mcp_wire import COMMAND, SERVER


def pin(way: str, *options: str) -> tuple[int, str, str]:
    """Run the command for a server that behaves in a way; return code, output and errors."""
    command = [*COMMAND, "mcp", "pin", *options, "--", sys.executable, str(SERVER), way, "/dev/null"]
    run = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("way", ["good", "modern", "paged"])
def test_the_catalogue_is_that_of_the_servers_list(way: str) -> None:
    """A server with a handshake, one without, and one that lists by pages and asks meanwhile."""
    code, shown, errors = pin(way, "--name", "tools")

    assert (code, errors) == (0, "")
    assert shown == ToolCatalog.from_mcp("tools", TOOLS).to_json()


def test_it_is_written_in_the_place_of_an_older_one(tmp_path: Path) -> None:
    """The file is replaced whole, and the tools are shown."""
    file = tmp_path / "catalogue.json"
    file.write_text("old")
    code, shown, _ = pin("good", "--name", "tools", "--out", str(file))

    assert code == 0 and "delete_repo  write   destructive" in shown
    assert list(ToolCatalog.from_json(file.read_text())) == ["delete_repo", "get_weather", "pay"]
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue.json"]


def test_what_changed_is_shown(tmp_path: Path) -> None:
    """Definitions, hints, added and dropped tools; the name is the older catalogue's."""
    file = tmp_path / "catalogue.json"
    older = [
        {**TOOLS[0], "description": "other"},
        {**TOOLS[1], "annotations": {"readOnlyHint": True}},
        {"name": "gone"},
    ]
    file.write_text(ToolCatalog.from_mcp("tools", older).to_json())
    code, shown, _ = pin("good", "--compare", str(file))
    json_code, document, _ = pin("good", "--compare", str(file), "--json")

    assert code == json_code == 1
    assert shown.splitlines() == [
        "added  delete_repo (write)",
        "changed  get_weather (its definition)",
        "dropped  gone (write)",
        "changed  pay (action read -> write, idempotent True -> False)",
    ]
    assert json.loads(document)["differences"][0] == {"name": "delete_repo", "difference": "added"}


def test_tools_that_no_scope_can_name_are_left_out() -> None:
    """The catalogue comes with a warning; calls of them are denied as unknown."""
    code, shown, errors = pin("odd-names", "--name", "tools")

    assert code == 0 and shown == ToolCatalog.from_mcp("tools", TOOLS).to_json()
    assert errors.count("left out") == 3


@pytest.mark.parametrize(
    ("way", "options", "word"),
    [
        ("good", (), "--name"),
        ("good", ("--name", "a/b"), "a/b"),
        ("same-names", ("--name", "tools"), "twice"),
        ("no-list", ("--name", "tools"), "did not list"),
        ("good", ("--name", "tools", "--out", "/nowhere/file"), "--out"),
        ("good", ("--name", "tools", "--url", "http://127.0.0.1:1/"), "--url"),
        ("good", ("--name", "tools", "--header-file", "/dev/null"), "--header-file"),
        ("good", ("--compare", "/dev/null"), "catalogue"),
    ],
)
def test_errors_name_what_to_change(way: str, options: tuple[str, ...], word: str) -> None:
    """Exit code 2, and nothing on standard output."""
    code, shown, errors = pin(way, *options)

    assert (code, shown) == (2, "")
    assert word in errors and "Traceback" not in errors


def test_a_server_that_is_not_there() -> None:
    """No answer over HTTP is an error as well."""
    command = [*COMMAND, "mcp", "pin", "--name", "tools", "--url", "http://127.0.0.1:1/mcp"]
    run = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)

    assert run.returncode == 2
    assert "did not list its tools" in run.stderr
