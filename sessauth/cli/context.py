"""Settings that all commands share: the server's address, the folders, and the form of the answer.

Clients and the server are imported only where they are used, so that a command that needs neither (``token
present``) starts without gRPC.

Also here: lists read page by page, and ids named by their first digits. A prefix names an id only if it is
unambiguous.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import click

from ..clock import Clock, SystemClock
from ..errors import NotFound, PermissionDenied, UsageError
from . import output
from .output import moment
from .params import Prefix, Ref

if TYPE_CHECKING:
    from ..client import AsyncClient, Client
    from ..server.config import Config
    from ..tokens.prover import HolderKey

# Candidates shown for an ambiguous prefix.
MAX_SHOWN: Final = 8
_STATUSES: Final = ("pending", "granted", "denied", "used")


class AmbiguousId(UsageError):
    """Several ids have this prefix; ``candidates`` lists some of them, one a line."""

    def __init__(self, message: str, candidates: list[str]) -> None:
        """Store the candidates."""
        super().__init__(message)
        self.candidates = candidates


class ListPage(Protocol):
    """Part of a list; an empty ``next_page_token`` marks the last one."""

    @property
    def next_page_token(self) -> str:
        """Position of the next page."""


PageT = TypeVar("PageT", bound=ListPage)


def pages(read: Callable[..., PageT], **filters: Any) -> Iterator[PageT]:
    """Yield all pages of a list, as ``read(page_token=…)`` returns them with these filters."""
    token = ""
    while True:
        page = read(page_token=token, **filters)
        yield page
        token = page.next_page_token
        if not token:
            return


def session(client: Client, ref: Ref) -> bytes:
    """Return the id of the session that ``ref`` names, among those that the credential may see.

    Raises NotFound if no id has this prefix, AmbiguousId if several have.
    """
    if not isinstance(ref, Prefix):
        return ref
    try:
        page = client.list_sessions(id_prefix=ref, page_size=MAX_SHOWN + 1)
    except PermissionDenied as error:
        raise PermissionDenied(
            f"{error}; give the whole id of the session, not {ref}", error.reason
        ) from None
    lines = ((each.id, f"{each.status.name}  {each.subject}  {each.purpose}") for each in page.sessions)
    return _only(ref, "session", lines)


def approval(client: Client, session_id: bytes, ref: Ref) -> bytes:
    """Return the id of the session's approval that ``ref`` names. Raises as :func:`session`."""
    if not isinstance(ref, Prefix):
        return ref
    lines: dict[bytes, str] = {}
    for status in _STATUSES:
        for page in pages(client.list_approvals, session_id=session_id, status=status):
            for record in (each.record for each in page.approvals):
                lines[record.id] = f"{record.status.name}  {record.action} {record.resource}"
    return _only(ref, "approval", lines.items())


def key(client: Client, ref: Ref) -> bytes:
    """Return the id of the issuer key that ``ref`` names. Raises as :func:`session`."""
    if not isinstance(ref, Prefix):
        return ref
    keys = client.list_keys()
    return _only(ref, "key", ((each.id, f"{each.status.name}  {each.owner}") for each in keys))


def logged_session(ref: Ref, *folders: Path) -> bytes:
    """Return the id of the session that ``ref`` names, among those in audit logs.

    Sessions that a denied token only claimed don't count: anyone can claim an ambiguous id. Raises as
    :func:`session`, and StateUnusable if the folder can't be read.
    """
    if not isinstance(ref, Prefix):
        return ref
    from ..audit.read.query import FolderReader

    lines: dict[bytes, str] = {}
    needle = f'"session":"{ref}'.encode()
    for entry in chain.from_iterable(FolderReader(folder).entries(needle) for folder in folders):
        text = entry.record.get("session")
        # A log may have been tampered with: its text may be no id.
        if isinstance(text, str) and re.fullmatch("[0-9a-f]{32}", text):
            lines.setdefault(bytes.fromhex(text), f"in the log since {moment(entry.at_ms)}")
        if len(lines) > MAX_SHOWN:
            break
    return _only(ref, "session", lines.items())


def whole(ref: Ref, option: str) -> bytes:
    """Return a whole id. Raises UsageError for a prefix, since no server can complete it."""
    if isinstance(ref, Prefix):
        raise UsageError(f"{option}: give all digits of the id: no server is asked for the rest of {ref}")
    return ref


def _only(prefix: Prefix, kind: str, lines: Iterable[tuple[bytes, str]]) -> bytes:
    """Return the only id with this prefix; ``lines`` pairs ids with descriptions."""
    # A server of an earlier version ignores the prefix and lists other ids too.
    fitting = [(id_, line) for id_, line in lines if id_.hex().startswith(prefix)]
    if not fitting:
        raise NotFound(f"no {kind} has an id that begins with {prefix}, or this credential may not see it")
    if len(fitting) == 1:
        return fitting[0][0]
    candidates = [f"{id_.hex()}  {line}" for id_, line in fitting[:MAX_SHOWN]]
    if len(fitting) > MAX_SHOWN:
        candidates.append("and more")
    raise AmbiguousId(f"{prefix} begins the ids of several {kind}s; give more digits", candidates)


