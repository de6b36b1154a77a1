"""Input of the commands: options that describe a call, and files or stdin.

Files hold tokens, approvals, JSON, keys, or scopes, one a line; a folder of scope files names the ceiling of
each purpose. No secret is ever an argument, where other users of the machine could read it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from .._fast.codec import base64url
from ..crypto.armor import APPROVAL_PREFIX
from ..crypto.keys import HolderPublicKey, IssuerKey, key_id
from ..decisions.tool_catalog import ToolCatalog
from ..errors import InvalidApproval, ScopeError, UsageError
from ..limits import MAX_JSON_BYTES, MAX_SCOPES
from ..model.approval import SignedApproval
from ..scopes.scope import Scope
from ..scopes.value import value_of
from ..tokens.prover import HolderKey
from ..tokens.token import Token
from . import params

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


# The largest stored form is below 12 KiB; anything longer is another file.
MAX_INPUT_BYTES: Final = 65_536
PREFIXES: Final = ("sessauth_token_", "sessauth_secret_")
# Twice as much as a check reads: a JSON that is too long is still sent and denied, a wrong file is not.
MAX_JSON_FILE_BYTES: Final = 2 * MAX_JSON_BYTES
# Thousands of tools, with their whole definitions.
MAX_CATALOGUE_BYTES: Final = 16 * 1024 * 1024
# The whole ASN.1 of an Ed25519 public key before its 32 bytes (RFC 8410, 4).
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
_PUBLIC: Final = "-----BEGIN PUBLIC KEY-----"
_PRIVATE: Final = "-----BEGIN PRIVATE KEY-----"


def read_token(source: str) -> Token:
    """Return the token in a file, or on stdin for ``-``.

    Raises UsageError for a token given as the argument itself and for a file that can't be read,
    MalformedToken for other contents. No message repeats the contents.
    """
    if source.startswith(PREFIXES):
        raise UsageError(
            "a token as an argument shows in ps and in the shell's history; "
            "give a file that holds it, or - for stdin"
        )
    return Token.parse(read_text(source, "token"))


def text_of(token: Token) -> str:
    """Return the text form to pass on: stored for an open token (a secret), else presented."""
    return token.stored_text() if token.is_open else token.text


def read_approval(source: str) -> SignedApproval:
    """Return the signed approval in a file, or on stdin for ``-``.

    Raises UsageError for one given as the argument itself and for other contents. No message repeats the
    contents.
    """
    if source.startswith(APPROVAL_PREFIX):
        raise UsageError("--approval: give a file that holds it, or - for stdin")
    try:
        return SignedApproval.from_text(read_text(source, "--approval"))
    except InvalidApproval as error:
        raise UsageError(f"--approval: {source}: {error}") from None


def read_text(source: str, name: str) -> str:
    """Return the text of a file, or of stdin for ``-``, stripped. Raises UsageError naming ``name``."""
    try:
        return read_bytes(source, name, MAX_INPUT_BYTES).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise UsageError(f"{name}: {source} holds no text") from None


def read_identity(source: str, name: str) -> str:
    """Return the token of an identity provider, or the proof for one, in a file or on stdin for ``-``.

    Empty for an empty ``source``. Raises UsageError naming ``name`` for a token given as the argument itself,
    which is not repeated, for an empty file, and as :func:`read_text`.
    """
    if source.startswith("eyJ") and source.count(".") == 2:
        raise UsageError(
            f"{name}: a token as an argument shows in ps and in the shell's history; give a file "
            "that holds it, or - for stdin"
        )
    if not source:
        return ""
    text = read_text(source, name)
    if not text:
        # Without it the call would do something else: open a session of no login.
        raise UsageError(f"{name}: {source} is empty")
    return text


def read_catalogue(source: str, name: str) -> ToolCatalog:
    """Return the pinned tools in a file, or on stdin for ``-``. Raises UsageError naming ``name``."""
    try:
        return ToolCatalog.from_json(read_bytes(source, name, MAX_CATALOGUE_BYTES).decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{name}: {source} holds no text") from None
    except UsageError as error:
        message = str(error)
        raise UsageError(message if message.startswith(name) else f"{name}: {source}: {message}") from None


def read_bytes(source: str, name: str, limit: int) -> bytes:
    """Return the bytes of a file, or of stdin for ``-``: at most ``limit``.

    Raises UsageError naming ``name`` if it can't be read or is longer.
    """
    try:
        if source == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{name}: can't read {source}: {error.strerror}") from None
    if len(data) > limit:
        raise UsageError(f"{name}: {source} has more than {limit} bytes; that is another file")
    return data


def json_bytes(text: str, option: str) -> bytes:
    """Return JSON given as text, or the unchanged bytes of the file after an @. It is not parsed."""
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    return read_bytes(text[1:], option, MAX_JSON_FILE_BYTES)


def require_one_stdin(sources: tuple[str | None, ...], message: str) -> None:
    """Raise UsageError with ``message`` if more than one of ``sources`` is stdin, ``-`` or ``@-``."""
    if sum(source in ("-", "@-") for source in sources) > 1:
        raise UsageError(message)


def write_new(path: Path, text: str, option: str = "--out") -> None:
    """Write ``text`` and a newline to a new file with mode 0600. Raises UsageError if it can't be made."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{option}: can't create {path}: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text + "\n")


