"""Every command: its help, its examples, and ``--json``."""

from __future__ import annotations

import re
import shlex
import string

import click
import pytest

from sessauth.cli.context import Settings
from sessauth.cli.main import cli

from .test_document import COMMANDS

# Ids that are too long for a line of the help.
VARIABLES = {"permit": "9c" * 32, "decision": "4b" * 16}


def _examples(name: str) -> list[list[str]]:
    """Return the words of each example in a command's help, without ``sessauth``."""
    lines = re.findall(r"^  sessauth (.*)$", COMMANDS[name].epilog or "", re.M)
    return [[string.Template(word).substitute(VARIABLES) for word in shlex.split(line)] for line in lines]


def _parsed(words: list[str]) -> tuple[str, Settings]:
    """Parse a command line as click does before it runs it: the command's name, and the settings."""
    settings = Settings()
    command: click.Command = cli
    context = cli.make_context("sessauth", list(words), obj=settings)
    while isinstance(command, click.Group) and context.args + context._protected_args:
        name, found, left = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command, context = found, found.make_context(name, left, parent=context)
    return context.command_path.removeprefix("sessauth "), settings


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_examples_that_it_takes(name: str) -> None:
    """One or two command lines are at the end of its help; they are of this command, and it reads them."""
    assert COMMANDS[name].help
    examples = _examples(name)
    assert 1 <= len(examples) <= 2
    for words in examples:
        assert _parsed(words)[0] == name


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_taken_before_and_after_every_command(name: str) -> None:
    """It is the same setting in both places."""
    words = [word for word in _examples(name)[0] if word != "--json"]
    end = words.index("--") if "--" in words else len(words)

    assert not _parsed(words)[1].json
    for stated in (["--json", *words], [*words[:end], "--json", *words[end:]]):
        assert _parsed(stated)[1].json


def test_an_example_is_parsed_as_it_would_be_typed() -> None:
    """An option that a command lacks, a value of another kind and a missing argument are refused."""
    for words in (["session", "get", "5f0c", "--all"], ["session", "get", "5"], ["session", "get"]):
        with pytest.raises(click.UsageError):
            _parsed(words)
