"""The group of a state folder: all that is made in it carries it, and who is not in it hears what to type."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessauth.state import layout
from tests.vectors.cases_proofs import bound
from tests.vectors.world import AUDIENCE, NOW, token

SERVICE, GATEWAY, STRANGER = 4301, 4302, 4303
GROUP = 5151

# Everything is loaded before: another user may not see the folder that it is loaded from.
_PRELUDE = """
import os, sys
import lmdb._envid
import sessauth.server.keys.credentials, sessauth.server.keys.issuer_keyring
import sessauth.audit.recording.process
from sessauth.errors import StateUnusable
from sessauth.state.writer.state_writer import StateWriter
from sessauth.state.lmdb.reader import StateReader
from sessauth.verifier.verifier import Verifier
os.umask({umask})
os.setgroups({groups}); os.setgid({user}); os.setuid({user})
folder = sys.argv[1]
"""


def _command(script: str, folder: Path, user: int, groups: list[int], umask: int) -> list[str]:
    prelude = _PRELUDE.format(user=user, groups=groups, umask=umask)
    return [sys.executable, "-c", prelude + script, str(folder)]


def run_as(script: str, folder: Path, user: int, groups: list[int], umask: int = 0o022) -> str:
    """Run a script as a user, whose own group has the same number, of some groups; returns its output."""
    command = _command(script, folder, user, groups, umask)
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class LineProcess:
    """A process that answers each line on its stdin with a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wrap ``process``."""
        self._process = process

    def ask(self, line: str) -> str:
        """Write a line, and return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()


@contextmanager
def line_process(
    script: str, folder: Path, user: int, groups: list[int], umask: int = 0o022
) -> Iterator[LineProcess]:
    """Run a script as ``run_as`` does, for as long as the context lasts."""
    command = _command(script, folder, user, groups, umask)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield LineProcess(process)
        finally:
            process.kill()


def give_to_group(folder: Path, group: int = GROUP) -> None:
    """``chgrp -R group folder``."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group)


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

CREATE = "StateWriter.open(folder, create=True, map_size=8 << 20).close()"
MODES = {
    layout.DATA_FILE: 0o640,
    layout.LOCK_FILE: 0o660,
    layout.BRAKE_FILE: 0o640,
    layout.OWNER_FILE: 0o640,
    layout.PROOF_DIR: 0o750,
    f"{layout.PROOF_DIR}/{layout.PROOF_KEYS_FILE}": 0o640,
    f"{layout.PROOF_DIR}/{layout.REPLAY_FILE}": 0o660,
    "credentials.toml": 0o640,
}

# The control process's part: keys that it makes and rotates, a replay table of a new size, a credential.
SERVE = f"""
from pathlib import Path
from sessauth.clock import FixedClock
from sessauth.server.sections import ProofSettings
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.keys.issuer_keyring import ProofKeyRotator
from sessauth.server.keys.issuer_keyring import KeyRing
clock = FixedClock({NOW})
log = StateWriter.open(folder, clock=clock)
slots = 256
(Path(folder).parent / "keys").mkdir(mode=0o700)
keyring = KeyRing(Path(folder).parent / "keys")
for line in sys.stdin:
    if line == "rotate\\n":
        clock.advance(300_000)
    elif line == "resize\\n":
        slots *= 2
    elif line == "credential\\n":
        CredentialFile(Path(folder) / "credentials.toml").add("gw", "gateway")
    settings = ProofSettings(key_lifetime_ms=600_000, replay_slots=slots)
    ProofKeyRotator(Path(folder), log, keyring.sign_proof_key, settings).rotate()
    print("done", flush=True)
"""
# A gateway that judges a bound token with a proof that proves nothing: with keys it says so.
CHECK = f"""
import time
from sessauth._fast._check import Checker
verifier = Verifier.embedded(folder, audience="{AUDIENCE}")
for line in sys.stdin:
    time.sleep(0.3)  # longer than it goes on without a look at the files
    asked = bytes.fromhex("{token(bound()).hex()}"), "read", "files/a.txt"
    print(Checker._check(verifier, *asked, now_ms=int(line), proof=b"none").reason, flush=True)
"""
OPEN = """
for line in sys.stdin:
    try:
        Verifier.embedded(folder, audience="gw").close()
        print("opened", flush=True)
    except StateUnusable as error:
        print(error.problem, error, flush=True)
