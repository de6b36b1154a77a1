"""Reads again by SIGHUP: settings, credentials, identities, certificates; logs what needs a restart."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from ...clock import Clock
from ...errors import ConfigError, StateUnusable
from .. import log
from ..config.config import SECTIONS, Config, load
from ..keys.certificates import check_certificates
from ..rpc.authenticate import Authenticator
from .supervisor import Supervisor

LOG_LEVEL = "server.log_level"


def changed_settings(before: Config, now: Config) -> list[str]:
    """Return the names of the settings that differ, as ``limits.drain_ms``. Identities are no setting."""
    return [
        f"{section}.{entry.name}"
        for section, kind in SECTIONS.items()
        for entry in dataclasses.fields(kind)
        if getattr(getattr(before, section), entry.name) != getattr(getattr(now, section), entry.name)
    ]


def _read(config: Config) -> Config:
    """Return the settings of the file now; ``config`` itself if it is of no file. Raises ConfigError."""
    return config if config.file_stamp is None else load(config.home)


class Reloader:
    """Reads the files of a running server again. What can't be used changes nothing, and is logged."""

    def __init__(
        self, config: Config, authenticator: Authenticator, supervisor: Supervisor, clock: Clock
    ) -> None:
        """Compare later settings with those of ``config``, which the process runs with."""
        self._config = config
        self._authenticator = authenticator
        self._supervisor = supervisor
        self._clock = clock
        self._level = config.server.log_level
        # Options of the command may count in place of the file's settings: those are not compared with it.
        self._loaded = _read(config)

    def reload(self) -> None:
        """Read all files again, and log the event ``reloaded``.

        Each part that can't be read is ``not_reloaded``. ``needs_restart`` names changed settings that take
        effect at the next start.
        """
        fields: dict[str, object] = {"log_level": self._level, "needs_restart": []}
        self._try("settings", lambda: fields.update(self._reload_settings()))
        self._try("credentials", lambda: fields.update(credentials=self._authenticator.read_again()))
        fields["identities"] = len(self._authenticator.identities.read_again())
        if self._config.tcp.certificate:
            self._try("certificates", lambda: fields.update(certificates=self._check_certificates()))
        # Whatever the level was and will be.
        log.set_level("INFO")
        log.event(logging.INFO, "reloaded", **fields)
        log.set_level(self._level)

    def _reload_settings(self) -> dict[str, object]:
        now = _read(self._config)
        restart = changed_settings(self._loaded, now)
        level = now.server.log_level
        # Whether each call is logged is decided at the start.
        if LOG_LEVEL in restart and level != "DEBUG":
            restart.remove(LOG_LEVEL)
        if level != self._level:
            self._level = level
            self._supervisor.set_log_level(level)
        return {"log_level": level, "needs_restart": restart}

    def _check_certificates(self) -> str:
        """Return the file that new connections are served with. Raises ConfigError, StateUnusable."""
        check_certificates(self._config, self._clock)
        return str(self._config.path(self._config.tcp.certificate))

    @staticmethod
    def _try(what: str, read: Callable[[], object]) -> None:
        try:
            read()
        except (ConfigError, StateUnusable) as error:
            log.event(logging.ERROR, "not_reloaded", what=what, error=str(error))
