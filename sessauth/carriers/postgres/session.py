"""One connection to PostgreSQL, whose every wait has an end.

A server that is stopped keeps its connections open, so no call of libpq that blocks is used. The connection
string is read as one string for each of its hosts.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import ConfigError
from ...state.replication.carrier import CarrierError

if TYPE_CHECKING:
    from types import ModuleType

    from psycopg import pq

# The pause between two checks if the carrier was closed.
_SLICE_S: Final = 0.1
_BYTEA, _INT8, _TEXT, _BOOL = 17, 20, 25, 16
_BINARY: Final = 1
# Classes of SQLSTATE of a statement that fails again: data, rights, space, limits, the system.
_DEFINITIVE: Final = ("22", "23", "28", "3D", "3F", "42", "53", "54", "58", "XX")

Value = int | str | bytes | bool
Row = tuple[bytes | None, ...]


class Statement(NamedTuple):
    """One statement of SQL and its parameters."""

    sql: str
    values: tuple[Value, ...] = ()


# Whatever isolation or mode the role has by default.
BEGIN: Final = Statement("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
COMMIT: Final = Statement("COMMIT")


class Lost(CarrierError):
    """The transaction was sent, and nothing is known of its end."""


class StatementFailed(CarrierError):
    """PostgreSQL refused a statement, so its transaction took no effect."""

    def __init__(self, code: str, detail: str) -> None:
        """Keep the SQLSTATE."""
        super().__init__(f"PostgreSQL: {code}: {detail[:200]}")
        self.code = code

    @property
    def definitive(self) -> bool:
        """True if the same statement would fail again."""
        return self.code.startswith(_DEFINITIVE)


class PostgresSession:
    """A connection. One thread uses it at a time."""

    def __init__(self, conninfo: bytes, end: float, closed: Callable[[], bool]) -> None:
        """Connect until ``end`` (monotonic seconds). Raises CarrierError.

        The name of the host is resolved by libpq, which waits as long as the machine's resolver does.
        """
        self._pq = driver()
        self._closed = closed
        self._notices: list[str] = []
        # The server's own id, set by the code that opens the session.
        self.engine_id = ""
        self._conn: pq.abc.PGconn = self._pq.PGconn.connect_start(conninfo)
        try:
            self._connect(end)
        except BaseException:
            self._conn.finish()
            raise

    def _connect(self, end: float) -> None:
        from psycopg import Error

        status, conn = self._pq.PollingStatus, self._conn
        try:
            while conn.status != self._pq.ConnStatus.BAD:
                now = conn.connect_poll()
                if now == status.OK:
                    break
                if now == status.FAILED or not self._wait(end, write=now == status.WRITING):
                    break
            else:
                now = status.FAILED
            if now != status.OK:
                silent = now != status.FAILED
                raise CarrierError(f"PostgreSQL: {'no answer in time' if silent else self._error()}")
            conn.nonblocking = 1
            conn.notice_handler = self._notice
            conn.enter_pipeline_mode()
        except Error:
            raise CarrierError(f"PostgreSQL: {self._error()}") from None

    def _notice(self, result: pq.abc.PGresult) -> None:
        text = result.error_field(self._pq.DiagnosticField.MESSAGE_PRIMARY)
        self._notices.append((text or b"a warning").decode(errors="replace"))

    def _error(self) -> str:
        # The text of libpq names hosts, users and databases, never a password.
        return self._conn.error_message.decode(errors="replace").strip()[:200] or "the connection is lost"

    def close(self) -> None:
        """Close the connection."""
        self._conn.finish()

    @property
    def usable(self) -> bool:
        """True if an idle connection is still there, as far as this end of it knows."""
        from psycopg import Error

        try:
            if self._poll(0, write=False):
                self._conn.consume_input()
        except (Error, OSError, ValueError):
            return False
        return bool(self._conn.status == self._pq.ConnStatus.OK)

    def transact(
        self, statements: Sequence[Statement], end: float, behind: Sequence[Statement] = ()
    ) -> list[list[Row]]:
        """Run statements as one transaction; those of ``behind`` after it, whose failure does not count.

        Raises StatementFailed if it took no effect, Lost if that is unknown. A warning is one that it was
        committed here alone: ending the wait for a standby has PostgreSQL report success.
        """
        self._notices.clear()
        rows, failures = self._run([BEGIN, *statements, COMMIT, *behind], end)
        last = len(statements) + 1
        if failures and failures[0][0] <= last:
            raise failures[0][1]
        if self._notices:
            raise Lost(f"PostgreSQL warned: {self._notices[0][:200]}")
        return rows[1:last]

    def run(self, statement: Statement, end: float) -> list[Row]:
        """Run one statement by itself. Raises CarrierError."""
        rows, failures = self._run([statement], end)
        if failures:
            raise failures[0][1]
        return rows[0]

    def _run(
        self, statements: Sequence[Statement], end: float
    ) -> tuple[list[list[Row]], list[tuple[int, StatementFailed]]]:
        """Return the rows of each statement, and the failures with their positions."""
        from psycopg import Error

        try:
            for statement in statements:
                self._send(statement)
            self._conn.pipeline_sync()
            return self._collect(end)
        except (Error, OSError, ValueError):
            raise Lost(f"PostgreSQL: {self._error()}") from None

    def _send(self, statement: Statement) -> None:
        encoded = [_encode(value) for value in statement.values]
        self._conn.send_query_params(
            statement.sql.encode(),
            [data for data, _, _ in encoded],
            [kind for _, kind, _ in encoded],
            [form for _, _, form in encoded],
            _BINARY,
        )

    def _collect(self, end: float) -> tuple[list[list[Row]], list[tuple[int, StatementFailed]]]:
        status, conn = self._pq.ExecStatus, self._conn
        rows: list[list[Row]] = []
        failures: list[tuple[int, StatementFailed]] = []
        while True:
            if not self._wait(end, write=conn.flush() == 1):
                raise Lost("PostgreSQL: no answer in time")
            conn.consume_input()
            ended = True
            while not conn.is_busy():
                result = conn.get_result()
                if result is None:
                    # The end of a statement; twice: no more came yet.
                    if ended:
                        break
                    ended = True
                    continue
                ended = False
                if result.status == status.PIPELINE_SYNC:
                    return rows, failures
                if result.status == status.FATAL_ERROR:
                    failures.append((len(rows), self._failed(result)))
                rows.append(_rows(result))

    def _failed(self, result: pq.abc.PGresult) -> StatementFailed:
        field = self._pq.DiagnosticField
        code, text = result.error_field(field.SQLSTATE), result.error_field(field.MESSAGE_PRIMARY)
        if code is None:
            # Of libpq itself: the connection ended.
            raise Lost(f"PostgreSQL: {self._error()}")
        severity = result.error_field(field.SEVERITY_NONLOCALIZED)
        failed = StatementFailed(code.decode(), (text or b"").decode(errors="replace"))
        if severity != b"ERROR":
            # The connection ends with it, perhaps in the middle of a commit.
            raise Lost(str(failed))
        return failed

    def notified(self, end: float) -> bool:
        """Wait for a notification until ``end``; False if none came. Raises CarrierError."""
        from psycopg import Error

        found = False
        try:
            while True:
                while self._conn.notifies() is not None:
                    found = True
                if found or not self._wait(end, write=False):
                    return found
                self._conn.consume_input()
        except (Error, OSError, ValueError):
            raise CarrierError(f"PostgreSQL: {self._error()}") from None

    def _wait(self, end: float, *, write: bool) -> bool:
        """Return once the connection is ready, False if it is not by ``end``. Raises Lost if closed."""
        while True:
            if self._closed():
                raise Lost("the carrier is closed")
            left = end - time.monotonic()
            if self._poll(max(min(left, _SLICE_S), 0), write=write):
                return True
            if left <= 0:
                return False

    def _poll(self, seconds: float, *, write: bool) -> bool:
        poll = select.poll()
        poll.register(self._conn.socket, select.POLLIN | (select.POLLOUT if write else 0))
        return bool(poll.poll(seconds * 1000))


def _encode(value: Value) -> tuple[bytes, int, int]:
    """Return a parameter with its type and format."""
    if isinstance(value, bytes):
        return value, _BYTEA, _BINARY
    if isinstance(value, bool):
        return (b"t" if value else b"f"), _BOOL, 0
    if isinstance(value, int):
        return b"%d" % value, _INT8, 0
    return value.encode(), _TEXT, 0


def _rows(result: pq.abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    return [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]


def integer(value: bytes | None) -> int:
    """Return a bigint of an answer. Raises CarrierError."""
    if value is None or len(value) != 8:
        raise CarrierError("PostgreSQL answered with something else than a number")
    return int.from_bytes(value, "big", signed=True)


def text(value: bytes | None) -> str:
    """Return a text of an answer. Raises CarrierError."""
    with contextlib.suppress(UnicodeDecodeError):
        if value is not None:
            return value.decode()
    raise CarrierError("PostgreSQL answered with something else than text")


def true(value: bytes | None) -> bool:
    """Return a boolean of an answer; False for NULL."""
    return value == b"\x01"


INSTALL: Final = "pip install 'sessauth[postgres]'"
# Never in settings, which are copied and printed.
_SECRETS: Final = ("password", "sslpassword")
_VERIFIED: Final = "verify-full"
# A query that libpq makes on its own would be one more place to wait in.
_OURS: Final = {
    "target_session_attrs": "read-write",
    "load_balance_hosts": "disable",
    "client_encoding": "UTF8",
    "application_name": "sessauth",
}


def driver() -> ModuleType:
    """Return psycopg's layer of libpq. Raises ConfigError without the extra."""
    try:
        from psycopg import pq
    except ImportError:
        raise ConfigError(f"cluster.engine: PostgreSQL needs psycopg; {INSTALL}") from None
    return pq


