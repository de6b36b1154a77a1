"""From an error to an exit code and a message: the one table of the command line."""

from __future__ import annotations

import json

import click

from ..decisions.decision import Denied
from ..errors import (
    InvalidApproval,
    InvalidReceipt,
    KeyFolderError,
    Rejected,
    ServerError,
    SessauthError,
    StateError,
    TokenError,
    Unavailable,
    UsageError,
)
from ..model.receipt import ReceiptFault
from .output import printable

OK = 0
DENIED = 1
USAGE = 2
REFUSED = 3
UNAVAILABLE = 4
STATE = 5
INTERNAL = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

# Where the errors of the package keep their stable word.
_WORDS = ("word", "reason", "problem", "fault")

EXIT_CODES_HELP = """\b
Exit codes:
  0  done; of check, permit commit: allowed; of allowed: the token stands;
     of token inspect: verified, or nobody asked; of session receipt, verify-closed: closed;
     of audit verify: intact; of audit replay: nothing was found;
     of conformance: every answer is right
  1  of check, permit commit: denied; of allowed: the token is refused; of token inspect: not verified;
     of session receipt, verify-closed: not closed, or not proven; of audit verify: the log is not
     what was written, or there is none; of audit replay: something can't have been so;
     of conformance: an answer is wrong or missing
  2  usage: an argument, a file or a token that can't be read
  3  the server refused: credential, role, not found, or against the rules
  4  the server can't be reached or did not answer in time
  5  the state folder or the key folder can't be used
  70  a mistake of ours; please report it
  130  interrupted
  141  whoever read the output went away
"""


def exit_code(error: SessauthError) -> int:
    """Return the exit code for an error, by whose fault it is."""
    if isinstance(error, Denied):
        return DENIED
    if isinstance(error, InvalidReceipt):
        # What is no receipt at all is a wrong file; else nothing is proven, which is the answer.
        return USAGE if getattr(error, "fault", "") == ReceiptFault.NOT_CANONICAL else DENIED
    if isinstance(error, UsageError | TokenError | InvalidApproval | KeyFolderError):
        return STATE if isinstance(error, KeyFolderError) else USAGE
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, StateError):
        return STATE
    if isinstance(error, Rejected | ServerError):
        return REFUSED
    return USAGE


def report(error: SessauthError, message: str, *, as_json: bool) -> None:
    """Print ``message`` for an error to stderr, as text or as one JSON document with its stable word."""
    candidates = getattr(error, "candidates", [])
    word = str(next(filter(None, (getattr(error, name, "") for name in _WORDS)), ""))
    if as_json:
        told: dict[str, object] = {"kind": type(error).__name__, "word": word, "message": message}
        if candidates:
            told["candidates"] = candidates
        click.echo(json.dumps({"error": told}), err=True)
    else:
        click.echo(f"sessauth: {printable(message)}", err=True)
        for line in candidates:
            click.echo(f"  {printable(line)}", err=True)
