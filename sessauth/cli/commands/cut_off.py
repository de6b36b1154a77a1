"""``sessauth freeze``, ``thaw``, ``session end``, ``bans`` and ``lift-ban``: cut agents off.

A freeze denies every check and refuses all new authority until the thaw. Where no server answers, it is
written into the state folder of this host, and counts for this host alone. An end is final: it ends one
session, or all that fit a selector. With ``--refuse-new`` it also bans new ones for a time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ...errors import (
    ConfigError,
    SessauthError,
    StateError,
    StateUnusable,
    Unavailable,
    UsageError,
)
from ...model.session import SessionBan
from .. import context, params
from ..context import Settings, with_settings
from ..io import with_options
from ..output import attributes, moment_and_distance, printable, table, warn
from ..params import Ref, examples, state_dir_option
from ..render import session as receipt_view
from ..render import session as session_view

if TYPE_CHECKING:
    from ...client import Client, EndedSessions, EndPreview, SelectedSession

MAX_REASON_BYTES: Final = 256

_this_host = click.option(
    "--this-host", is_flag=True, help="This host alone, by its state folder: needs no server and no settings."
)


@click.command("freeze", epilog=examples("freeze --reason 'a key leaked'", "freeze --show"))
@click.option("--reason", default="", help="Why, for refused callers and for the audit.")
@click.option("--show", is_flag=True, help="Change nothing; say whether it is frozen, and why.")
@_this_host
@state_dir_option
@with_settings
def freeze(settings: Settings, reason: str, show: bool, this_host: bool, folder: Path | None) -> None:
    """Deny every check and refuse all new authority, until 'sessauth thaw'.

    On a single host that counts for all of its processes, in a cluster for all hosts. Sessions can still be
    ended, and their leases renewed. Where no server answers, this host is frozen by its state folder.
    """
    if show and reason:
        raise UsageError("--reason: goes with no --show")
    # As the server does. Without one, a text that can't be encoded must not stop the command half-way.
    if not reason.isprintable() or len(reason.encode()) > MAX_REASON_BYTES:
        raise UsageError(f"--reason: must be printable, {MAX_REASON_BYTES} bytes at most")
    change: Callable[[Client], object] | None = None if show else lambda client: client.freeze(reason)
    # Any reason that keeps the server from it; its refusal of the caller, or of the reason, is final.
    failures = (ConfigError, Unavailable, StateError)
    answer = None if this_host or folder else _by_server(settings, change, failures)
    if isinstance(answer, dict):
        settings.show(answer, [_line(answer)])
        return
    alone = answer is not None and not show and _in_cluster(settings)
    if answer is not None and not alone:
        warn(f"{'reading' if show else 'freezing'} this host alone, by its state folder: {answer}")
    state = _by_folder(settings, folder, None if show else lambda at: _hold(at, reason))
    if alone:
        raise Unavailable(
            "this host alone is known to be frozen, by its state folder; type it again, here or at another "
            f"server, for its cluster: {answer}"
        )
    settings.show(state, [_line(state)])


@click.command("thaw", epilog=examples("thaw"))
@_this_host
@state_dir_option
@with_settings
def thaw(settings: Settings, this_host: bool, folder: Path | None) -> None:
    """End a freeze: sessions that have not ended meanwhile go on.

    With --this-host also the brake of a write that failed, once a write succeeds again; the server must be
    stopped for that. Fails while checks stay denied for another cause, and names it. In a cluster a server
    must answer: a host's own freeze is ended by --this-host alone.
    """
    failures = (ConfigError, Unavailable)
    state = None if this_host or folder else _by_server(settings, lambda client: client.thaw(), failures)
    if state is not None and not isinstance(state, dict):
        if _in_cluster(settings):
            raise Unavailable(f"the cluster is not thawed; --this-host ends this host's own freeze: {state}")
        warn(f"thawing this host alone, by its state folder: {state}")
    if not isinstance(state, dict):
        state = _by_folder(settings, folder, _release)
    if state["braked"]:
        raise StateError(f"checks are still denied: {state['reason']}; {_remedy(state)}")
    settings.show(state, [_line(state)])


def _by_server(
    settings: Settings, change: Callable[[Client], object] | None, failures: tuple[type[SessauthError], ...]
) -> dict[str, Any] | SessauthError:
    """Have the server do it, and return its state; one of ``failures`` if that of this host can't."""
    done = False
    try:
        with settings.client() as client:
            if change is not None:
                change(client)
                done = True
            found = client.get_freeze()
    except failures as error:
        if done:
            raise Unavailable(f"it was done, and the server did not report its state: {error}") from error
        if not _is_local(settings):
            raise
        return error
    return {"braked": bool(found.brake), "reason": found.brake, "host": found.host, "cluster": found.cluster}


