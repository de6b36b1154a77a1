"""The whole examination of a host. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...errors import ConfigError
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
    host = host_of(config)
    found = [finding for part in _PARTS for finding in _findings(part, host)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)


def _findings(part: Callable[[Host], Iterator[Finding]], host: Host) -> Iterator[Finding]:
    """Yield the findings of a part; one that fails is a finding too, and the others go on."""
    try:
        yield from part(host)
    except Exception as error:  # noqa: BLE001 - whatever is broken here, the rest is examined
        name = part.__module__.rpartition(".")[2].replace("_", " ")
        yield Finding(
            "not_examined",
            f"the {name} ended early, by {type(error).__name__}: {error}",
            "correct what it names, and run it again; it hides other faults",
        )
