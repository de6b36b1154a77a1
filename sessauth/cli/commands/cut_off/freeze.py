"""``sessauth freeze`` and ``sessauth thaw``: deny every check and refuse all new authority, and no longer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ....errors import ConfigError, StateError, StateUnusable, Unavailable, UsageError
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
@click.option("--reason", default="", help="Why, for those who are refused and for the audit.")
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
    wanted: Callable[[Client], object] = (lambda client: None) if show else lambda c: c.freeze(reason)
    state = None if this_host or folder else _by_server(settings, wanted, "reading" if show else "freezing")
    if state is None:
        state = _by_folder(settings, folder, None if show else lambda at: _hold(at, reason))
    settings.show(state, [_line(state)])


@click.command("thaw")
@_this_host
@state_dir_option
@with_settings
def thaw(settings: Settings, this_host: bool, folder: Path | None) -> None:
    """End a freeze: sessions that have not ended meanwhile go on.

    With --this-host also the brake of a write that failed, once a write succeeds again; the server must be
    stopped for that. Fails while checks stay denied for another cause, and names it.
    """
    state = None if this_host or folder else _by_server(settings, lambda client: client.thaw(), "thawing")
    if state is None:
        state = _by_folder(settings, folder, _release)
    if state["braked"]:
        raise StateError(f"checks are still denied: {state['reason']}; {_remedy(state)}")
    settings.show(state, [_line(state)])


def _by_server(settings: Settings, work: Callable[[Client], object], doing: str) -> dict[str, Any] | None:
    """Have the server do it; None, and a warning, if the server of this host does not answer."""
    try:
        with settings.client() as client:
            work(client)
            found = client.get_freeze()
    except (ConfigError, Unavailable) as error:
        if not _is_local(settings):
            raise
        warn(f"{doing} this host alone, by its state folder: {error}")
        return None
    return {
        "braked": bool(found.brake),
        "reason": found.brake,
        "host": found.host,
        "cluster": found.cluster,
    }


def _by_folder(
    settings: Settings, folder: Path | None, change: Callable[[Path], None] | None
) -> dict[str, Any]:
    """Change the page of the brake in a state folder; return what it holds then. Raises StateUnusable."""
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


def _is_local(settings: Settings) -> bool:
    """Return True if the command means the service of this host, and its state folder is known."""
    from ....server.config.config import state_dir_at

    if settings.target is not None or (settings.home is None and os.environ.get("SESSAUTH_TARGET")):
        return False
    try:
        return state_dir_at(settings.home)[0].is_dir()
    except ConfigError:
        return False


def _state_dir(settings: Settings, folder: Path | None) -> Path:
    """Return the state folder, also while the settings are wrong. Raises ConfigError, StateUnusable."""
    from ....server.config.config import state_dir_at

    if folder is None:
        folder, wrong = state_dir_at(settings.home)
        if wrong:
            warn(f"settings are wrong ({printable(wrong)}); using {folder}")
    if not folder.is_dir():
        raise StateUnusable(f"{folder} does not exist; run init, or name another with --state", "MISSING")
    return folder


def _hold(folder: Path, reason: str) -> None:
    from ....state.host.brake import Brake, create
    from ....state.layout import BRAKE_FILE

    # A lost page is created anew: its former setting is unknown.
    create(folder / BRAKE_FILE)
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