def _by_folder(
    settings: Settings, folder: Path | None, change: Callable[[Path], None] | None
) -> dict[str, Any]:
    """Change the page of the brake in a state folder; return its new content. Raises StateUnusable."""
    from ...state.host import brake
    from ...state.layout import BRAKE_FILE

    at = _state_dir(settings, folder)
    if change is not None:
        change(at)
    with brake.reader_page(at / BRAKE_FILE) as page:
        by_hand, why = brake.by_hand_of(page), brake.reason_of(page)
        return {
            "braked": why is not None,
            "reason": why or "",
            "host": by_hand.reason if by_hand.engaged else "",
            "cluster": brake.cluster_reason_of(page),
        }


def _in_cluster(settings: Settings) -> bool:
    """Return True if this host belongs to a cluster, by its settings or by its state folder."""
    from ...server.config import state_dir_at
    from ...state.lmdb.cluster_rows import read_position
    from ...state.lmdb.reader import StateReader

    with suppress(ConfigError):
        config = settings.config()
        if config.cluster.enabled or config.follow.servers:
            return True
    try:
        with closing(StateReader.open(state_dir_at(settings.home)[0])) as reader, reader.rows() as rows:
            return read_position(rows) is not None
    except (ConfigError, StateError):
        return False


def _is_local(settings: Settings) -> bool:
    """Return True if the command means the service of this host, and its state folder is known."""
    from ...server.config import state_dir_at

    if settings.target is not None or (settings.home is None and os.environ.get("SESSAUTH_TARGET")):
        return False
    try:
        return state_dir_at(settings.home)[0].is_dir()
    except ConfigError:
        return False


def _state_dir(settings: Settings, folder: Path | None) -> Path:
    """Return the state folder, also while the settings are wrong. Raises ConfigError, StateUnusable."""
    from ...server.config import state_dir_at

    if folder is None:
        folder, wrong = state_dir_at(settings.home)
        if wrong:
            warn(f"settings are wrong ({printable(wrong)}); using {folder}")
    if not folder.is_dir():
        raise StateUnusable(f"{folder} does not exist; run init, or name another with --state", "MISSING")
    return folder


def _hold(folder: Path, reason: str) -> None:
    from ...state.host.brake import Brake, check_brake_is_there, create
    from ...state.layout import BRAKE_FILE

    try:
        check_brake_is_there(folder / BRAKE_FILE)
    except StateUnusable as missing:
        if missing.problem != "MISSING":
            raise
        # A lost page is created again: its former setting is unknown.
        try:
            create(folder / BRAKE_FILE)
        except OSError as error:
            message = f"{folder / BRAKE_FILE} can't be made ({error.strerror}); run it as the service's user"
            raise StateUnusable(message, "WRONG_MODE") from error
    page = Brake(folder / BRAKE_FILE)
    page.engage("frozen by hand" + (f": {reason}" if reason else ""), by_hand=True)
    page.close()


def _release(folder: Path) -> None:
    from ...state.host.brake import Brake
    from ...state.layout import BRAKE_FILE
    from ...state.writer.state_writer import StateWriter

    page = Brake(folder / BRAKE_FILE)
    page.release(by_hand=True)
    failed = page.failed
    page.close()
    if failed:
        # Opening for writing probes the disk and releases the brake, or raises the remaining fault.
        StateWriter.open(folder).close()


def _remedy(state: dict[str, Any]) -> str:
    if state["host"]:
        return "'sessauth thaw --this-host' on that host ends it"
    if state["cluster"]:
        return "'sessauth thaw' at a server of the cluster ends it"
    return "remove the cause, stop the server, then 'sessauth thaw --this-host'"


def _line(state: dict[str, Any]) -> str:
    if not state["braked"]:
        return "not frozen"
    return f"{'FROZEN' if state['host'] or state['cluster'] else 'DENIED'}: {state['reason']}"


F = TypeVar("F", bound=Callable[..., Any])

NO_RECEIPT = "no receipt: the server could not make one yet; its log says why. The session has ended"
# A call works for some seconds at most; the rest is for a server that is slow to answer.
LEAST_TIMEOUT_MS: Final = 25_000
SHOWN: Final = 20

_selector = with_options(
    # Several only to be refused: of two subjects the last one would end, and the first one live on.
    click.option("--subject", multiple=True, help="Sessions of this subject."),
    click.option("--owner", multiple=True, help="Sessions of this owner."),
    click.option("--label", "labels", type=params.label, multiple=True, help="name=value; all must fit."),
    click.option("--all", "all_sessions", is_flag=True, help="Every session."),
)


