"""Gateways that fork: what a child inherits denies and says why, and it opens its own; the parent goes on."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessauth.audit.verify.verify import verify
from sessauth.client import Client
from tests.support.markdown import Document
from tests.support.service import Service, running, wait_until
from tests.support.tree import ROOT

PAGE = Document(ROOT / "docs" / "how-to" / "web-servers.md")
SAYS = "was opened before this process was forked"
# A worker that is told to end before it said so is killed by gunicorn half a minute later.
READY = """

def post_worker_init(worker):
    worker.log.info("takes calls")
"""
PRELUDE = """
import gc, multiprocessing, os, sys, warnings
from pathlib import Path
from sessauth import Verifier
warnings.simplefilter("ignore")
state, token = Path(os.environ["SESSAUTH_HOME"], "state"), os.environ["TOKEN"]
def opened(**options):
    return Verifier.embedded(state, audience="gateway", **options)
def check(verifier):
    return verifier.check(token, "read", "files/a")
"""


@dataclass
class GatewayHost:
    """A running service with a session, and a token of it for gateways."""

    service: Service
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a gateway."""
        home = str(self.service.made.home)
        return {**os.environ, "SESSAUTH_HOME": home, "TOKEN": self.token, "PYTHONPATH": str(ROOT)}

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script behind the prelude; it must end well."""
        command = [sys.executable, "-c", PRELUDE + script]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def host() -> Iterator[GatewayHost]:
    """One service for all tests here."""
    with running() as service, Client(str(service.made.socket)) as client:
        session = client.open_session(subject="agent", ceiling=["read:files/**"])
        yield GatewayHost(service, client.mint(session.id, ["read:files/**"], ["gateway"]).text)


def test_an_inherited_verifier_says_what_is_wrong(host: GatewayHost) -> None:
    """Each entry point denies and explains it in the child, pickled or not, and one line is logged."""
    done = host.run("""
verifier = opened()
assert check(verifier) and not verifier.inherited
def child(queue):
    for each in (check(verifier), check(verifier), *verifier.check_batch([(token, "read", "files/a")])):
        queue.put((bool(each), str(each.reason), each.explain(), each, verifier.inherited))
    queue.put(verifier.list_allowed(token, [("read", "files/a")]).reason)
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=child, args=(queue,))
process.start()
for allowed, reason, told, decision, inherited in [queue.get() for _ in range(3)]:
    assert not allowed and reason == "INTERNAL_ERROR" and inherited and not decision
    assert decision.explain() == told
    print(told)
assert queue.get().name == "INTERNAL_ERROR"
process.join()
assert check(verifier)
""")
    assert done.stdout.count(SAYS) == 3 and "open the verifier again" in done.stdout
    assert done.stderr.count(SAYS) == 1


@pytest.mark.parametrize("closes", ["first", "last", "never"])
def test_a_child_opens_its_own(host: GatewayHost, closes: str) -> None:
    """It judges by it, before and after the inherited one is closed; what both held is freed in neither."""
    done = host.run(f"""
closes = {closes!r}
verifier = opened()
assert check(verifier)
verifier._owned.begin().abort()
slots = verifier._owned.env.readers()
if (pid := os.fork()) == 0:
    if closes == "first":
        verifier.close()
    own = opened()
    assert check(own) and not check(verifier)
    if closes == "last":
        verifier.close()
    del verifier
    gc.collect()
    held = [os.readlink(f"/proc/self/fd/{{each}}") for each in os.listdir("/proc/self/fd") if each.isdigit()
            and os.path.exists(f"/proc/self/fd/{{each}}")]
    assert held.count(str(state / "lock.mdb")) == 2, held
    assert check(own)
    if os.fork() == 0:
        assert not check(own)
        assert check(opened())
        sys.exit(0)
    assert os.wait()[1] == 0
    assert check(own)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert verifier._owned.env.readers() == slots
