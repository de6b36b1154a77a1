"""The host that is examined: its settings, and the answer of its server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...clock import Clock
from ...errors import StateError
from ...model.server_status import ServerStatus
from ..config.config import Config

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Host:
    """The input of an examination.

    ``status`` is the answer of the host's server; None if there is none, for the reason ``silence``, or if it
    could not be asked as an operator or an auditor, for the reason ``refusal``. ``deep`` reads the whole
    state and the whole audit. ``backups`` are folders of backups, of which the newest must be younger than
    ``backup_age_ms``. With a ``state_fault`` the state can't be read, and nothing of it is examined.
    """

    config: Config
    clock: Clock
    status: ServerStatus | None = None
    silence: str = ""
    refusal: str = ""
    deep: bool = False
    backups: tuple[Path, ...] = ()
    backup_age_ms: int = DAY_MS
    proc: Path = Path("/proc")
    state_fault: StateError | None = None
