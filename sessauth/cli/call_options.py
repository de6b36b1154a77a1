"""What a call is described by, for the commands that have one judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..errors import UsageError
from ..limits import MAX_JSON_BYTES
from . import params
from .token_io import read_bytes

F = TypeVar("F", bound=Callable[..., Any])

# Twice what a check looks at, so that too long a JSON is denied, and a wrong file is not sent.
MAX_FILE_BYTES: Final = 2 * MAX_JSON_BYTES

_OPTIONS: Final = (
    click.option("--arguments", default="", metavar="JSON|@FILE", help="The call's arguments, a JSON object."),
    click.option("--tool", default="", metavar="JSON|@FILE", help="What a catalogue says of the tool."),
    click.option(
        "--session", "session_id", type=params.session_id, default=b"", help="Session of the call."
    ),
    click.option("--source", default="", help="IP address of the caller."),
    click.option("--peer", multiple=True, help="Identity in the caller's certificate. Repeatable."),
    click.option("--audience", default="", help="Which verifier asks. Default: the credential's only one."),
    click.option(
        "--at-least-revision", type=click.IntRange(0), default=0, help="Deny if the view is older."
    ),
)


def call_options(command: F) -> F:
    """Add the options that describe a call; :func:`read_call` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_call(token_file: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what :func:`call_options` gave as the client's arguments; JSON from files is read here.

    Raises UsageError if stdin would be read twice, or a file can't be read.
    """
    if token_file == "-" and "@-" in (options["arguments"], options["tool"]):
        raise UsageError("token and JSON can't both be read from stdin")
    return {
        "arguments": _json_bytes(options["arguments"], "--arguments"),
        "tool": _json_bytes(options["tool"], "--tool"),
        "session": options["session_id"],
        "source": options["source"],
        "peer": options["peer"],
        "audience": options["audience"],
        "at_least_revision": options["at_least_revision"],
    }


def _json_bytes(text: str, option: str) -> bytes:
    """Return JSON given as such, or the very bytes of the file behind an @. It is not parsed here."""
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    return read_bytes(text[1:], option, MAX_FILE_BYTES)
