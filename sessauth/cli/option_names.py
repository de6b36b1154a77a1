"""The options of a command in the place of parameters, in what a user is told.

The package names what to change as its callers know it: ``ttl_ms``, ``insecure_tcp=True``. Whoever typed a
command knows its options. All errors pass here once, at the edge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import click

# Parameters whose options have other names; of several the first that the command has. All others are called
# alike, with dashes.
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "after_revision": ("--after",),
    "approvals": ("--approval",),
    "block_ids": ("--block-id",),
    "candidates": ("calls",),
    "credential": ("--credential-file",),
    "ending": ("--to",),
    "expires_at_ms": ("--ttl",),
    "facts": ("--fact",),
    "for_ms": ("--for",),
    "id_prefix": ("session_id", "--session"),
    "include_children": ("--children",),
    "issuer_key_ids": ("--issuer-key",),
    "labels": ("--label",),
    "lease_ms": ("--lease",),
    "next_key": ("--to",),
    "not_before_ms": ("--not-before",),
    "page_size": ("--limit",),
    "page_token": ("--page",),
    "parent_id": ("--parent",),
    "proof": ("--proof",),
    "scopes": ("--scope",),
    "session_id": ("session_id", "--session"),
    "session_ids": ("--session",),
    "tls": ("--tls", "--tls-ca"),
    "tls.authority": ("--tls-ca",),
    "tls.certificate": ("--tls-certificate",),
    "tls.key": ("--tls-key",),
    "ttl_ms": ("--ttl",),
    "visible_facts": ("--visible-fact",),
}
# A word that may be one, with what was given for it and its place in a list. What is part of a path, or of a
# key of a configuration file, is none.
_MENTION: Final = re.compile(
    r"(?<![\w./'-])(?:items?(?:\[\d+\])?\.)?(?P<name>[a-z]+(?:_[a-z]+)*(?:\.[a-z]+)?)"
    r"(?P<given>=(?:True|'[^']*')?)?(?P<place>\[\d+\])?(?P<behind>[:,]?)"
)
_QUOTED: Final = re.compile(r"'[^']*'")


def options_of(context: click.Context | None) -> dict[str, str]:
    """Return what a command's parameters are called by its user: an option, or an argument in capitals."""
    found: dict[str, str] = {}
    while context is not None:
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                longest = max(parameter.opts, key=len)
                found.setdefault(longest.removeprefix("--").replace("-", "_"), longest)
            elif parameter.name:
                found.setdefault(parameter.name, parameter.name.upper())
        context = context.parent
    return found


def spoken(message: str, known: Mapping[str, str]) -> str:
    """Return a message with parameters as the options that ``known`` has for them; others stay.

    A word is a parameter if the message begins with it and a colon, if ``=`` follows it, or if it has an
    underscore or, as the parts of ``tls`` have, a dot.
    """
    quoted = [found.span() for found in _QUOTED.finditer(message)]

    def say(found: re.Match[str]) -> str:
        name, given = found["name"], found["given"]
        opens = found.start() == 0 and (found["behind"] or found["place"])
        inside = any(start < found.start() < end for start, end in quoted)
        if inside or not (opens or given or "_" in name or "." in name):
            return found[0]
        option = _option(name, known)
        if option is None:
            return found[0]
        value = given if given and given not in ("=", "=True") else ""
        return f"{option}{value}{found['place'] or ''}{found['behind']}"

    return _MENTION.sub(say, message)


def _option(name: str, known: Mapping[str, str]) -> str | None:
    for each in PARAMETERS.get(name, (name,)):
        key = each.removeprefix("--").replace("-", "_")
        if key in known:
            return known[key]
    return None
