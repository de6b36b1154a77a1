"""LocalService and its pytest fixture: a real server for one program, which leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sessauth.client import Client
from sessauth.errors import NotFound, Unavailable, UsageError
from sessauth.reasons import Reason
from sessauth.testing import LocalService
from tests.support.newcomer import fresh_home
from tests.support.service import child_pids, wait_until

pytestmark = pytest.mark.slow
pytest_plugins = ["pytester"]

# Prints the folder of a service, whose server a thread started that has ended, and the id of a child that was
# forked. That one leaves the block too, and lives on.
PARENT = """
import os, threading, time
from sessauth.testing import LocalService

service = LocalService({"server": {"workers": 1}})
starter = threading.Thread(target=service.__enter__)
starter.start()
starter.join()
reader, writer = os.pipe()
forked = os.fork()
if not forked:
    service.__exit__()
    os.write(writer, b"left")
    # Else a reader of the output would wait for this process too.
    os.close(1)
    time.sleep(600)
os.read(reader, 4)
service.client.list_keys()
assert (service.home / "state").exists()
print(service.home, forked, flush=True)
time.sleep(600)
"""

# A service that is used in an environment full of settings.
USER = """
from sessauth.testing import LocalService

with LocalService() as service, service.verifier("gateway") as gateway:
    with service.client.session(subject="agent", ceiling=["read:docs/*"]) as session:
        token = session.mint(["read:docs/*"], audience=["gateway"])
        print(gateway.check(token, "read", "docs/plan").reason.name)
    print(gateway.check(token, "read", "docs/plan").reason.name)
"""


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_it_is_ready_when_entered_and_gone_when_left() -> None:
    """Calls are answered at once, on a socket in a private folder; then neither child nor folder is left."""
    before = child_pids(os.getpid())
    with LocalService({"server": {"workers": 2}}) as service, service.verifier("gateway") as gateway:
        (server,) = set(child_pids(os.getpid())) - set(before)
        home, log = service.home, (service.home / "server.log").read_text()
        with service.client.session(subject="agent", ceiling=["read:docs/*"]) as session:
            token = session.mint(["read:docs/*"], audience=["gateway"])
            assert service.client.check(token, "read", "docs/plan", audience="gateway")
            assert gateway.check(token, "read", "docs/plan")
        assert gateway.check(token, "read", "docs/plan").reason is Reason.SESSION_ENDED
        with Client(service.target, credential_file=service.credential_file) as other:
            assert other.get_session(session.id).purpose == ""

    assert log.count('"worker_ready"') == 2 and '"tcp_port": 0' in log
    assert not Path(f"/proc/{server}").exists()
    assert not home.exists()


def test_its_folder_is_private_and_short() -> None:
    """The folder is its user's alone, and TMPDIR does not make the socket's path too long."""
    with pytest.MonkeyPatch.context() as patch, fresh_home() as long:
        patch.setenv("TMPDIR", str(long / ("x" * 200)))
        with LocalService() as service:
            assert service.home.stat().st_mode & 0o777 == 0o700
            assert len(service.target) < 60


def test_one_that_runs_is_not_entered_again() -> None:
    """A second entry is refused, and the first one's server goes on; left, it may be entered again."""
    service = LocalService()
    with service:
        with pytest.raises(UsageError):
            service.__enter__()
        first = service.client.list_keys()
    with service:
        assert service.client.list_keys() != first


def test_two_at_once_do_not_meet() -> None:
    """Services that threads start together have folders and sessions of their own."""
    services = [LocalService(), LocalService()]
    with ThreadPoolExecutor(2) as pool:
        pool.submit(services[0].__enter__), pool.submit(services[1].__enter__)
    try:
        opened = [each.client.open_session(subject="agent", ceiling=["read:*"]).id for each in services]
        assert services[0].home != services[1].home
        for service, own, other in zip(services, opened, reversed(opened), strict=True):
            assert service.client.get_session(own)
            with pytest.raises(NotFound):
                service.client.get_session(other)
    finally:
        for each in services:
            each.__exit__()


