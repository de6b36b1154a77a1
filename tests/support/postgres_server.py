"""A PostgreSQL on loopback that can be stopped, killed and restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from sessauth.carriers.postgres.postgres_carrier import PostgresCarrier
from tests.support.interop_server import free_port
from tests.support.log_writer import until

# An environment in which their absence fails: .ci/run has them.
REQUIRED: Final = "SESSAUTH_TEST_POSTGRES"
START_S: Final = 30.0
# Not a superuser: it owns its database and nothing else.
ROLE: Final = "sessauth"
_OPTIONS: Final = {
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "client_connection_check_interval": "500",
}


def programs() -> Path:
    """Return the folder of PostgreSQL's programs; skips the test where there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0])
    )
    if not found or not shutil.which("setpriv"):
        assert not os.environ.get(REQUIRED), "PostgreSQL is missing, and tests with it must not be skipped"
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return found[-1].parent


class PostgresServer:
    """One server with a database, in a folder that the user it runs as owns."""

    def __init__(self, folder: Path) -> None:
        """Make the database cluster; nothing runs yet."""
        self._programs = programs()
        self._folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        # PostgreSQL does not run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        options = ["--auth=trust", "--username=root", "--no-sync", "--no-locale", "--encoding=UTF8"]
        command = [self._programs / "initdb", *options, folder / "data"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=_ENVIRONMENT, **self._user)

    @property
    def conninfo(self) -> str:
        """The connection URI of a server of ours."""
        return self.uri(self.port)

    def uri(self, *ports: int) -> str:
        """Return a connection URI by these ports, as those of a proxy."""
        return f"postgresql://{ROLE}@{','.join(f'127.0.0.1:{port}' for port in ports)}/{ROLE}?sslmode=disable"

    def carrier(self, cluster_id: bytes) -> PostgresCarrier:
        """Connect a carrier."""
        return PostgresCarrier(self.conninfo, cluster_id, insecure=True, alone=True)

    def start(self) -> None:
        """Start it; returns once it answers."""
        options = [f"--{name}={value}" for name, value in {**_OPTIONS, "port": str(self.port)}.items()]
        command = [self._programs / "postgres", "-D", self._folder / "data", *options]
        end = time.monotonic() + START_S
        while True:
            with (self._folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    command, stdout=log, stderr=log, cwd=self._folder, env=_ENVIRONMENT, **self._user
                )
            while self.process.poll() is None:
                with suppress(_error()):
                    self.execute("SELECT 1")
                    return
                assert time.monotonic() < end, self.log()
                time.sleep(0.02)
            # What a killed one left behind is not gone yet.
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def make_database(self) -> None:
        """Make the role and its database."""
        self.execute(f"CREATE ROLE {ROLE} LOGIN")
        self.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, and return its rows."""
        return self.execute_in("postgres", statement)

    def execute_in(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser in a database, and return its rows."""
        import psycopg

        uri = f"postgresql://root@127.0.0.1:{self.port}/{database}?sslmode=disable"
        with psycopg.connect(uri, autocommit=True, connect_timeout=2) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def configure(self, name: str, value: str) -> None:
        """Change a setting while it runs."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("SELECT pg_reload_conf()")
        until(lambda: self.execute(f"SHOW {name}") == [(value,)])

    def use_tls(self, certificate: bytes, key: bytes) -> None:
        """Accept TLS as well, by these PEM texts."""
        for name, content in (("server.crt", certificate), ("server.key", key)):
            path = self._folder / "data" / name
            path.write_bytes(content)
            path.chmod(0o600)
            if self._user:
                os.chown(path, self._user["user"], self._user["group"])
        self.configure("ssl", "on")

    def stop(self) -> None:
        """Let all of its processes go silent: their connections stay open, and are accepted."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let silent ones go on."""
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def kill(self) -> None:
        """End all of its processes at once."""
        if self.process is not None:
            for process in self._processes():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def log(self) -> str:
        """Return the end of its log."""
        return (self._folder / "log").read_text(errors="replace")[-3000:]

    def _processes(self) -> list[int]:
        if self.process is None:
            return []
        first = self.process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]


# Options of an operator's environment are none of the test's.
_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _error() -> type[Exception]:
    import psycopg

    return psycopg.Error


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server with an empty database; yields it once it answers."""
    programs()
    # Folders of pytest are their user's alone.
    folder = Path(tempfile.mkdtemp(prefix="sa-pg-"))
    server: PostgresServer | None = None
    try:
        server = PostgresServer(folder)
        server.start()
        server.make_database()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
