"""The whole examination of a host. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...errors import ConfigError
from ..config.config import Config
from . import backup_checks, file_checks, folder_checks, process_checks
from .finding import ERROR, Finding, of_error
from .host import Host

_PARTS: Sequence[Callable[[Host], Iterator[Finding]]] = (
    file_checks.find,
    folder_checks.find,
    process_checks.find,
    backup_checks.find,
)


def examine(load: Callable[[], Config], host_of: Callable[[Config], Host]) -> list[Finding]:
    """Return the findings, errors first. Without settings that can be read there is one."""
    try:
        config = load()
    except ConfigError as error:
        return [of_error("settings", error, "correct the key; 'sessauth freeze' works meanwhile")]
    host = host_of(config)
    found = [finding for part in _PARTS for finding in part(host)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)
