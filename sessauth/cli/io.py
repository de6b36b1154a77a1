"""Tokens in and out of the command line: by file or stdin, never as an argument."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from ..crypto.holder_public_key import HolderPublicKey
from ..errors import UsageError
from ..limits import MAX_JSON_BYTES
from ..tokens.holder import HolderKey
from ..tokens.token import Token

# The largest stored form is below 12 KiB; anything longer is another file.
MAX_INPUT_BYTES: Final = 65_536
PREFIXES: Final = ("sessauth_token_", "sessauth_secret_")
# Twice what a check looks at, so that too long a JSON is denied, and a wrong file is not sent.
MAX_JSON_FILE_BYTES: Final = 2 * MAX_JSON_BYTES

token_argument = click.argument("token_file", metavar="FILE|-")
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the token to a new file with mode 0600 instead of stdout.",
)


def read_token(source: str) -> Token:
    """Return the token in a file, or on stdin for ``-``.

    Raises UsageError for a token given as the argument itself and for a file that can't be read,
    MalformedToken for other contents. No message repeats what was read.
    """
    if source.startswith(PREFIXES):
        raise UsageError(
            "a token as an argument shows in ps and in the shell's history; "
            "give a file that holds it, or - for stdin"
        )
    return Token.parse(read_text(source, "token"))


def read_text(source: str, what: str) -> str:
    """Return the text of a file, or of stdin for ``-``, stripped. Raises UsageError naming ``what``."""
    try:
        return read_bytes(source, what, MAX_INPUT_BYTES).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UsageError(f"{what}: {source} holds no text") from None


def read_bytes(source: str, what: str, limit: int) -> bytes:
    """Return what a file holds, or stdin for ``-``: at most ``limit`` bytes.

    Raises UsageError naming ``what`` if it can't be read or is longer.
    """
    try:
        if source == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{what}: can't read {source}: {error.strerror}") from None
    if len(data) > limit:
        raise UsageError(f"{what}: {source} has more than {limit} bytes; that is another file")
    return data


def json_bytes(text: str, option: str) -> bytes:
    """Return JSON given as such, or the very bytes of the file behind an @. It is not parsed here."""
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    return read_bytes(text[1:], option, MAX_JSON_FILE_BYTES)


def read_holder(text: str, option: str) -> HolderPublicKey:
    """Return a holder's public key: its text, or what is in the file behind an @, the private one included.

    Raises UsageError naming ``option``, KeyFolderError for a private key that others may read.
    """
    source = text[1:] if text.startswith("@") else ""
    try:
        read = read_text(source, option) if source else text
        if source and source != "-" and read.startswith("-----BEGIN PRIVATE KEY-----"):
            return HolderKey.load(source).public
        return HolderPublicKey.parse(read)
    except UsageError as error:
        told = str(error)
        raise UsageError(told if told.startswith(option) else f"{option}: {told}") from None


def text_of(token: Token) -> str:
    """Return the text form to hand on: stored for an open token, a secret, else presented."""
    return token.stored_text() if token.is_open else token.text


def write_new(path: Path, text: str) -> None:
    """Write ``text`` and a newline to a new file with mode 0600. Raises UsageError if it exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--out: can't create {path}: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text + "\n")