R = TypeVar("R")
P = ParamSpec("P")


@dataclass(slots=True)
class Settings:
    """Options in front of the command, and ``--json``."""

    home: Path | None = None
    target: str | None = None
    credential_file: Path | None = None
    timeout_ms: int = 2000
    tls: bool = False
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str = ""
    insecure_tcp: bool = False
    json: bool = False
    # The running command's, for the names of its options.
    command: click.Context | None = None
    clock: Clock = field(default_factory=SystemClock)

    @property
    def is_local(self) -> bool:
        """True if the server is that of a home folder of this machine."""
        return self.target is None and (self.home is not None or not os.environ.get("SESSAUTH_TARGET"))

    def client(self, holder: HolderKey | None = None) -> Client:
        """Return a client for the server that the options name; it proves with ``holder``'s key, if given.

        Raises ConfigError.
        """
        from ..client import Client

        return Client(**self._client_terms(), holder=holder)

    def async_client(self) -> Callable[[], AsyncClient]:
        """Return a function that makes an asyncio client for that server, on its caller's event loop.

        Raises ConfigError at once for options that contradict each other.
        """
        from ..client import AsyncClient

        terms = self._client_terms()
        # Build one and close it, so that bad options raise here rather than later.
        self.client().close()
        return lambda: AsyncClient(**terms)

    def address(self) -> str:
        """Return the address of the server, as a person reads it. Raises ConfigError."""
        from ..client._target import resolve_targets

        targets = resolve_targets(self._client_terms()["target"])
        return ", ".join(target.removeprefix("unix:") for target in targets)

    def _client_terms(self) -> dict[str, Any]:
        """Return the arguments of a client. Raises ConfigError."""
        from ..client import Tls

        tls = None
        if self.tls or self.tls_ca or self.tls_certificate or self.tls_key or self.tls_server_name:
            tls = Tls(self.tls_ca, self.tls_certificate, self.tls_key, self.tls_server_name)
        target, credential_file = self.target, self.credential_file
        if self.is_local:
            config = self.config()
            target = str(config.socket.absolute())
            if credential_file is None and not os.environ.get("SESSAUTH_CREDENTIAL_FILE"):
                # The sockets may lie elsewhere than the home folder that names them.
                beside = config.home / "operator.credential"
                credential_file = beside if beside.is_file() else None
        return {
            "target": target,
            "credential_file": credential_file,
            "tls": tls,
            "insecure_tcp": self.insecure_tcp,
            "timeout_ms": self.timeout_ms,
        }

    def sent_credential(self) -> str:
        """Return the credential's source, as the end of an error's message after a refusal."""
        from ..client._target import resolve_credential_file, resolve_targets

        terms = self._client_terms()
        file = resolve_credential_file(terms["credential_file"], resolve_targets(terms["target"])[0])
        sent = f"that of {file}" if file else "the certificate alone" if self.tls_certificate else "none"
        return f"; sent was {sent} (--credential-file, SESSAUTH_CREDENTIAL_FILE)"

    def config(self) -> Config:
        """Return the configuration of the home folder. Raises ConfigError."""
        from ..server import config

        return config.load(self.home)

    def state_dir(self, folder: Path | None) -> Path:
        """Return ``folder``, or the state folder of the home folder. Raises ConfigError."""
        return folder or self.config().state_dir

    def audit_dir(self, folder: Path | None) -> Path:
        """Return ``folder``, or the audit folder of the home folder. Raises ConfigError."""
        return folder or self.config().audit_dir

    def show(self, document: Any, lines: Sequence[str], *, ok: bool = True) -> None:
        """Print ``document`` with ``--json``, else ``lines``; leave with exit code 1 unless ``ok``."""
        if self.json:
            output.print_json(document)
        elif lines:
            output.show(lines)
        if not ok:
            click.get_current_context().exit(output.DENIED)

    def progress(self, action: str) -> output.Progress:
        """Return the progress of an action, a word or two, for people: with ``--json`` nothing is shown."""
        return output.Progress(action, shown=not self.json)

    def show_fields(self, document: Mapping[str, object]) -> None:
        """Print a flat document, for people as one field a line."""
        self.show(document, output.document_fields(document))


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).json = True


json_option = click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_json,
    help="Answer with one JSON document; errors too, on stderr.",
)


def with_settings(command: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Add ``--json`` to a command and pass it the settings first."""

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        context = click.get_current_context()
        settings = context.ensure_object(Settings)
        settings.command = context
        return command(settings, *args, **kwargs)

    return json_option(update_wrapper(run, command))
