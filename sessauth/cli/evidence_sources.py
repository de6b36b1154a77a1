"""The sources of an evidence pack: audit folders with their keys, and a server's records of sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from ..audit import layout, stream_register
from ..audit.keys import public_keys
from ..audit.read.hosts import AuditHost
from ..errors import NotFound, Rejected
from ..evidence.pack import PackSources, SessionPapers
from ..evidence.reader.crypto import TrustedKeys, by_id, of_jwks
from ..model.change import Rejection
from ..usage.generalize import Fit
from .context import Settings
from .render import usage as usage_view

if TYPE_CHECKING:
    from ..client import Client


@contextmanager
def pack_sources(
    settings: Settings, hosts: Sequence[AuditHost], *, no_server: bool, argument_values: bool
) -> Iterator[PackSources]:
    """Yield the sources.

    Raises KeyFolderError if the keys of a log can't be read, and errors of the server.
    """
    folders = [(host.folder, _audit_keys(host)) for host in hosts]
    made_by = f"sessauth {version('sessauth')}"
    if no_server:
        yield PackSources(folders, {"keys": []}, lambda session: SessionPapers(), made_by)
        return
    with settings.client() as client:

        def papers(session: str) -> SessionPapers:
            return _papers(client, bytes.fromhex(session), settings.clock.now_ms(), argument_values)

        yield PackSources(folders, json.loads(client.jwks()), papers, made_by)


def trusted_keys(sources: PackSources, signing_key: bytes) -> TrustedKeys:
    """Return the keys of the sources, to verify a new pack by."""
    audit = [key for _, keys in sources.folders for key in keys]
    return TrustedKeys(by_id(audit), of_jwks(sources.issuer_jwks), by_id([signing_key]))


def _audit_keys(host: AuditHost) -> list[bytes]:
    """Return the keys that the state folder knows of a log, else those of the audit folder."""
    register = stream_register.read(host.state_dir) if host.state_dir is not None else None
    keys = register.keys if register is not None else public_keys(host.folder / layout.PUBLIC_FILE)
    return list(keys.values())


def _papers(client: Client, session_id: bytes, now_ms: int, argument_values: bool) -> SessionPapers:
    try:
        report = client.get_report(session_id)
    except NotFound:
        # Purged: the log has it still.
        return SessionPapers()
    try:
        receipt = client.get_receipt(session_id).text
    except Rejected as error:
        # It lives.
        if error.word != Rejection.WRONG_STATUS.value:
            raise
        receipt = ""
    fits = tuple(Fit) if argument_values else ()
    document = usage_view.to_json([report], usage_view.joined([report], now_ms, None, fits))
    return SessionPapers(receipt, document if argument_values else _without_values(document))


def _without_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return a report without values of arguments, and without scopes that were suggested from them."""
    usage = document["usage"]
    if usage is None:
        return document
    layers = [
        {**_parts(layer, _OF_LAYER), "scopes": [_parts(scope, _OF_SCOPE) for scope in layer["scopes"]]}
        for layer in usage["layers"]
    ]
    left = {**_parts(usage, _OF_USAGE), "layers": layers, "argument_values": "left out"}
    return {**document, "usage": left}


def _parts(document: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name in names}


# No value of an argument is in these. An addition of a later version stays out until it is listed here.
_OF_USAGE: Final = frozenset(
    {
        *("format", "made_at_ms", "purpose", "sessions", "allowed", "denied", "denied_calls", "observed"),
        *("resources", "tokens_used", "incomplete"),
    }
)
_OF_LAYER: Final = frozenset(
    {
        *("id", "kind", "sessions", "scopes_granted", "scopes_used", "scopes_never_used"),
        "calls_by_unknown_scope",
    }
)
_OF_SCOPE: Final = frozenset(
    {
        *("scope", "used", "calls", "first_ms", "last_ms"),
        *("actions_granted", "actions_used", "resources_granted"),
    }
)
