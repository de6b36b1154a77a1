from __future__ import annotations

import re

import click
import pytest

from sessauth.cli import output
from sessauth.cli.main import cli
from tests.support.markdown import Document
from tests.support.tree import ROOT

DOCUMENT = Document(ROOT / "docs" / "cli.md")


def _leaves(command: click.Command, path: str = "") -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {path.strip(): command}
    context = click.Context(command)
    # A group that does something by itself has a section of its own.
    found: dict[str, click.Command] = {path.strip(): command} if command.invoke_without_command else {}
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        found |= _leaves(child, f"{path} {name}")
    return found


COMMANDS = _leaves(cli)


def test_every_command_has_its_section() -> None:
    """docs/cli.md has a section for each command, in the order of the help within a group, and no other."""
    assert sorted(DOCUMENT.headings(3)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    """The section of a command names each of its options, and none that it does not have."""
    section = DOCUMENT.sections(3)[name]
    options = {
        option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")
    }
    named = set(re.findall(r"`(--[a-z-]+)`", section))

    assert options - named - {"--json"} == set()
    assert named - options == set()


def test_every_option_in_front_is_documented() -> None:
    """The options in front of the command are in the table, with those of the environment."""
    options = {option for parameter in cli.params for option in parameter.opts if option.startswith("--")}
    section = DOCUMENT.sections(2)["Where the server is"]

    assert [option for option in options - {"--version"} if f"`{option}`" not in section] == []


def test_exit_codes_are_documented_as_the_help_has_them() -> None:
    """The table has each code and its meaning, word for word, and no other; each code has a name."""
    public = {name: value for name, value in vars(output).items() if not name.startswith("_")}
    codes = {value for name, value in public.items() if name.isupper() and isinstance(value, int)}
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", DOCUMENT.sections(2)["Exit codes"], re.M)

    assert {int(code): meaning.replace("`", "") for code, meaning in rows} == output.EXIT_CODES
    assert output.EXIT_CODES.keys() == codes
