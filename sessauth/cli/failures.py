"""Errors on the command line: their exit codes, and messages with the names of options.

The package names a parameter as its callers write it: ``ttl_ms``, ``insecure_tcp=True``. A message on the
command line names the option instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import click

from ..decisions.decision import Denied
from ..errors import InvalidReceipt, Rejected, ServerError, SessauthError, StateError, Unavailable
from ..guard.call import ToolDenied
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

# Attributes that hold the stable word of the package's errors.
_WORDS = ("word", "reason", "problem", "fault")

EXIT_CODES_HELP = """\b
Exit codes:
  0  done; of check, permit commit: allowed; of allowed: the token stands;
     of token inspect: verified, or nobody asked; of session receipt, verify-closed: closed;
     of audit verify: intact; of audit replay: nothing was found;
     of audit story: nothing outlived the session; of evidence, evidence verify: proven;
     of cluster heads: all agree;
     of conformance: every answer is right; of mcp guard: the client ended;
     of catalogue diff: nothing differs; of status: the server is ready; of doctor: nothing is wrong
  1  of check, permit commit: denied; of allowed: the token is refused; of token inspect: not verified;
     of session receipt, verify-closed: not closed, or not proven; of audit verify: the log is not
     what was written, or there is none; of audit replay: something can't have been so;
     of audit story: something outlived the session, or it is not proved;
     of evidence, evidence verify: not proven; of cluster heads: not all agree;
     of conformance: an answer is wrong or missing; of mcp guard: the token is refused, or its
     session ended; of catalogue diff: something differs; of status: it denies every check;
     of doctor: there are warnings
  2  usage: an argument, a file or a token that can't be read; of doctor: there are errors
  3  the server refused: credential, role, not found, or against the rules
  4  the server can't be reached or did not answer in time
  5  the state folder or the key folder can't be used
  70  a mistake of ours; please report it
  130  interrupted
  141  whoever read the output went away
"""

# Parameters that no option is declared for by name, and the option that states each.
PARAMETERS: Final[Mapping[str, str]] = {
    "approvals": "--approval",
    "candidates": "calls",
    "credential": "--credential-file",
    "ending": "--to",
    "expires_at_ms": "--ttl",
    "id_prefix": "session_id",
    "next_key": "--to",
    "selector.labels": "--label",
    "selector.owner": "--owner",
    "selector.subject": "--subject",
    "tls": "--tls-ca",
    "tls.authority": "--tls-ca",
    "tls.certificate": "--tls-certificate",
    "tls.key": "--tls-key",
}
# A word that may name a parameter, with its value and its index in a list. Parts of paths and of
# configuration keys don't match.
_MENTION: Final = re.compile(
    r"(?<![\w./'-])(?:items?(?:\[\d+\])?\.)?(?P<name>[a-z]+(?:_[a-z]+)*(?:\.[a-z]+)?)"
    r"(?P<value>=(?:True|'[^']*')?)?(?P<index>\[\d+\])?(?P<end>[:,]?)"
)
_WORD: Final = re.compile(r"[A-Z][A-Z_]+: ")
_QUOTED: Final = re.compile(r"'[^']*'")


def exit_code(error: SessauthError) -> int:
    """Return the exit code for an error, by the party at fault."""
    if isinstance(error, Denied | ToolDenied):
        return DENIED
    if isinstance(error, InvalidReceipt):
        # Bytes that are no receipt are a wrong file. Any other fault means not proven, which is an answer.
        return USAGE if getattr(error, "fault", "") == ReceiptFault.NOT_CANONICAL else DENIED
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, StateError):
        return STATE
    return REFUSED if isinstance(error, Rejected | ServerError) else USAGE


def report(error: SessauthError, message: str, *, as_json: bool) -> None:
    """Print ``message`` for an error to stderr, as text or as one JSON document with its stable word."""
    candidates = getattr(error, "candidates", [])
    if as_json:
        word = str(next(filter(None, (getattr(error, name, "") for name in _WORDS)), ""))
        document: dict[str, object] = {"kind": type(error).__name__, "word": word, "message": message}
        if candidates:
            document["candidates"] = candidates
        click.echo(json.dumps({"error": document}), err=True)
    else:
        first, *others = map(printable, message.split("\n"))
        click.echo(f"sessauth: {first}", err=True)
        for line in others:
            click.echo(f"  {line}", err=True)
        for line in candidates:
            click.echo(f"  {printable(line)}", err=True)


def options_of(context: click.Context | None) -> dict[str, str]:
    """Return the user's names of a command's parameters: an option, or an argument in capitals.

    An option is listed under its own name and under that of the parameter that it is declared for.
    """
    names: dict[str, str] = {}
    while context is not None:
        for parameter in context.command.params:
            name = parameter.name or ""
            if isinstance(parameter, click.Option):
                longest = max(parameter.opts, key=len)
                names.setdefault(_own_name(longest), longest)
                names.setdefault(name, longest)
            else:
                names.setdefault(name, name.upper())
        context = context.parent
    return names


def with_option_names(message: str, options: Mapping[str, str]) -> str:
    """Replace parameters in a message by their names in ``options``; unknown ones stay.

    A word is a parameter if it opens the message, after a rejection's ``WORD: `` too, and a colon, comma or
    index follows, if ``=`` follows it, or if it has an underscore or, like ``tls.key``, a dot.
    """
    word = _WORD.match(message)
    first = word.end() if word else 0
    quoted = [match.span() for match in _QUOTED.finditer(message)]

    def replace(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"] or ""
        opens = match.start() == first and (match["end"] or match["index"])
        inside = any(start < match.start() < end for start, end in quoted)
        option = _option(name, options)
        if inside or option is None or not (opens or value or "_" in name or "." in name):
            return match[0]
        return f"{option}{'' if value in ('=', '=True') else value}{match['index'] or ''}{match['end']}"

    return _MENTION.sub(replace, message)


def _option(name: str, options: Mapping[str, str]) -> str | None:
    return options.get(name) or options.get(_own_name(PARAMETERS.get(name, "")))


def _own_name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
