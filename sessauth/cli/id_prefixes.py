"""Ids that were given by their first digits: looked up, and used only if there is one that they can mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import NotFound, PermissionDenied, UsageError
from .output import moment
from .params import Prefix, Ref

if TYPE_CHECKING:
    from ..client import Client

# How many candidates are shown of an ambiguous one.
MAX_SHOWN: Final = 8
_STATUSES: Final = ("pending", "granted", "denied", "used")


class AmbiguousId(UsageError):
    """More than one id begins so; ``candidates`` says of some which, one a line."""

    def __init__(self, message: str, candidates: list[str]) -> None:
        """Keep the candidates."""
        super().__init__(message)
        self.candidates = candidates


def session(client: Client, ref: Ref) -> bytes:
    """Return the id of the session that ``ref`` means, among those that the credential may see.

    Raises NotFound if none begins so, AmbiguousId if several do.
    """
    if not isinstance(ref, Prefix):
        return ref
    try:
        page = client.list_sessions(id_prefix=ref, page_size=MAX_SHOWN + 1)
    except PermissionDenied as error:
        raise PermissionDenied(
            f"{error}; give the whole id of the session, not {ref}", error.reason
        ) from None
    return _only(
        ref,
        "session",
        ((each.id, f"{each.status.name}  {each.subject}  {each.purpose}") for each in page.sessions),
    )


def approval(client: Client, session_id: bytes, ref: Ref) -> bytes:
    """Return the id of the session's approval that ``ref`` means. Raises as :func:`session`."""
    if not isinstance(ref, Prefix):
        return ref
    found: dict[bytes, str] = {}
    for status in _STATUSES:
        token = ""
        while True:
            page = client.list_approvals(session_id=session_id, status=status, page_token=token)
            for each in page.approvals:
                record = each.record
                found[record.id] = f"{record.status.name}  {record.action} {record.resource}"
            token = page.next_page_token
            if not token:
                break
    return _only(ref, "approval", found.items())


def key(client: Client, ref: Ref) -> bytes:
    """Return the id of the issuer key that ``ref`` means. Raises as :func:`session`."""
    if not isinstance(ref, Prefix):
        return ref
    keys = client.list_keys()
    return _only(ref, "key", ((each.id, f"{each.status.name}  {each.owner}") for each in keys))


def logged_session(folder: Path, ref: Ref) -> bytes:
    """Return the id of the session that ``ref`` means, of those that an audit log tells of.

    What a denied token merely claimed does not count: anybody can claim what is ambiguous. Raises as
    :func:`session`, and StateUnusable if the folder can't be read.
    """
    if not isinstance(ref, Prefix):
        return ref
    from ..audit.read.reader import FolderReader

    found: dict[bytes, str] = {}
    for entry in FolderReader(folder).entries(f'"session":"{ref}'.encode()):
        text = entry.record.get("session")
        # A log may have been changed; what is no id is none.
        if isinstance(text, str) and re.fullmatch("[0-9a-f]{32}", text):
            found.setdefault(bytes.fromhex(text), f"in the log since {moment(entry.at_ms)}")
        if len(found) > MAX_SHOWN:
            break
    return _only(ref, "session", found.items())


def whole(ref: Ref, option: str) -> bytes:
    """Return an id that was given in full. Raises UsageError for another: nobody is asked about it."""
    if isinstance(ref, Prefix):
        raise UsageError(f"{option}: give all digits of the id: no server is asked for the rest of {ref}")
    return ref


def _only(prefix: Prefix, kind: str, found: Iterable[tuple[bytes, str]]) -> bytes:
    # A server of an earlier version finds more than what was asked for.
    fitting = [(id_, line) for id_, line in found if id_.hex().startswith(prefix)]
    if not fitting:
        raise NotFound(f"no {kind} has an id that begins with {prefix}, or this credential may not see it")
    if len(fitting) == 1:
        return fitting[0][0]
    candidates = [f"{id_.hex()}  {line}" for id_, line in fitting[:MAX_SHOWN]]
    if len(fitting) > MAX_SHOWN:
        candidates.append("and more")
    raise AmbiguousId(f"{prefix} begins the ids of several {kind}s; give more digits", candidates)