verifier._owned.begin().abort()
print(check(verifier).reason)
""")
    assert done.stdout == "ALLOWED\n"


def test_a_child_by_spawn_opens_its_own(host: GatewayHost, tmp_path: Path) -> None:
    """Nothing is inherited there; the parent's stays open beside it."""
    script = tmp_path / "spawned.py"
    script.write_text(
        PRELUDE
        + """
def child(_):
    with opened() as own:
        return check(own)
if __name__ == "__main__":
    with opened() as verifier, multiprocessing.get_context("spawn").Pool(2) as pool:
        assert all(pool.map(child, range(2))) and check(verifier)
"""
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=host.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_child_leaves_stream_and_enrolment_to_the_parent(host: GatewayHost, tmp_path: Path) -> None:
    """A close in the child ends neither the parent's audit stream nor its registration."""
    credential = tmp_path / "gateway.credential"
    caller = host.service.add("gw", "gateway")
    credential.write_text(caller.credential)
    credential.chmod(0o600)
    host.run(f"""
from sessauth.audit.write.stream import AuditOptions
verifier = opened(
    server=str(state.parent / "run" / "sessauth.sock"), credential_file=Path({str(credential)!r}),
    register_as="forking", report_usage=True, audit=AuditOptions(dir={str(tmp_path / "audit")!r}),
)
assert check(verifier)
if (pid := os.fork()) == 0:
    assert not check(verifier)
    verifier.close()
    own = opened(audit=AuditOptions(dir={str(tmp_path / "audit")!r}))
    assert check(own)
    own.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert verifier.registered and check(verifier)
import sessauth.client
with sessauth.client.Client(str(state.parent / "run" / "sessauth.sock")) as client:
    assert "forking" in [each.name for each in client.list_verifiers()]
verifier.close()
""")
    report = verify(tmp_path / "audit")
    assert not report.findings


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def answer(path: Path, token: str) -> tuple[int, str]:
    """Ask a web server that listens at ``path`` whether a file may be read."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/files/a", headers={"Authorization": f"Bearer {token}"})
        got = connection.getresponse()
        return got.status, got.read().decode()
    finally:
        connection.close()


@contextmanager
def served(host: GatewayHost, folder: Path, *command: str) -> Iterator[Path]:
    """A web server that runs the page's modules in ``folder``; gives its socket."""
    name = command[0]
    if shutil.which(name, path=str(Path(sys.executable).parent)) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")
    for block in PAGE.blocks("python"):
        title = block.splitlines()[0].removeprefix("# ")
        if title.endswith(".py") and not (folder / title).exists():
            (folder / title).write_text(block)
    path = Path(host.service.made.home) / f"{name}.sock"
    path.unlink(missing_ok=True)
    line = [str(Path(sys.executable).parent / name), *(part.format(socket=path) for part in command[1:])]
    environment = {**host.environment, "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(line, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        assert wait_until(lambda: path.exists() and process.poll() is None), (folder / "log").read_text()
        yield path
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def test_gunicorn_with_preload_as_the_page_says(host: GatewayHost, tmp_path: Path) -> None:
    """The page's two files, run: both workers allow by verifiers of their own, and end well."""
    settings = next(block for block in PAGE.blocks("python") if block.startswith("# gunicorn.conf.py"))
    (tmp_path / "gunicorn.conf.py").write_text(settings + READY)
    with served(host, tmp_path, "gunicorn", "--bind", "unix:{socket}", "app:app") as path:
        assert wait_until(lambda: (tmp_path / "log").read_text().count("takes calls") == 2)
        for _ in range(8):
            assert answer(path, host.token)[0] == 200
        assert answer(path, "none")[0] == 403
    log = (tmp_path / "log").read_text()
    assert SAYS not in log and "Traceback" not in log


def test_gunicorn_with_a_verifier_of_before_the_fork(host: GatewayHost, tmp_path: Path) -> None:
    """Opened at import under --preload, it denies in each worker; answer and log say what to do."""
    app = next(block for block in PAGE.blocks("python") if block.startswith("# app.py"))
    (tmp_path / "app.py").write_text(f"{app}\nopen_verifier()\n")
    (tmp_path / "gunicorn.conf.py").write_text(READY)
    with served(host, tmp_path, "gunicorn", "--preload", "--bind", "unix:{socket}", "app:app") as path:
        assert wait_until(lambda: "takes calls" in (tmp_path / "log").read_text())
        status, told = answer(path, host.token)
        assert status == 403 and SAYS in told and "open the verifier again" in told
        answer(path, host.token)
    assert (tmp_path / "log").read_text().count(SAYS) == 1


def test_uvicorn_with_workers_as_the_page_says(host: GatewayHost, tmp_path: Path) -> None:
    """The page's module, imported by each worker, allows."""
    command = ("uvicorn", "--workers", "2", "--uds", "{socket}", "asgi:app")
    with served(host, tmp_path, *command) as path:
        assert wait_until(lambda: (tmp_path / "log").read_text().count("startup complete") == 2)
        assert [answer(path, host.token)[0] for _ in range(4)] == [200] * 4
        assert answer(path, "none")[0] == 403