def read_holder(text: str, option: str) -> HolderPublicKey:
    """Return a holder's public key from its text, or from the file after an @, private or public.

    Raises UsageError naming ``option``, KeyFolderError for a private key that others may read.
    """
    source = text[1:] if text.startswith("@") else ""
    try:
        key = read_text(source, option) if source else text
        if source and source != "-" and key.startswith(_PRIVATE):
            return HolderKey.load(source).public
        return HolderPublicKey.parse(key)
    except UsageError as error:
        message = str(error)
        raise UsageError(message if message.startswith(option) else f"{option}: {message}") from None


def public_keys(source: str, option: str) -> dict[bytes, bytes]:
    """Return the public keys in a file, or on stdin for ``-``, by key id; ``option`` names the file's option.

    A private key file gives its public half; it must be readable by its owner alone. Raises
    UsageError for contents of another kind, KeyFolderError for a private key that others may read.
    """
    text = read_text(source, option)
    if text.startswith(_PRIVATE):
        if source == "-":
            raise UsageError(
                f"{option}: a private key is read from a file that only its owner may read, not from -"
            )
        keys = [IssuerKey.load(source).public_key]
    elif text.startswith("{"):
        keys = _from_jwk(text, f"{option}: {source}")
    elif text.startswith(_PUBLIC):
        keys = [_from_pem(text, f"{option}: {source}")]
    else:
        keys = [_from_hex(text, f"{option}: {source}")]
    return {key_id(key): key for key in keys}


def one_public_key(source: str, option: str) -> bytes:
    """Return the public key in a file that holds exactly one. Raises UsageError otherwise."""
    keys = list(public_keys(source, option).values())
    if len(keys) != 1:
        raise UsageError(f"{option}: {source} holds {len(keys)} keys; give one")
    return keys[0]


def _from_jwk(text: str, source: str) -> list[bytes]:
    try:
        document: Any = json.loads(text)
        keys = document.get("keys", [document])
        return [base64url.decode(key["x"]) for key in keys if key["kty"] == "OKP" and key["crv"] == "Ed25519"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{source} is neither a JWK nor a JWK set") from None


def _from_pem(text: str, source: str) -> bytes:
    try:
        der = base64.b64decode("".join(text.splitlines()[1:-1]), validate=True)
    except binascii.Error:
        der = b""
    if not der.startswith(_SPKI_PREFIX):
        raise UsageError(f"{source} is no Ed25519 public key in PEM")
    return der.removeprefix(_SPKI_PREFIX)


def _from_hex(text: str, source: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{source} is no JWK, no PEM and no hex") from None


SUFFIX: Final = ".scopes"
# A purpose that names a file: no separator, no leading dot, nothing that a shell or a system reads.
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,119}")


def read_scopes(source: str, option: str) -> list[str]:
    """Return the scopes in a file, or on stdin for ``-``; raises as :func:`read_scope_lines`."""
    return [text for _, text in read_scope_lines(source, option)]


def read_scope_lines(source: str, option: str) -> list[tuple[int, str]]:
    """Return the scopes in a file, or on stdin for ``-``, each with the number of its line.

    Empty lines and comments (``#``) are skipped. Raises UsageError if the file can't be read, has no scope or
    too many, or a line is not one; it names the line.
    """
    scopes = []
    for number, line in enumerate(read_text(source, option).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            scopes.append((number, str(Scope.parse(text))))
        except ScopeError as error:
            raise UsageError(f"{option}: {source}, line {number}: {error}") from None
    if not scopes:
        raise UsageError(f"{option}: {source} holds no scope")
    if len(scopes) > MAX_SCOPES:
        raise UsageError(f"{option}: {source} holds more than {MAX_SCOPES} scopes")
    return scopes


def scope_warnings(
    scopes: Sequence[str], option: str, facts: Mapping[str, Any] | None = None, *, strict: bool
) -> list[str]:
    """Return the findings of ``scope lint`` about scopes that are about to be granted, a line each.

    Raises UsageError if a scope is malformed, and with ``strict`` if there is a finding.
    """
    from ..scopes.lint import lint

    known = {name: value_of(value) for name, value in (facts or {}).items()}
    try:
        parsed = list(map(Scope.parse, scopes))
    except ScopeError as error:
        raise UsageError(f"{option}: {error}") from None
    found = [
        f"{each.part}: {each.problem} [{each.rule}]; instead: {each.instead}" for each in lint(parsed, known)
    ]
    if found and strict:
        raise UsageError(f"{option}: strict: {found[0]}")
    return found


def purpose_file(folder: Path, purpose: str, option: str) -> str:
    """Return the file of a purpose's ceiling in a folder: ``PURPOSE.scopes``.

    Raises UsageError if no purpose is given, or one that can't be a file's name.
    """
    if not _FILE_NAME.fullmatch(purpose) or purpose.endswith((".", " ")):
        raise UsageError(
            f"{option}: give a --purpose that can be a file's name: letters, digits, _ . - space"
        )
    return str(folder / f"{purpose}{SUFFIX}")
