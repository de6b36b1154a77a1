"""Kinds of options and arguments, and the options that several commands have.

A kind is a function that reads the text; click shows its name in the help. A value of another type is an
option's default and passes unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from ..limits import MAX_TIME_MS, MIN_ID_PREFIX_DIGITS

if TYPE_CHECKING:
    from ..scopes.value import Plain

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DIGITS = re.compile(r"[0-9a-f]+", re.ASCII)
_DURATION = re.compile(r"(\d{1,12})(ms|s|m|h|d)", re.ASCII)


def duration(text: str | int) -> int:
    """Return ms for a number and a unit, ``500ms 30s 15m 8h 7d``. Refuses zero."""
    if isinstance(text, int):
        return text
    match = _DURATION.fullmatch(text)
    if not match or not int(match[1]):
        raise click.BadParameter(f"{text!r} is no duration; write one with its unit: 500ms, 30s, 15m, 8h, 7d")
    ms = int(match[1]) * _UNITS_MS[match[2]]
    if ms > MAX_TIME_MS:
        raise click.BadParameter(f"{text!r} is too long")
    return ms


def moment(text: str | int) -> int:
    """Return ms since 1970 for ISO 8601 with a zone, ``2026-01-31T12:00:00Z``."""
    if isinstance(text, int):
        return text
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no moment; write 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; add Z for UTC")
    ms = int(at.timestamp() * 1000)
    if ms < 0:
        raise click.BadParameter(f"{text!r} is before 1970")
    return ms


class Prefix(str):
    """The first hex digits of an id, in lower case; ``context`` completes it."""

    __slots__ = ()


Ref: TypeAlias = bytes | Prefix
"""An id or its prefix."""


def _ref(name: str, size: int) -> Callable[[str | bytes], Ref]:
    """Return a kind called ``name``: an id of ``size`` bytes in hex, or its prefix."""

    def read(text: str | bytes) -> Ref:
        if isinstance(text, bytes):
            return text
        digits = text.removesuffix("…").removesuffix("...").lower()
        if not MIN_ID_PREFIX_DIGITS <= len(digits) <= 2 * size or not _DIGITS.fullmatch(digits):
            raise click.BadParameter(
                f"{text!r} is not {2 * size} hex digits, nor the first {MIN_ID_PREFIX_DIGITS} or more of them"
            )
        return bytes.fromhex(digits) if len(digits) == 2 * size else Prefix(digits)

    read.__name__ = name
    return read


def _hex(name: str, size: int) -> Callable[[str | bytes], bytes]:
    """Return a kind called ``name``: ``size`` bytes in hex."""

    def read(text: str | bytes) -> bytes:
        if isinstance(text, bytes):
            return text
        try:
            data = bytes.fromhex(text) if text.isascii() else b""
        except ValueError:
            data = b""
        if len(data) != size:
            raise click.BadParameter(f"{text!r} is not {size * 2} hex digits")
        return data

    read.__name__ = name
    return read


session_id = _ref("session_id", 16)
key_id = _ref("key_id", 32)
approval_id = _ref("approval_id", 16)
# For commands without a server, which can't complete a prefix.
whole_session = _hex("whole_session", 16)
block_id = _hex("block_id", 32)
decision_id = _hex("decision_id", 16)
chain = _hex("chain", 32)
permit = _hex("permit", 32)


def approver_key(text: str | bytes) -> bytes:
    """Return the 32 bytes of an approver's public key, written as in scope text."""
    if isinstance(text, bytes):
        return text
    from .._fast.codec import base64url

    try:
        key = base64url.decode(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise click.BadParameter(f"{text!r} is no public key; 'sessauth approver-key show' prints it")
    return key


def fact(text: str | tuple[str, Plain]) -> tuple[str, Plain]:
    """Return name and value of ``name=text``, or of ``name:=JSON`` for a number or a truth."""
    if isinstance(text, tuple):
        return text
    name, sign, value = text.partition("=")
    if not sign or not name.removesuffix(":"):
        raise click.BadParameter(f"{text!r} is no fact; write name=text, or name:=JSON")
    if not name.endswith(":"):
        return name, value
    try:
        parsed = json.loads(value, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, InvalidOperation):
        raise click.BadParameter(f"{value!r} is not JSON; write name=text for a text") from None
    if not isinstance(parsed, str | bool | int | Decimal):
        raise click.BadParameter(f"{value!r} is no text, number or truth")
    return name.removesuffix(":"), parsed


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def label(text: str | tuple[str, str]) -> tuple[str, str]:
    """Return name and value of ``name=value``."""
    if isinstance(text, tuple):
        return text
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is no label; write name=value")
    return name, value


PATH = click.Path(path_type=Path)
# A name that the command reads itself, as it reads "-": the shell completes it, and nothing is tested here.
FILE = click.Path(dir_okay=False, readable=False)


def examples(*lines: str) -> str:
    """Return the end of a command's help: command lines, each without its first word."""
    return "\n".join(["\b", "Examples:", *(f"  sessauth {line}" for line in lines)])


session_argument = click.argument("session_id", type=session_id)
token_argument = click.argument("token_file", metavar="FILE|-", type=FILE)
reason_option = click.option("--reason", default="", help="Why, for later readers.")
request_id_option = click.option(
    "--request-id", default="", help="Repeat a change with the same id to learn its first outcome."
)
token_out_option = click.option(
    "--out", type=PATH, help="Write the token to a new file with mode 0600 instead of stdout."
)
judge_state_option = click.option(
    "--state", type=PATH, help="Check here, by this state folder, and ask no server."
)
state_dir_option = click.option(
    "--state", "folder", type=PATH, help="The state folder. Default: that of the home folder."
)
audit_dirs_option = click.option(
    "--dir",
    "folders",
    type=PATH,
    multiple=True,
    help="An audit folder, a home, or a folder with one of them for each host. Repeatable. Default: that of "
    "the home folder.",
)
audit_dir_option = click.option(
    "--dir", "folder", type=PATH, help="The audit folder. Default: that of the home folder."
)
heads_option = click.option(
    "--expect-head",
    "heads",
    type=chain,
    multiple=True,
    help="A chain that some line must have, noted before and kept elsewhere. Repeatable.",
)
bound_option = click.option(
    "--bound",
    "bound_ms",
    type=duration,
    default=3_000,
    help="How long a host may allow after the end (staleness_ms).  [default: 3s]",
)
