"""Ids by their first digits, and lists page by page. A prefix names an id only if it is unambiguous."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ..errors import NotFound, PermissionDenied, UsageError
from .output import moment
from .params import Prefix, Ref

if TYPE_CHECKING:
    from ..client import Client

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


P = TypeVar("P", bound=ListPage)


def pages(read: Callable[..., P], **filters: Any) -> Iterator[P]:
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
    from ..audit.read.reader import FolderReader

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
