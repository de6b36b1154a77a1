"""``sessauth catalogue``: catalogues made from servers and files, corrected, and compared again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessauth.decisions.tool_catalog import ToolCatalog
from tests.support.mcp_server import TOOLS
from tests.support.mcp_wire import COMMAND, SERVER

Run = tuple[int, str, str]
OPEN_WORLD = (
    "warning: a read that may reach the open world, and tell it things: get_weather; "
    "hold its addresses and queries\n"
)


def run(*arguments: str, stdin: str = "") -> Run:
    """Run ``sessauth catalogue``; return code, output and errors."""
    command = [*COMMAND, "catalogue", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True, input=stdin)
    return done.returncode, done.stdout, done.stderr


def pin(way: str, *options: str) -> Run:
    """Pin a server that behaves in a way."""
    return run("pin", *options, "--", sys.executable, str(SERVER), way, "/dev/null")


def diff(way: str, *options: str) -> Run:
    """Compare a server that behaves in a way."""
    return run("diff", *options, "--", sys.executable, str(SERVER), way, "/dev/null")


def written(path: Path, document: Any) -> str:
    """Write a document as JSON; return the file's name."""
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("way", ["good", "modern", "paged"])
def test_the_catalogue_is_that_of_the_servers_list(way: str) -> None:
    """A server with a handshake, one without, and one that lists by pages and asks meanwhile."""
    code, shown, errors = pin(way, "tools")

    assert (code, shown) == (0, ToolCatalog.from_mcp("tools", TOOLS).to_json())
    assert errors == OPEN_WORLD


