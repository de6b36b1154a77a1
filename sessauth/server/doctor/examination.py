"""The whole examination of a host. It changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ...errors import ConfigError, StateError
from ...state.backup import FOLDER, WHOLE, read_apart
from ..config.config import Config
from . import backup_checks, file_checks, folder_checks, place_checks, process_checks
from .finding import ERROR, Finding, of_error
from .host import Host

_PARTS: Sequence[Callable[[Host], Iterator[Finding]]] = (
    file_checks.find,
    folder_checks.find,
    place_checks.find,
    process_checks.find,
    backup_checks.find,
)


def examine(load: Callable[[], Config], host_of: Callable[[Config], Host]) -> list[Finding]:
    """Return the findings, errors first. Without settings that can be read there is one."""
    try:
        config = load()
    except ConfigError as error:
        return [of_error("settings", error, "correct the key; 'sessauth freeze' works meanwhile")]
    owner = _other_owner(config)
    if owner is not None:
        words = f"this user is neither root nor user {owner}, who owns {config.state_dir}: it can't read all"
        return [Finding("not_examined", words, "run it as the service's user, or as root")]
    host = _with_state_fault(host_of(config))
    found = [finding for part in _PARTS for finding in _findings(part, host)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)


def _with_state_fault(host: Host) -> Host:
    """Have another process read the state first: LMDB ends one at some damages."""
    try:
        read_apart(host.config.state_dir, WHOLE if host.deep else FOLDER)
    except StateError as error:
        return replace(host, state_fault=error)
    return host


def _other_owner(config: Config) -> int | None:
    """Return the user of the state folder, if this one is another and not root."""
    try:
        owner = config.state_dir.stat().st_uid
    except OSError:
        # A finding of the folder.
        return None
    return None if os.geteuid() in (0, owner) else owner


def _findings(part: Callable[[Host], Iterator[Finding]], host: Host) -> Iterator[Finding]:
    """Yield the findings of a part; one that fails is a finding too, and the others go on."""
    try:
        yield from part(host)
    except Exception as error:  # noqa: BLE001 - after any fault here, the rest is examined
        name = part.__module__.rpartition(".")[2].replace("_", " ")
        yield Finding(
            "not_examined",
            f"the {name} ended early, by {type(error).__name__}: {error}",
            "correct what it names, and run it again; it hides other faults",
        )