def hosts(conninfo: str, *, insecure: bool) -> tuple[bytes, ...]:
    """Return a connection string for each host, in order. Raises ConfigError, which never names a value.

    Unless ``insecure``, ``sslmode`` must be ``verify-full``.
    """
    pq = driver()
    from psycopg import Error

    try:
        parsed = pq.Conninfo.parse(conninfo.encode())
    except Error:
        # The text of libpq may have parts of the string, so a password.
        raise ConfigError("cluster.engine: is not a connection URI of PostgreSQL") from None
    stated = {option.keyword.decode(): option.val.decode() for option in parsed if option.val is not None}
    if any(name in stated for name in _SECRETS):
        raise ConfigError("cluster.engine: has a password; use a password file or a client certificate")
    if not insecure:
        if stated.get("sslmode") != _VERIFIED:
            raise ConfigError(
                "cluster.engine: state sslmode=verify-full and sslrootcert, or set "
                "cluster.insecure_engine = true"
            )
        # libpq prefers it to TLS, and then verifies no certificate.
        stated["gssencmode"] = "disable"
    known = {option.keyword.decode() for option in parsed}
    stated |= {name: value for name, value in _OURS.items() if name in known}
    return tuple(_encode_conninfo({**stated, **place}) for place in _places(stated))


def _places(stated: dict[str, str]) -> list[dict[str, str]]:
    """Return the parameters that differ between the hosts. Raises ConfigError."""
    lists = {name: stated.pop(name).split(",") for name in ("host", "hostaddr", "port") if name in stated}
    number = max((len(values) for name, values in lists.items() if name != "port"), default=1)
    columns = {name: values * number if len(values) == 1 else values for name, values in lists.items()}
    if any(len(values) != number for values in columns.values()):
        raise ConfigError("cluster.engine: has not one port for each host")
    if any(port and not port.isdecimal() for port in columns.get("port", ())):
        raise ConfigError("cluster.engine: has a port that is no number")
    rows = zip(*columns.values(), strict=True) if columns else repeat((), 1)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _encode_conninfo(values: dict[str, str]) -> bytes:
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items()).encode()