@pytest.mark.parametrize(
    "document",
    [{"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS}}, {"tools": TOOLS}, TOOLS],
    ids=["answer", "result", "list"],
)
def test_a_file_stands_for_a_server(document: Any, tmp_path: Path) -> None:
    """An answer of tools/list as it is on the wire, its result, or the list alone; from stdin too."""
    expected = (0, ToolCatalog.from_mcp("tools", TOOLS).to_json(), OPEN_WORLD)

    assert run("pin", "tools", "--tools", written(tmp_path / "t.json", document)) == expected
    assert run("pin", "tools", "--tools", "-", stdin=json.dumps(document)) == expected


def test_a_file_a_tool(tmp_path: Path) -> None:
    """Several files are one list."""
    files = [written(tmp_path / f"{at}.json", tool) for at, tool in enumerate(TOOLS)]
    options = [word for file in files for word in ("--tools", file)]

    assert run("pin", "tools", *options)[:2] == (0, ToolCatalog.from_mcp("tools", TOOLS).to_json())


def test_it_is_written_in_the_place_of_an_older_one(tmp_path: Path) -> None:
    """The file is replaced whole, and the tools are shown."""
    file = tmp_path / "catalogue.json"
    file.write_text(ToolCatalog.from_mcp("tools", []).to_json())
    code, shown, _ = pin("good", "tools", "--out", str(file))

    assert code == 0 and "delete_repo  write   destructive" in shown
    assert list(ToolCatalog.from_json(file.read_text())) == ["delete_repo", "get_weather", "pay"]
    assert [path.name for path in tmp_path.iterdir()] == ["catalogue.json"]
    assert run("show", str(file))[:2] == (0, shown)


def test_a_correction_holds_until_the_tool_changes(tmp_path: Path) -> None:
    """It stands beside the digest, so a real change is not lost among corrections."""
    file, out = tmp_path / "t.json", tmp_path / "c.json"
    written(file, TOOLS)
    options = ("tools", "--tools", str(file), "--out", str(out))
    code, shown, _ = run("pin", *options, "--correct", "pay=read", "--correct", "get_weather=write")
    first = ToolCatalog.from_json(out.read_text())

    assert code == 0 and "pay          read    open world, corrected" in shown
    assert first.corrections() == {"get_weather": "write", "pay": "read"}
    assert first.request("get_weather") == ("write", "mcp/tools/get_weather")
    assert json.loads(first.describe("get_weather"))["destructive"] is True
    assert run("diff", str(out), "--tools", str(file)) == (0, "nothing differs\n", "")

    changed = [{**tool, "description": "new"} if tool["name"] == "pay" else tool for tool in TOOLS]
    written(file, changed)
    assert run("diff", str(out), "--tools", str(file))[0] == 1
    code, _, errors = run("pin", *options)
    second = ToolCatalog.from_json(out.read_text())

    assert code == 0 and "no longer corrected, since its definition is another: pay" in errors
    assert second.corrections() == {"get_weather": "write"}
    assert second.request("pay")[0] == "write"


def test_a_large_catalogue_is_read(tmp_path: Path) -> None:
    """Thousands of tools of one server."""
    out = tmp_path / "c.json"
    tools = [{"name": f"tool_{number}", "description": "x" * 200} for number in range(3000)]
    assert run("pin", "many", "--tools", written(tmp_path / "t.json", tools), "--out", str(out))[0] == 0

    assert run("show", str(out), "--json")[1].count('"name"') == 3000


def test_what_changed_is_shown(tmp_path: Path) -> None:
    """Definitions, hints, added and dropped tools; the name is the older catalogue's."""
    file = tmp_path / "catalogue.json"
    older = [
        {**TOOLS[0], "description": "other"},
        {**TOOLS[1], "annotations": {"readOnlyHint": True}},
        {"name": "gone"},
    ]
    file.write_text(ToolCatalog.from_mcp("tools", older).to_json())
    code, shown, _ = diff("good", str(file))
    json_code, document, _ = diff("good", str(file), "--json")

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
    code, shown, errors = pin("odd-names", "tools")

    assert code == 0 and shown == ToolCatalog.from_mcp("tools", TOOLS).to_json()
    assert errors.count("left out") == 3


def test_reads_that_are_doubtful_are_named(tmp_path: Path) -> None:
    """A read that writes a file, one that reaches the open world, and a definition that hides characters."""
    read, closed = {"readOnlyHint": True}, {"readOnlyHint": True, "openWorldHint": False}
    shot = {"inputSchema": {"properties": {"filename": {"description": "File name to save the shot to."}}}}
    load = {"inputSchema": {"properties": {"path": {"description": "The file to read."}}}}
    into = {"inputSchema": {"properties": {"outputPath": {"type": "string"}}}}
    tools = [
        {"name": "shot", "annotations": read, **shot},
        {"name": "load", "annotations": closed, **load},
        {"name": "render", "annotations": closed, **into},
        {"name": "save", **into},
        {"name": "hides", "annotations": closed, "description": "Adds.\u200b\U000e0041 And more."},
    ]
    code, _, errors = run("pin", "odd", "--tools", written(tmp_path / "t.json", tools))

    assert code == 0
    assert [line.split(": ")[2].split(";")[0] for line in errors.splitlines()] == [
        "shot(filename), render(outputPath)",
        "shot",
        "hides",
    ]
    corrected = run("pin", "odd", "--tools", str(tmp_path / "t.json"), "--correct", "shot=write")
    assert "shot(" not in corrected[2]


@pytest.mark.parametrize(
    ("way", "options", "word"),
    [
        ("good", ("a/b",), "a/b"),
        ("same-names", ("tools",), "twice"),
        ("no-list", ("tools",), "did not list"),
        ("good", ("tools", "--out", "/nowhere/file"), "--out"),
        ("good", ("tools", "--out", "/dev/null"), "--out"),
        ("good", ("tools", "--url", "http://127.0.0.1:1/"), "--url"),
        ("good", ("tools", "--header-file", "/dev/null"), "--header-file"),
        ("good", ("tools", "--tools", "/dev/null"), "--tools"),
        ("good", ("tools", "--correct", "pay"), "--correct"),
        ("good", ("tools", "--correct", "pay=maybe"), "--correct"),
        ("good", ("tools", "--correct", "other=read"), "other"),
    ],
)
def test_errors_name_what_to_change(way: str, options: tuple[str, ...], word: str) -> None:
    """Exit code 2, and nothing on standard output."""
    code, shown, errors = pin(way, *options)

    assert (code, shown) == (2, "")
    assert word in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    "document", [{}, [1], [{"tools": 1}], {"result": {}}, "text", {"tools": {"pay": {}}}, None]
)
def test_another_file_holds_no_tools(document: Any, tmp_path: Path) -> None:
    """Exit code 2, with the file's name."""
    code, shown, errors = run("pin", "tools", "--tools", written(tmp_path / "odd.json", document))

    assert (code, shown) == (2, "")
    assert "odd.json holds no tool" in errors


def test_the_catalogue_of_another_server_is_not_replaced(tmp_path: Path) -> None:
    """Its corrections would be lost, and gateways would deny every call."""
    out = tmp_path / "c.json"
    out.write_text(ToolCatalog.from_mcp("files", []).to_json())
    code, _, errors = pin("good", "tools", "--out", str(out))

    assert code == 2 and "catalogue of files" in errors
    assert ToolCatalog.from_json(out.read_text()).server == "files"


def test_a_server_that_is_not_there() -> None:
    """No answer over HTTP is an error as well, and so is no server at all."""
    code, _, errors = run("pin", "tools", "--url", "http://127.0.0.1:1/mcp")

    assert code == 2 and "did not list its tools" in errors
    code, _, errors = run("pin", "tools")
    assert code == 2 and "--tools" in errors