def test_it_works_below_a_running_event_loop() -> None:
    """A notebook's cell runs in an event loop, without a terminal."""

    async def cell() -> bytes:
        with LocalService() as service:
            return service.client.open_session(subject="agent", ceiling=["read:*"]).id

    assert len(asyncio.run(cell())) == 16


def test_kill_9_of_the_parent_ends_it() -> None:
    """Server, worker and folder go, though the thread that started them has ended and a fork lives on."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        folder, forked = parent.stdout.readline().split()
        servers = [pid for pid in child_pids(parent.pid) if pid != int(forked)]
        try:
            (workers,) = [child_pids(pid) for pid in servers]
            assert len(workers) == 1
            assert all(map(_is_running, [*servers, *workers]))
            parent.kill()

            assert wait_until(lambda: not any(map(_is_running, [*servers, *workers])))
            assert wait_until(lambda: not Path(folder).exists())
            assert _is_running(int(forked))
        finally:
            parent.kill()
            os.kill(int(forked), signal.SIGKILL)


def test_it_reads_nothing_of_its_user(tmp_path: Path) -> None:
    """Home, settings and variables of the user, and the program's service manager, have no effect."""
    with fresh_home() as home, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(home / "manager"))
        manager.setblocking(False)
        garbage = home / ".local" / "state" / "sessauth"
        garbage.mkdir(parents=True)
        (garbage / "sessauth.toml").write_text("garbage")
        stated = {
            "HOME": str(home),
            "NOTIFY_SOCKET": str(home / "manager"),
            "SESSAUTH_HOME": str(garbage),
            "SESSAUTH_TARGET": "garbage",
            "SESSAUTH_CREDENTIAL_FILE": "/no/such/file",
            "SESSAUTH_SERVER_WORKERS": "garbage",
            "SESSAUTH_SERVER_STATE_DIR": str(home / "state"),
            "SESSAUTH_GARBAGE_WORKERS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", USER],
            env={**os.environ, **stated},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )

        assert done.stdout.split() == ["ALLOWED", "SESSION_ENDED"], done.stderr
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        assert {path.name for path in home.iterdir()} == {".local", "manager"}
        assert [path.name for path in garbage.iterdir()] == ["sessauth.toml"]
    assert [*tmp_path.iterdir()] == []


def test_a_failed_start_says_why() -> None:
    """The error has the last line of the server's log, and nothing is left."""
    before = child_pids(os.getpid())
    service = LocalService({"server": {"wrokers": 1}})

    with pytest.raises(Unavailable, match=r"did not start: .*server\.wrokers: no such key; known: .*workers"):
        service.__enter__()

    assert child_pids(os.getpid()) == before
    assert not service.home.exists()


TWO_TESTS = """
import pytest

@pytest.mark.parametrize("name", ["one", "two"])
def test_sees_its_own_sessions_alone(sessauth_service, name):
    client = sessauth_service.client
    client.open_session(subject=f"agent:{name}", ceiling=["read:*"])
    assert [each.subject for each in client.list_sessions().sessions] == [f"agent:{name}"]
"""


def test_the_fixture_gives_each_test_a_server(pytester: pytest.Pytester) -> None:
    """A user's test has `sessauth_service` without an import, and sees no session of another test."""
    pytester.makepyfile(TWO_TESTS)

    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_a_run_without_the_package_is_not_disturbed(pytester: pytest.Pytester) -> None:
    """Without an importable sessauth pytest runs, and only a test that wants the fixture has an error."""
    pytester.makepyfile("def test_other():\n    pass\n\ndef test_wants_it(sessauth_service):\n    pass\n")
    program = "import sys, pytest; sys.modules['sessauth'] = None; sys.exit(pytest.main(['-v']))"

    done = pytester.run(sys.executable, "-c", program)

    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*No*sessauth*", "*1 passed, 1 error*"])


def test_a_run_that_does_not_ask_loads_nothing(pytester: pytest.Pytester) -> None:
    """The module of the fixture is loaded by its entry point, and nothing of the package."""
    pytester.makepyfile(
        "import sys\n\ndef test_other():\n"
        "    assert 'sessauth_pytest' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.split('.')[0] == 'sessauth']\n"
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1)
