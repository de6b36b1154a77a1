"""A server in a child process with a temporary home, while a ``with`` block runs.

The child gets nothing of the caller's settings: its home is new, and no ``SESSAUTH_`` variable is passed on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from ..audit.write.stream import AuditOptions
from ..client import Client
from ..errors import SessauthError, Unavailable, UsageError
from ..server.process.supervisor import with_package
from ..verifier.verifier import ServerBackedVerifier, Verifier

Setting = bool | int | float | str | Sequence[str]
# A table of settings, or several of one kind: ``identity_providers``.
Section = Mapping[str, Setting] | Sequence[Mapping[str, object]]

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.02
_TIMEOUT_MS: Final = 5_000
# Settings, and the service manager of the caller, which must not hear of another server.
_NOT_PASSED_ON: Final = ("SESSAUTH_", "NOTIFY_SOCKET", "WATCHDOG_")


class LocalService:
    """A server of one's own: ready when the ``with`` block is entered, gone when it is left.

        with LocalService() as service, service.verifier("gateway") as gateway:
            session = service.client.open_session(subject="agent", ceiling=["read:docs/*"])
            token = service.client.mint(session.id, ["read:docs/*"], ["gateway"])
            assert gateway.check(token, "read", "docs/plan")

    It is ``sessauth serve`` in a child process, on a Unix socket in a temporary folder of mode 0700, without
    TCP. It reads neither the caller's home nor ``SESSAUTH_`` variables. The child ends and removes its folder
    when this process ends in any way, kill -9 included. Several may run at once. A running event loop
    is no obstacle, but entering and leaving block it for a second or two.
    """

    home: Path
    """The temporary folder, with ``state/``, ``audit/`` if that is enabled, and ``server.log``."""
    client: Client
    """A client with the operator's credential, closed with the block; for any number of threads.

    Each call has 5000 ms. Checks go to the workers, if settings ask for some.
    """

    def __init__(self, settings: Mapping[str, Section] | None = None) -> None:
        """Prepare a service; nothing starts before the ``with`` block.

        ``settings`` are sections of sessauth.toml (docs/operations/settings.md), such as
        ``{"audit": {"enabled": True}}``; one that is there several times is a list:
        ``{"identity_providers": [{"name": "corp", ...}]}``. None: all at their defaults.
        """
        self._settings = settings or {}
        self._opened: ExitStack | None = None
        self._pid = 0

    @property
    def target(self) -> str:
        """The server's socket as a target, ``unix:PATH``, for another client."""
        return f"unix:{self.home / 'run' / 'sessauth.sock'}"

    @property
    def credential_file(self) -> Path:
        """The file of the operator's credential, for another client."""
        return self.home / "operator.credential"

    def verifier(
        self,
        audience: str,
        *,
        audit: AuditOptions | None = None,
        report_usage: bool = False,
        register_as: str = "",
    ) -> ServerBackedVerifier:
        """Return a gateway's verifier in this process, which has the server charge costs.

        Close it, or use it in a ``with`` statement. ``audience`` is the name of the gateway, for which its
        tokens are minted. Parameters and errors are those of :meth:`Verifier.embedded`.
        """
        return Verifier.embedded(
            self.home / "state",
            audience=audience,
            server=self.target,
            credential_file=self.credential_file,
            timeout_ms=_TIMEOUT_MS,
            audit=audit,
            report_usage=report_usage,
            register_as=register_as,
        )

    def __enter__(self) -> Self:
        """Start the server; return when it and its workers answer, within 60 s.

        Raises Unavailable, with the last line of the server's log, if it does not start; UsageError if it
        runs already.
        """
        if self._opened is not None:
            raise UsageError("this service runs already; make another LocalService")
        with ExitStack() as opened:
            # The system's own folder and not TMPDIR: a socket's path has at most 107 bytes.
            self.home = Path(tempfile.mkdtemp(prefix="sessauth-", dir="/tmp"))
            opened.callback(shutil.rmtree, self.home, ignore_errors=True)
            process = self._start()
            opened.callback(_stop, process)
            workers = self._wait_until_ready(process)
            self.client = opened.enter_context(self._client(workers))
            self._pid = os.getpid()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client, stop the server and remove the folder. In a child that was forked, do nothing."""
        opened = self._opened
        if opened is not None and self._pid == os.getpid():
            self._opened = None
            opened.close()

    def _start(self) -> subprocess.Popen[bytes]:
        lines = []
        for section, values in self._settings.items():
            if isinstance(values, Mapping):
                lines += [f"[{section}]", *(f"{key} = {toml_text(value)}" for key, value in values.items())]
            else:
                # A key of no table stands before all tables.
                lines.insert(0, f"{section} = {toml_text(values)}")
        (self.home / "sessauth.toml").write_text("\n".join([*lines, ""]), encoding="utf-8")
        passed = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
        with (self.home / "server.log").open("wb") as log:
            return subprocess.Popen(
                # -P: nothing is imported from the folder that the program is started in.
                [sys.executable, "-P", "-m", "sessauth.testing.child", str(self.home), str(os.getpid())],
                env=with_package({**passed, "HOME": str(self.home)}),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C, or a notebook's interrupt, is for the caller, which still needs the server.
                start_new_session=True,
            )

    def _client(self, workers: int) -> Client:
        sockets = [str(self.home / "run" / f"check-{index}.sock") for index in range(workers)]
        return Client(
            self.target,
            credential_file=self.credential_file,
            timeout_ms=_TIMEOUT_MS,
            check_target=sockets or None,
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> int:
        """Return the number of workers, all of which are ready."""
        until = time.monotonic() + _START_SECONDS
        why = "it did not answer in time"
        # The credential is there before it.
        socket = Path(self.target.removeprefix("unix:"))
        while process.poll() is None and time.monotonic() < until:
            if socket.exists():
                try:
                    with self._client(0) as client:
                        status = client.server_status()
                except SessauthError as error:
                    why = str(error)
                else:
                    if not status.not_ready and status.ready_workers == status.workers:
                        return status.workers
            time.sleep(_PAUSE_SECONDS)
        logged = (self.home / "server.log").read_text(encoding="utf-8", errors="replace").strip()
        last = logged.rpartition("\n")[2]
        raise Unavailable(f"the server did not start: {last or why}")


def toml_text(value: object) -> str:
    """Return a value as TOML has it on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    # JSON of a text, a number or a truth value is TOML too.
    return json.dumps(value)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and wait until it is gone."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