@click.command(
    "end", epilog=examples("session end 5f0c --reason deployed", "session end --subject ci:deploy --dry-run")
)
@click.argument("session_id", type=params.session_id, default=b"", metavar="[SESSION_ID]")
@_selector
@click.option("--dry-run", is_flag=True, help="End nothing; list the sessions that would be ended.")
@click.option(
    "--refuse-new", "refuse_new_ms", type=params.duration, default=0,
    help="Open none that fits for so long, as 10m.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="End --all without a question.")
@params.reason_option
@params.request_id_option
@with_settings
def end(
    settings: Settings,
    /,
    session_id: Ref,
    dry_run: bool,
    refuse_new_ms: int,
    yes: bool,
    reason: str,
    request_id: str,
    **selector: Any,
) -> None:
    """End a session for good, with every token and every child of it, and show the proof of it.

    Or all sessions that fit --subject, --owner and every --label, or --all: the server ends them as it finds
    them, and the command asks again until it has looked at each.
    """
    selected = _selected(selector)
    if bool(session_id) == selected:
        raise UsageError("give SESSION_ID, or --subject, --owner, --label or --all")
    if session_id:
        if refuse_new_ms or yes:
            raise UsageError("--refuse-new and --yes go without SESSION_ID")
        if dry_run:
            _preview_one(settings, session_id)
        else:
            _end_one(settings, session_id, reason, request_id)
        return
    if request_id:
        raise UsageError("--request-id: goes with SESSION_ID; a repeat leaves ended sessions alone")
    with settings.client() as client:
        long = client.with_timeout(max(settings.timeout_ms, LEAST_TIMEOUT_MS))
        if dry_run:
            from ...client import EndedSessions

            found = long.preview_end_sessions(**selector)
            ended = EndedSessions(found.matched, 0, found.matched, 0, found.selected, 0)
            document = {**_hits_json(found), **_document(ended, dry_run=True)}
            settings.show(document, [*_table(found.selected, found.matched), *_hits_lines(found)])
            return
        if selector["all_sessions"] and not yes:
            _confirm(_count(long, selector))
        done = _end_selected(long, selector, reason, refuse_new_ms)
    settings.show(_document(done, dry_run=False), _lines(done, settings.clock.now_ms()))


@click.command("bans", epilog=examples("session bans"))
@with_settings
def bans(settings: Settings) -> None:
    """List for whom no new session is opened, until when and why."""
    with settings.client() as client:
        found = client.list_bans()
    now_ms = settings.clock.now_ms()
    rows = [
        (str(ban.selector), moment_and_distance(ban.until_ms, now_ms), ban.set_by, ban.reason)
        for ban in found
    ]
    lines = table(("FOR", "UNTIL", "BY", "REASON"), rows) if rows else ["none"]
    settings.show({"bans": [_ban_json(ban) for ban in found]}, lines)


@click.command("lift-ban", epilog=examples("session lift-ban --subject ci:deploy"))
@_selector
@with_settings
def lift_ban(settings: Settings, /, **selector: Any) -> None:
    """Lift a ban on new sessions; give the selectors that it was given."""
    if not _selected(selector):
        raise UsageError("give --subject, --owner, --label or --all")
    with settings.client() as client:
        client.lift_ban(**selector)
    settings.show({"lifted": True}, ["lifted"])


def _selected(selector: dict[str, Any]) -> bool:
    """Return True if a part of the selector is stated; makes the labels a dict. Raises UsageError."""
    labels: Sequence[tuple[str, str]] = selector["labels"]
    selector["labels"] = dict(labels)
    if len(selector["labels"]) != len(labels):
        raise UsageError("--label: a name is there twice, and no session has both values")
    for name in ("subject", "owner"):
        stated: Sequence[str] = selector[name]
        if len(stated) > 1:
            raise UsageError(f"--{name}: is there twice; type the command for each")
        # As of a variable that is not set: without this part the others would select more than was meant.
        if "" in stated:
            raise UsageError(f"--{name}: is empty; leave it out, or say which")
        selector[name] = "".join(stated)
    parts = bool(selector["subject"] or selector["owner"] or labels)
    if parts and selector["all_sessions"]:
        raise UsageError("--all goes without --subject, --owner and --label")
    return parts or bool(selector["all_sessions"])


def _end_one(settings: Settings, session_id: Ref, reason: str, request_id: str) -> None:
    with settings.client() as client:
        ended = client.end(context.session(client, session_id), reason, request_id=request_id)
    document, lines = session_view.to_json(ended), session_view.to_lines(ended, settings.clock.now_ms())
    signed = ended.receipt
    document["receipt"] = None if signed is None else receipt_view.receipt_json(signed, signed.unverified)
    lines.append(NO_RECEIPT if signed is None else receipt_view.summary(signed.unverified))
    settings.show(document, lines)


def _preview_one(settings: Settings, session_id: Ref) -> None:
    """Show the effects of an end of one session."""
    with settings.client() as client:
        session = client.get_session(context.session(client, session_id))
        found = client.preview_end(session.id)
    lines = [*session_view.to_lines(session, settings.clock.now_ms()), *_hits_lines(found)]
    settings.show({**session_view.to_json(session), **_hits_json(found)}, lines)


def _hits_json(found: EndPreview) -> dict[str, Any]:
    return {
        "dry_run": True,
        "sessions": found.matched + len(found.children),
        **attributes(found, "tokens", "allowed", "open_permits", "open_approvals"),
        "unread": found.unread + found.unused,
        "children": [each.id.hex() for each in found.children],
    }


def _hits_lines(found: EndPreview) -> list[str]:
    lines = []
    if found.children:
        below = [(each.id.hex(), each.subject, each.owner) for each in found.children[:SHOWN]]
        lines += ["", "child sessions", *table(("ID", "SUBJECT", "OWNER"), below)]
    if found.unread:
        lines.append(f"{found.unread} of them are not counted below: only {found.read} are read one by one")
    if found.unused:
        lines.append(
            f"of {found.unused} of them the tokens can't be read with this credential, or at this server"
        )
    return [
        *lines,
        f"would end {found.matched + len(found.children)}: {found.tokens} tokens in use, "
        f"{found.allowed} calls allowed so far, "
        f"{found.open_permits} open permits, {found.open_approvals} approvals that wait",
    ]


def _count(client: Client, selector: dict[str, Any]) -> int:
    """Return how many sessions an end would hit, without what a preview reads of each."""
    count, token = 0, ""
    while True:
        found = client.end_sessions(**selector, dry_run=True, page_token=token)
        count, token = count + found.matched, found.next_page_token
        if not token:
            return count


def _confirm(count: int) -> None:
    """Ask a person; without one the command must say --yes. Raises UsageError."""
    if not sys.stdin.isatty():
        raise UsageError(f"--all: would end {count} sessions; add --yes")
    if not click.confirm(f"End all {count} sessions?", err=True):
        raise UsageError("nothing was ended")


def _end_selected(client: Client, selector: dict[str, Any], reason: str, refuse_new_ms: int) -> EndedSessions:
    """Repeat the call until the search is complete; return the sum.

    A call that fails after others leaves a warning with the sessions they ended. Raises Unavailable if an
    earlier server, which gives no token, ends nothing.
    """
    done = client.end_sessions(**selector, reason=reason, refuse_new_ms=refuse_new_ms)
    while done.next_page_token or done.remaining:
        token = done.next_page_token
        try:
            more = client.end_sessions(**selector, reason=reason, page_token=token)
        except SessauthError:
            warn(f"{done.ended} sessions were ended, and stay so; type it again to end the others")
            raise
        if more.remaining and not (more.ended or more.next_page_token):
            raise Unavailable(f"{done.ended} sessions were ended, and {more.remaining} remain; type it again")
        done = done.with_more(more)
    return done


def _document(done: EndedSessions, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        **attributes(done, "matched", "ended", "remaining", "revision", "refused_until_ms"),
        "sessions": _listed(done.sessions),
    }


def _listed(sessions: Sequence[SelectedSession]) -> list[dict[str, Any]]:
    return [attributes(each, "id", "epoch", "subject", "owner") for each in sessions]


def _table(sessions: Sequence[SelectedSession], count: int) -> list[str]:
    lines = []
    if sessions:
        rows = [(each.id.hex(), each.subject, each.owner) for each in sessions[:SHOWN]]
        lines = table(("ID", "SUBJECT", "OWNER"), rows)
    if count > SHOWN:
        lines.append(f"and {count - SHOWN} more; --json lists the first 1000")
    return lines


def _lines(done: EndedSessions, now_ms: int) -> list[str]:
    what = (
        f"none is allowed from revision {done.revision} on"
        if done.ended
        else "no live session matches the selection"
    )
    lines = [*_table(done.sessions, done.ended), f"ended {done.ended}; {what}"]
    if done.refused_until_ms:
        lines.append(f"new ones are refused until {moment_and_distance(done.refused_until_ms, now_ms)}")
    return lines


def _ban_json(ban: SessionBan) -> dict[str, Any]:
    return {
        **attributes(ban.selector, "subject", "owner"),
        "labels": dict(ban.selector.labels),
        **attributes(ban.selector, "all"),
        **attributes(ban, "until_ms", "reason", "set_by", "set_at_ms"),
    }
