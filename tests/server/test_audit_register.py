"""The register of audit streams in the state folder: it detects a log that is gone or another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.server.config import load
from sessauth.server.process.control import Control
from sessauth.server.process.init import Initialised, initialise
from sessauth.v1 import session_service_pb2 as sessions
from tests.cli.conftest import Ran, invoke
from tests.support.service import Caller, ServerProcess, home_folder, serves, wait_until

AUDIT = "[audit]\nenabled = true\nfsync_ms = 20\ncheckpoint_ms = 50\n"


@pytest.fixture
def made() -> Iterator[Initialised]:
    """A home folder with audit."""
    with home_folder() as home:
        found = initialise(home)
        found.config_file.write_text(AUDIT)
        yield found


def _run(made: Initialised, count: int = 3) -> None:
    """Serve, open some sessions, and stop."""
    control = Control(load(made.home, {}))
    control.start()
    caller = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
    _open(caller, count)
    caller.close()
    control.stop()


def _open(caller: Caller, count: int) -> None:
    for _ in range(count):
        request = sessions.OpenSessionRequest(subject="s", ceiling=["read:a"])
        caller.call("SessionService/OpenSession", request)


def _verify(made: Initialised, *arguments: object) -> Ran:
    return invoke("--home", made.home, "audit", "verify", "--json", *arguments)


def _faults(ran: Ran) -> set[str]:
    assert ran.code == 1
    return {each["kind"] for each in ran.json["findings"] if not each["note"]}


def _empty(folder: Path) -> None:
    """Remove the streams."""
    for path in folder.glob("*.jsonl"):
        path.unlink()


def _another(folder: Path) -> None:
    """Put the whole log of another service in its place."""
    with home_folder() as home:
        other = initialise(home)
        other.config_file.write_text(AUDIT)
        _run(other)
        shutil.rmtree(folder)
        shutil.copytree(home / "audit", folder)


def _another_that_names_our_key(folder: Path) -> None:
    """The same, with our public key beside the other's."""
    ours = (folder / layout.PUBLIC_FILE).read_text()
    _another(folder)
    with (folder / layout.PUBLIC_FILE).open("a") as file:
        file.write(ours)


def _all_gone(folder: Path) -> None:
    """Remove everything, keys too."""
    shutil.rmtree(folder)
    folder.mkdir(mode=0o750)


GONE: list[tuple[Callable[[Path], None], set[str]]] = [
    (_empty, {"NO_STREAM", "MISSING_STREAM"}),
    (_all_gone, {"NO_STREAM", "MISSING_STREAM"}),
    (_another, {"FOREIGN", "MISSING_STREAM"}),
    (_another_that_names_our_key, {"FOREIGN", "MISSING_STREAM"}),
]


@pytest.mark.parametrize(("damage", "found"), GONE)
def test_a_log_that_is_gone_is_missed(
    made: Initialised, damage: Callable[[Path], None], found: set[str]
) -> None:
    """An emptied log and another's are found, before the next start of the server and after it."""
    _run(made)
    assert (_verify(made).code, _verify(made).json["compared_with_state"]) == (0, True)

    damage(made.home / "audit")

    assert _faults(_verify(made)) == found
    _run(made)
    assert "MISSING_STREAM" in _faults(_verify(made))


def test_a_log_without_a_stream_is_no_success(made: Initialised) -> None:
    """Also where no state folder knows better: exit code 1, and the finding says what it means."""
    _run(made)
    _empty(made.home / "audit")

    ran = invoke("audit", "verify", "--dir", made.home / "audit")

    assert ran.code == 1
    assert "NO_STREAM" in ran.out
    assert "NOT INTACT" in ran.out
    assert "not compared with a state folder" in ran.out
    named = invoke("audit", "verify", "--dir", made.home / "audit", "--state", made.state_dir, "--json")
    assert _faults(named) == {"NO_STREAM", "MISSING_STREAM"}


def test_a_cut_of_the_newest_lines_is_found(made: Initialised) -> None:
    """Lines that were on the disk when the server was killed, and that no checkpoint or stream covers."""
    server = ServerProcess.start(made.home)
    caller = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
    try:
        assert wait_until(lambda: serves(caller)), server.log
        _open(caller, 3)
        kept = made.state_dir / "audit.json"
        assert wait_until(lambda: _register(kept)["count"] >= 6)
    finally:
        server.kill()
        caller.close()
    assert _verify(made).code == 0
    [path] = (made.home / "audit").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    signed = max(n for n, line in enumerate(lines) if b'"kind":"checkpoint"' in line and n < 5)
    path.write_bytes(b"".join(lines[: signed + 1]))

    assert _faults(_verify(made)) == {"TRUNCATED"}


def _register(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"count": 0}
    found: dict[str, Any] = json.loads(path.read_text())["streams"][-1]
    return found


def test_kills_and_a_new_key_are_no_fault(made: Initialised) -> None:
    """A log of servers that were killed, and one that is signed by a new key from now on, are intact."""
    caller = Caller(f"unix:{made.socket}", made.credential_file.read_text().strip())
    for number in range(2):
        server = ServerProcess.start(made.home)
        try:
            assert wait_until(lambda: serves(caller)), server.log
            _open(caller, 3)
            assert _verify(made).code == 0
        finally:
            server.kill()
        if number:
            # Found by the next start at the latest.
            assert _verify(made).code == 0
    caller.close()
    (made.home / "audit" / layout.KEY_FILE).unlink()
    _run(made)

    assert _verify(made).code == 0
    assert len(json.loads((made.state_dir / "audit.json").read_text())["keys"]) == 2


def test_what_was_removed_by_age_is_not_missed(made: Initialised) -> None:
    """Streams that ended before --since may be gone; without it they are missing."""
    _run(made)
    before = {path.name for path in (made.home / "audit").glob("*.jsonl")}
    ended = max(each["at_ms"] for each in json.loads((made.state_dir / "audit.json").read_text())["streams"])
    _run(made)
    for name in before:
        (made.home / "audit" / name).unlink()

    assert _faults(_verify(made)) == {"MISSING_STREAM"}
    since = datetime.fromtimestamp((ended + 1) / 1000, UTC).isoformat()
    assert _verify(made, "--since", since).code == 0