"""
OPEN_WRITING = OPEN.replace('Verifier.embedded(folder, audience="gw")', "StateWriter.open(folder)")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state folder that the service's user made, in a folder that all may search."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        os.chown(name, SERVICE, SERVICE)
        state = Path(name) / "state"
        run_as(CREATE, state, SERVICE, [GROUP])
        yield state


def state_of(folder: Path) -> None:
    """Have the vectors' session and issuer in the state."""
    script = """
from pathlib import Path
from tests.support.state_fixture import StateFixture
StateFixture(Path(folder)).close()
"""
    run_as("sys.path.insert(0, '.')" + script, folder, SERVICE, [GROUP])


def groups(folder: Path) -> dict[str, int]:
    """The group of everything in the folder that is not in the folder's own."""
    group = folder.stat().st_gid
    found = {str(path.relative_to(folder)): path.stat().st_gid for path in folder.rglob("*")}
    return {name: theirs for name, theirs in found.items() if theirs != group}


def test_a_gateway_of_the_folders_group_goes_on_while_files_are_made(folder: Path) -> None:
    """A start, new proof keys, a new table, a new credential: all have group and mode, whatever the umask."""
    state_of(folder)
    give_to_group(folder)
    with line_process(SERVE, folder, SERVICE, [GROUP], umask=0o077) as service:
        assert service.ask("start") == "done"
        with line_process(CHECK, folder, GATEWAY, [GROUP]) as gateway:
            assert gateway.ask(str(NOW)) == "BAD_PROOF"
            for change in ("rotate", "resize", "credential"):
                assert service.ask(change) == "done"
                assert gateway.ask(str(NOW + 300_000)) == "BAD_PROOF"
        assert groups(folder) == {}
        assert {name: stat.S_IMODE((folder / name).stat().st_mode) for name in MODES} == MODES


def test_a_start_gives_the_group_to_what_lacks_it(folder: Path) -> None:
    """The next start after chgrp of the folder alone sets the group of its files, in proof/ too."""
    with line_process(SERVE, folder, SERVICE, [GROUP]) as service:
        assert service.ask("start") == "done"
    os.chown(folder, -1, GROUP)
    assert len(groups(folder)) == 9
    run_as("StateWriter.open(folder).close()", folder, SERVICE, [GROUP])
    assert groups(folder) == {}
    with line_process(OPEN, folder, GATEWAY, [GROUP]) as gateway:
        assert gateway.ask("open") == "opened"


def test_a_service_outside_the_group_does_not_start(folder: Path) -> None:
    """It could not give its files to the group, and says how it is let in; nothing is changed."""
    give_to_group(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with line_process(OPEN_WRITING, folder, SERVICE, []) as service:
        told = service.ask("open")
    assert told.startswith("WRONG_GROUP") and f"usermod -aG {GROUP} {SERVICE}" in told
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_gateway_outside_the_group_hears_how_it_gets_in(folder: Path) -> None:
    """The error names the folder, the first path that it can't use."""
    give_to_group(folder)
    with line_process(OPEN, folder, STRANGER, []) as gateway:
        told = gateway.ask("open")
    assert told.startswith("WRONG_GROUP") and f"usermod -aG {GROUP} {STRANGER}" in told


def test_a_file_that_is_closed_is_named(folder: Path) -> None:
    """The message for an unreadable file has the command that fixes its group or its mode."""
    with line_process(SERVE, folder, SERVICE, [GROUP]) as service:
        assert service.ask("credential") == "done"
    give_to_group(folder)
    with line_process(OPEN, folder, GATEWAY, [GROUP]) as gateway:
        for name, mode in MODES.items():
            path = folder / name
            os.chown(path, -1, SERVICE)
            told = gateway.ask("open")
            if name == "credentials.toml":
                assert told == "opened"
                continue
            assert told.startswith("WRONG_GROUP") and f"run chgrp -R {GROUP} {folder}" in told
            assert str(path) in told
            os.chown(path, -1, GROUP)
            path.chmod(mode & 0o700)
            bits = "rw" if mode == 0o660 else "rx" if path.is_dir() else "r"
            told = gateway.ask("open")
            assert told.startswith("WRONG_MODE") and told.endswith(f"chmod g+{bits} {path}")
            path.chmod(mode)
        assert gateway.ask("open") == "opened"


def test_a_new_folder_has_a_group_of_its_makers(folder: Path) -> None:
    """Below a folder that hands down a group of others, a new state folder is the maker's own."""
    os.chown(folder.parent, SERVICE, GROUP)
    folder.parent.chmod(0o2755)
    made = folder.parent / "other"
    run_as(CREATE, made, SERVICE, [])
    assert made.stat().st_gid == SERVICE and groups(made) == {}
    made = folder.parent / "shared"
    run_as(CREATE, made, SERVICE, [GROUP])
    assert made.stat().st_gid == GROUP and groups(made) == {}
