"""Options that describe a call, for the commands that check one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from . import params
from .io import json_bytes, require_one_stdin

F = TypeVar("F", bound=Callable[..., Any])

CALLER_OPTIONS: Final = (
    click.option("--source", default="", help="IP address of the caller."),
    click.option("--peer", multiple=True, help="Identity in the caller's certificate. Repeatable."),
    click.option("--audience", default="", help="Which verifier asks. Default: the credential's only one."),
)
_CALL_OPTIONS: Final = (
    click.option(
        "--arguments", default="", metavar="JSON|@FILE", help="The call's arguments, a JSON object."
    ),
    click.option("--tool", default="", metavar="JSON|@FILE", help="A catalogue's facts about the tool."),
    click.option("--session", "session_id", type=params.session_id, default=b"", help="Session of the call."),
    *CALLER_OPTIONS,
    click.option("--at-least-revision", type=click.IntRange(0), default=0, help="Deny if the view is older."),
)


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds several options to a command, in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


call_options = with_options(*_CALL_OPTIONS)
"""Adds the options of a call; :func:`read_call` reads them."""


def read_call(options: dict[str, Any], *sources: str) -> dict[str, Any]:
    """Return the options of a call as the client's parameters; JSON files are read here.

    ``sources`` are the command's other files. Raises UsageError if stdin would be read twice, or a file
    can't be read.
    """
    require_one_stdin(
        (*sources, options["arguments"], options["tool"]),
        "stdin can be read once: give the rest of token, JSON, proof and approvals as files",
    )
    return {
        "arguments": json_bytes(options["arguments"], "--arguments"),
        "tool": json_bytes(options["tool"], "--tool"),
        "session": options["session_id"],
        **{name: options[name] for name in ("source", "peer", "audience", "at_least_revision")},
    }
