"""``sessauth freeze`` and ``sessauth thaw``: deny every check and refuse all new authority, and no longer."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ....errors import ConfigError, SessauthError, StateError, StateUnusable, Unavailable, UsageError
from ...context import Settings, with_settings
from ...output import printable, warn
from ...params import state_dir_option

if TYPE_CHECKING:
    from ....client import Client

MAX_REASON_BYTES: Final = 256

_this_host = click.option(
    "--this-host", is_flag=True, help="This host alone, by its state folder: needs no server and no settings."
)


@click.command("freeze")
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


@click.command("thaw")
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
    return {
        "braked": bool(found.brake),
        "reason": found.brake,
        "host": found.host,
        "cluster": found.cluster,
    }


def _by_folder(
    settings: Settings, folder: Path | None, change: Callable[[Path], None] | None
) -> dict[str, Any]:
    """Change the page of the brake in a state folder; return its new content. Raises StateUnusable."""
    from ....state.host import brake
    from ....state.layout import BRAKE_FILE

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
    from ....server.config import state_dir_at
    from ....state.lmdb.cluster_rows import read_position
    from ....state.lmdb.reader import StateReader

    with suppress(ConfigError):
        config = settings.config()
        if config.cluster.enabled or config.follow.servers:
            return True
    try:
        reader = StateReader.open(state_dir_at(settings.home)[0])
    except (ConfigError, StateError):
        return False
    try:
        with reader.rows() as rows:
            return read_position(rows) is not None
    except StateError:
        return False
    finally:
        reader.close()


def _is_local(settings: Settings) -> bool:
    """Return True if the command means the service of this host, and its state folder is known."""
    from ....server.config import state_dir_at

    if settings.target is not None or (settings.home is None and os.environ.get("SESSAUTH_TARGET")):
        return False
    try:
        return state_dir_at(settings.home)[0].is_dir()
    except ConfigError:
        return False


def _state_dir(settings: Settings, folder: Path | None) -> Path:
    """Return the state folder, also while the settings are wrong. Raises ConfigError, StateUnusable."""
    from ....server.config import state_dir_at

    if folder is None:
        folder, wrong = state_dir_at(settings.home)
        if wrong:
            warn(f"settings are wrong ({printable(wrong)}); using {folder}")
    if not folder.is_dir():
        raise StateUnusable(f"{folder} does not exist; run init, or name another with --state", "MISSING")
    return folder


def _hold(folder: Path, reason: str) -> None:
    from ....state.host.brake import Brake, check_brake_is_there, create
    from ....state.layout import BRAKE_FILE

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
    from ....state.host.brake import Brake
    from ....state.layout import BRAKE_FILE
    from ....state.writer.state_writer import StateWriter

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
