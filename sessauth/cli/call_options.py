"""What a call is described by, for the commands that have one judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..errors import UsageError
from . import params
from .io import json_bytes

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--arguments", default="", metavar="JSON|@FILE", help="The call's arguments, a JSON object."
    ),
    click.option("--tool", default="", metavar="JSON|@FILE", help="What a catalogue says of the tool."),
    click.option("--session", "session_id", type=params.session_id, default=b"", help="Session of the call."),
    click.option("--source", default="", help="IP address of the caller."),
    click.option("--peer", multiple=True, help="Identity in the caller's certificate. Repeatable."),
    click.option("--audience", default="", help="Which verifier asks. Default: the credential's only one."),
    click.option("--at-least-revision", type=click.IntRange(0), default=0, help="Deny if the view is older."),
)


def call_options(command: F) -> F:
    """Add the options that describe a call; :func:`read_call` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_call(options: dict[str, Any], *others: str) -> dict[str, Any]:
    """Return what :func:`call_options` gave as the client's arguments; JSON from files is read here.

    ``others`` are what else the command reads from files. Raises UsageError if stdin would be read twice,
    or a file can't be read.
    """
    sources = (*others, options["arguments"], options["tool"])
    if sum(source in ("-", "@-") for source in sources) > 1:
        raise UsageError("stdin can be read once: give the rest of token, JSON, proof and approvals as files")
    return {
        "arguments": json_bytes(options["arguments"], "--arguments"),
        "tool": json_bytes(options["tool"], "--tool"),
        "session": options["session_id"],
        "source": options["source"],
        "peer": options["peer"],
        "audience": options["audience"],
        "at_least_revision": options["at_least_revision"],
    }
