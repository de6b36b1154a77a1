#!/usr/bin/env python3
"""Write the manual pages of the command line: one of ``sessauth``, and one of each of its commands.

    tools/generate_man.py FOLDER

A wheel has them in share/man/man1; setup.py writes them while it is built. They say what ``--help`` says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

import sessauth
from sessauth.cli.main import SECTIONS, cli
from sessauth.cli.output import EXIT_CODES


def main() -> None:
    """Write the pages into the folder that is named, which is made."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in pages():
        (folder / f"{name}.1").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pages() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the lines of each page."""
    top = click.Context(cli, info_name="sessauth", **cli.context_settings)
    names = [name for commands in SECTIONS.values() for name in commands]
    others = [f"sessauth-{name}" for name in names]
    yield "sessauth", [*head("sessauth", cli), *about(top, ".SH"), *overview(), *see_also(others)]
    for name in names:
        command = cli.get_command(top, name)
        if command is None:
            raise KeyError(name)
        page = [*head(f"sessauth-{name}", command), *about(click.Context(command, top, name), ".SH")]
        yield f"sessauth-{name}", [*page, *see_also(["sessauth"])]


def head(name: str, command: click.Command) -> Iterator[str]:
    """Yield the title, without a date, and the name with the first sentence of the help."""
    yield f'.TH {escaped(name.upper())} 1 "" "sessauth {sessauth.__version__}" "sessauth"'
    # Words that are typed are not divided.
    yield ".nh"
    yield ".SH NAME"
    yield f"{escaped(name)} \\- {escaped(command.get_short_help_str(1000))}"


def about(context: click.Context, heading: str) -> Iterator[str]:
    """Yield the synopsis, the text, the options and the examples of a command, then those of its own ones."""
    command = context.command
    usage = escaped(" ".join([context.command_path, *command.collect_usage_pieces(context)]))
    if heading == ".SH":
        yield from (".SH SYNOPSIS", usage, ".SH DESCRIPTION")
    else:
        yield f'{heading} "{usage}"'
    yield from text(command.help or "")
    # Arguments are in the synopsis and in the text; --help is told once.
    parameters = command.get_params(context) if command is cli else command.params
    records = [each.get_help_record(context) for each in parameters if isinstance(each, click.Option)]
    if options := [record for record in records if record is not None]:
        yield from (".SH OPTIONS",) if heading == ".SH" else (".PP",)
        yield from listed(options)
    if command.epilog and command is not cli:
        yield from (".SH EXAMPLES",) if heading == ".SH" else (".PP",)
        yield from text(command.epilog.replace("\nExamples:", ""))
    if isinstance(command, click.Group) and command is not cli:
        yield ".SH COMMANDS"
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is None:
                raise KeyError(name)
            yield from about(click.Context(below, context, name), ".SS")


def overview() -> Iterator[str]:
    """Yield the commands by section, and the exit codes."""
    yield ".SH COMMANDS"
    for section, commands in SECTIONS.items():
        yield f'.SS "{escaped(section)}"'
        yield from listed((f"{name}", line) for name, (_, line) in commands.items())
    yield ".SH EXIT STATUS"
    yield from listed((str(code), meaning) for code, meaning in EXIT_CODES.items())


def see_also(names: Iterable[str]) -> Iterator[str]:
    """Yield the references to other pages."""
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {escaped(name)} (1)" for name in names)


def listed(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield terms, each with its text."""
    for term, meaning in rows:
        yield from (".TP", f".B {escaped(term)}", escaped(meaning))


def text(source: str) -> Iterator[str]:
    """Yield paragraphs; one whose first line is a backspace keeps its lines, as in the help."""
    for paragraph in re.split(r"\n\s*\n", source.strip("\n")):
        lines = paragraph.split("\n")
        if lines[0].strip() == "\b":
            yield from (".PP", ".nf", *map(escaped, lines[1:]), ".fi")
        else:
            yield from (".PP", escaped(" ".join(line.strip() for line in lines)))


def escaped(source: str) -> str:
    """Return a text for roff: hyphens are those that are typed, and nothing in it is a request."""
    plain = source.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    return f"\\&{plain}" if plain.startswith(".") else plain


if __name__ == "__main__":
    main()
