"""``sessauth doctor``: each fault is produced, found under its id, and nothing is changed by looking."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.util
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from hashlib import blake2b
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sessauth import __version__
from sessauth.clock import FixedClock, SystemClock
from sessauth.model.server_status import ServerStatus
from sessauth.model.session import LOGINS_OWNER
from sessauth.server.config import Config, from_dict, load
from sessauth.server.doctor import examination, folder_checks
from sessauth.server.doctor.finding import SEVERITIES, Finding, Host
from sessauth.server.keys.credentials import CredentialFile
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.server.transport import requirements
from sessauth.state import backup
from sessauth.state.host import brake
from sessauth.state.lmdb.rows import TxnRows
from sessauth.state.writer.state_writer import StateWriter
from tests.support.changes import opening
from tests.support.identity_tokens import public_jwk
from tests.support.issuer import SERVER, Issued
from tests.support.markdown import Document
from tests.support.service import home_folder
from tests.support.tls_pair import CA, SERVER_PAIR
from tests.support.tree import ROOT

# The package reads the state in a process of its own.
pytestmark = pytest.mark.slow

READY: Final = ServerStatus(version=__version__, role="single")
DAY_MS: Final = 86_400_000
# The file of a state has the size of its map, and is copied for each test.
MAP_BYTES: Final = 4 << 20


@dataclass
class Place:
    """A home folder that was initialised, its settings, and what its server would answer."""

    home: Path
    settings: dict[str, Any] = field(default_factory=lambda: {"server": {"map_size_bytes": MAP_BYTES}})
    status: ServerStatus | None = READY
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """The settings."""
        return from_dict({"home": str(self.home), **self.settings})

    def examine(self) -> dict[str, Finding]:
        """Return the findings by id."""
        found = examination.examine(
            lambda: self.config,
            lambda config: dataclasses.replace(Host(config, SystemClock(), self.status), **self.more),
        )
        assert all(each.words and each.remedy for each in found)
        return {each.id: each for each in found}

    def pair(self, issued: Issued) -> None:
        """Serve TCP with a certificate."""
        (self.home / "server.pem").write_bytes(issued.pem)
        (self.home / "server.key").write_bytes(issued.key_pem)
        (self.home / "server.key").chmod(0o600)
        self.settings["tcp"] = {
            "address": "127.0.0.1:0", "certificate": "server.pem", "private_key": "server.key"
        }  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A home that is copied for each test."""
    with home_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSAUTH_SERVER_MAP_SIZE_BYTES", str(MAP_BYTES))
        initialise(folder / "h")
        yield folder / "h"


class ReadHere:
    """Stands in for the process that reads a state: it wrote the same lines, from this one."""

    def __init__(self, command: list[str], **_options: Any) -> None:
        """Read at once."""
        with redirect_stdout(StringIO()) as written:
            backup._main(*command[-2:])
        self.stdout, self.returncode = written.getvalue().splitlines(), 0

    def __enter__(self) -> ReadHere:
        """Return it."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Have nothing to wait for."""


def _read_here(patch: pytest.MonkeyPatch) -> None:
    """Start no process to read a state that cannot end it."""
    patch.setattr(backup, "subprocess", SimpleNamespace(Popen=ReadHere, DEVNULL=None, PIPE=None))
    patch.setattr(backup, "resource", SimpleNamespace(RLIMIT_CORE=0, setrlimit=lambda *_: None))


@pytest.fixture
def place(made: Path) -> Iterator[Place]:
    """A sound home of its own."""
    with home_folder() as folder:
        shutil.copytree(made, folder / "h")
        yield Place(folder / "h")


def _read_settings(place: Place, patch: pytest.MonkeyPatch) -> None:
    (place.home / "sessauth.toml").write_text("[server]\nworker = 1\n")
    patch.setattr(Place, "config", property(lambda self: load(self.home)))


def _brake(place: Place, engage: Callable[[brake.Brake], object]) -> None:
    page = brake.Brake(place.home / "state" / "brake")
    engage(page)
    page.close()


def _suspect(place: Place, **changes: Any) -> None:
    place.status = dataclasses.replace(READY, **changes)


def _follow(place: Place) -> None:
    place.settings["follow"] = {"servers": ["localhost:1"], "credential": "gone", "insecure_tcp": True}


def _hold_lock(place: Place, **more: str) -> Callable[[], None]:
    descriptor = os.open(place.home / "state" / "writer.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    place.status, place.more = None, {"silence": "no answer", **more}
    return lambda: os.close(descriptor)


def _take_address(place: Place) -> Callable[[], None]:
    taken = socket.create_server(("127.0.0.1", 0))
    place.settings["tcp"] = {"address": f"127.0.0.1:{taken.getsockname()[1]}", "insecure_tcp": True}
    place.status = None
    return taken.close


def _long_run_dir(place: Place) -> None:
    place.settings["server"] = {"run_dir": "r" * 120}


def _no_library(place: Place, patch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError("libnghttp2 is not here")

    patch.setattr(requirements, "_load", fail)


def _no_extra(place: Place, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(importlib.util, "find_spec", lambda name: None)
    place.settings["metrics"] = {"address": "127.0.0.1:0"}


def _provider(place: Place, *keys: object) -> None:
    """State an identity provider whose file has these keys."""
    file = place.home / "corp.json"
    file.write_text(json.dumps({"keys": keys}) if keys else "")
    place.settings["identity_providers"] = [
        {
            "name": "corp",
            "issuer": "https://idp.example",
            "clients": ["desk"],
            "jwks_file": "corp.json",
            "grants": [{"ceiling": ["read:**"]}],
        }
    ]


def _other_settings(place: Place) -> None:
    """Have the other server of the cluster answer that it has other providers."""
    place.status = dataclasses.replace(READY, host="server/one", identity_settings="aa")
    others = [ServerStatus(host=f"server/{name}", identity_settings=name) for name in ("aa", "", "bb")]
    place.more["others"] = tuple(others)


def _few_files(place: Place) -> None:
    proc = place.home / "proc"
    (proc / str(os.getpid())).mkdir(parents=True)
    (proc / str(os.getpid()) / "limits").write_text("Max open files            1024       4096       files\n")
    place.more["proc"] = proc


def _many_workers(place: Place) -> None:
    place.settings["server"] = {"workers": 64}
    place.status = None


def _unsynchronised(place: Place, patch: pytest.MonkeyPatch) -> None:
    program = place.home / "bin" / "timedatectl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no\n")
    program.chmod(0o755)
    patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def _orphan(place: Place) -> None:
    with StateWriter.open(place.home / "state", map_size=MAP_BYTES) as log:
        log.submit(opening("one", actor="left")).result(30)


def _fill(patch: pytest.MonkeyPatch, share: float) -> None:
    patch.setattr(TxnRows, "used_bytes", lambda rows, page: int(share * MAP_BYTES))


def _disk(patch: pytest.MonkeyPatch, free: int, least: int = folder_checks.LEAST_DISK_BYTES) -> None:
    real = os.statvfs
    patch.setattr(folder_checks, "LEAST_DISK_BYTES", least)

    def statvfs(path: Any) -> os.statvfs_result:
        found = list(real(path))
        found[0], found[1], found[4] = 1, 1, free
        return os.statvfs_result(found)

    patch.setattr(folder_checks.os, "statvfs", statvfs)


def _backup(place: Place, *, age_days: float = 0, damage: bool = False) -> None:
    folder = place.home / "backups"
    folder.mkdir()
    backup.backup(place.home / "state", folder / "one")
    at = SystemClock().now_ms() / 1000 - age_days * 86_400
    if damage:
        with (folder / "one" / "data.mdb").open("r+b") as file:
            file.seek(20_000)
            file.write(b"x" * 64)
    os.utime(folder / "one" / "manifest.json", (at, at))
    place.more["backups"] = (folder,)


def _audited(place: Place, *, remove: bool = False, cut: bool = False) -> None:
    """Let a server record, then take from the log."""
    place.settings["audit"] = {"enabled": True, "checkpoint_ms": 1_000}
    control = Control(place.config)
    control.start()
    control.stop()
    for file in (place.home / "audit").glob("*.jsonl"):
        if remove:
            file.unlink()
        elif cut:
            file.write_bytes(file.read_bytes()[:-200])
    place.more["deep"] = cut


def _floor(place: Place) -> None:
    place.more["clock"] = FixedClock(SystemClock().now_ms() - DAY_MS)


def _certificate(place: Place, days: tuple[int, int]) -> None:
    place.pair(CA.issue("localhost", usage=SERVER, days=days))


def _other_key(place: Place) -> None:
    place.pair(SERVER_PAIR)
    (place.home / "server.key").write_bytes(CA.issue("other").key_pem)


def _damage_proof_keys(place: Place) -> None:
    file = place.home / "state" / "proof" / "keys"
    file.parent.mkdir(mode=0o750)
    file.write_text("{}")
    file.chmod(0o640)


def _damage_credentials(place: Place) -> None:
    place.config.credentials_file.write_text("[[")


def _remove_keys(place: Place) -> None:
    for file in (place.home / "keys").glob("*.pem"):
        file.unlink()


# By id, what brings the fault about. A function that is returned undoes it.
FAULTS: dict[str, Callable[[Place, pytest.MonkeyPatch], Any]] = {
    "settings": _read_settings,
    "not_examined": lambda place, patch: patch.delattr(examination, "lock_holder"),
    "open_file": lambda place, _: (place.home / "keys").chmod(0o755),
    "folder_unusable": lambda place, _: (place.home / "usage").write_text("in the way"),
    "membership": lambda place, _: _follow(place),
    "host_key": lambda place, _: _follow(place),
    "not_asked": lambda place, _: _hold_lock(place, refusal="the credential is not accepted"),
    "state_unusable": lambda place, _: (place.home / "state" / "data.mdb").write_bytes(b"x" * 9_000),
    "brake": lambda place, _: _brake(place, lambda page: page.engage("set by hand", by_hand=True)),
    "cluster_alarm": lambda place, _: _brake(place, lambda page: page.raise_alarm("FORK: another log")),
    "stale": lambda place, _: _brake(place, lambda page: page.fresh_until(1)),
    "clock_suspect": lambda place, _: _suspect(place, clock_suspect="moved by 90000 ms; set it right"),
    "clock_floor": lambda place, _: _floor(place),
    "clock_unsynchronised": _unsynchronised,
    "map_full": lambda _, patch: _fill(patch, 0.9),
    "map_filling": lambda _, patch: _fill(patch, 0.8),
    "disk_full": lambda _, patch: _disk(patch, 1 << 20),
    "disk_small": lambda _, patch: _disk(patch, MAP_BYTES // 2, least=1),
    "not_running": lambda place, _: setattr(place, "status", None),
    "not_answering": lambda place, _: _hold_lock(place),
    "not_ready": lambda place, _: _suspect(place, not_ready="no active issuer key"),
    "workers_down": lambda place, _: _suspect(place, workers=2, ready_workers=1),
    "other_version": lambda place, _: _suspect(place, version="0.0.1"),
    "address_taken": lambda place, _: _take_address(place),
    "socket_path": lambda place, _: _long_run_dir(place),
    "missing_library": _no_library,
    "missing_extra": _no_extra,
    "identity_keys": lambda place, _: _provider(place),
    "identity_key_dropped": lambda place, _: _provider(place, {"kty": "oct"}),
    "identity_settings": lambda place, _: _other_settings(place),
    "event_stream_silent": lambda place, _: place.more.update(silent_streams=("corp",)),
    "open_files_limit": lambda place, _: _few_files(place),
    "few_cores": lambda place, _: _many_workers(place),
    "proof_keys": lambda place, _: _damage_proof_keys(place),
    "issuer_key": lambda place, _: _remove_keys(place),
    "credentials": lambda place, _: _damage_credentials(place),
    "no_operator": lambda place, _: CredentialFile(place.config.credentials_file).remove("operator"),
    "orphaned_sessions": lambda place, _: _orphan(place),
    "certificate_unusable": lambda place, _: _other_key(place),
    "certificate_expired": lambda place, _: _certificate(place, (-5, -1)),
    "certificate_ends": lambda place, _: _certificate(place, (-5, 10)),
    "audit_fault": lambda place, _: _suspect(place, audit_fault="the disk is full"),
    "audit_missing": lambda place, _: _audited(place, remove=True),
    "audit_damaged": lambda place, _: _audited(place, cut=True),
    "backup_missing": lambda place, _: place.more.update(backups=(place.home / "run",)),
    "backup_old": lambda place, _: _backup(place, age_days=2),
    "backup_unusable": lambda place, _: _backup(place, damage=True),
}


def _content(folder: Path) -> dict[str, tuple[int, str]]:
    """Return mode and digest of each file. LMDB's table of readers is written by every reader."""
    return {
        str(path): (path.stat().st_mode, blake2b(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if stat.S_ISREG(path.lstat().st_mode) and path.name != "lock.mdb"
    }


def test_a_sound_host_has_no_findings(place: Place) -> None:
    """Neither at a glance nor deep, with a backup of today."""
    _backup(place)
    assert place.examine() == {}
    place.more["deep"] = True
    assert place.examine() == {}


def test_a_login_is_no_orphan_while_its_provider_is_in_the_settings(place: Place) -> None:
    """The owner of a login's session is no caller."""
    with StateWriter.open(place.home / "state", map_size=MAP_BYTES) as log:
        log.submit(opening("one", actor="operator", owner=LOGINS_OWNER)).result(30)
    assert "orphaned_sessions" in place.examine()

    (place.home / "corp.json").write_text(json.dumps({"keys": [public_jwk("ES256")]}))
    entry = {"name": "corp", "issuer": "https://idp.example", "clients": ["desk"], "jwks_file": "corp.json"}
    place.settings["identity_providers"] = [{**entry, "grants": [{"ceiling": ["read:files/**"]}]}]

    assert place.examine() == {}


# LMDB may end a process that reads these.
DAMAGED: Final = {"state_unusable", "backup_unusable"}


@pytest.mark.parametrize("fault", SEVERITIES)
def test_a_fault_is_found_and_nothing_is_changed(
    fault: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault has its id, a sentence and a remedy; every file stays as it was."""
    if fault not in DAMAGED:
        _read_here(monkeypatch)
    undo = FAULTS[fault](place, monkeypatch)
    before = _content(place.home)
    try:
        found = place.examine()
    finally:
        if callable(undo):
            undo()

    assert fault in found
    assert _content(place.home) == before
    # A fault is not reported as many others.
    assert len(found) <= 2, found


# Files that no examination opens: it asks no server, signs nothing, and takes no lock of another's.
NOT_OPENED = {
    *("operator.credential", "audit.key", "audit.pub", "arguments.key", "changes.position"),
    *("credentials.lock", "writer.lock", "local.json", "since"),
}


@pytest.mark.timeout(60)
def test_a_pipe_in_the_place_of_a_file_is_found_and_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any file of the home, of its backup and of its audit may be one: the examination ends."""
    _read_here(monkeypatch)
    _audited(place, cut=True)
    _backup(place)
    place.pair(SERVER_PAIR)
    (place.home / "sessauth.toml").write_text(
        f"server.map_size_bytes = {MAP_BYTES}\naudit.enabled = true\n"
        "tcp = { address = '127.0.0.1:0', certificate = 'server.pem', private_key = 'server.key' }\n"
    )
    monkeypatch.setattr(Place, "config", property(lambda self: load(self.home)))
    before = place.examine()
    files = [
        path for path in place.home.rglob("*") if path.is_file() and not path.name.startswith("request-")
    ]
    assert len(files) > 20
    found = {}
    for file in files:
        aside = file.rename(place.home / "aside")
        os.mkfifo(file, stat.S_IMODE(aside.stat().st_mode))
        found[file.name] = place.examine().keys() - before.keys()
        file.unlink()
        aside.rename(file)

    assert {name for name, ids in found.items() if not ids} <= NOT_OPENED


@pytest.mark.timeout(60)
def test_a_pipe_in_the_place_of_a_followers_credential(place: Place) -> None:
    """It is the fault of the host's key, and nobody waits for it."""
    _follow(place)
    os.mkfifo(place.home / "gone", 0o600)

    assert "no plain file" in place.examine()["host_key"].words


def test_workers_are_those_of_the_server_that_runs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command line may have stated them; settings that lack them count for a server that is to start."""
    _read_here(monkeypatch)
    place.settings["tcp"] = {"check_address": "127.0.0.1:0", "insecure_tcp": True}
    (place.home / "run" / "check-1.sock").write_text("in the way")
    _suspect(place, workers=2, ready_workers=2)
    running = place.examine()
    _suspect(place, workers=64, ready_workers=64)
    many = place.examine()
    place.status = None
    stopped = place.examine()

    assert running.keys() == {"folder_unusable"} and "check-1.sock" in running["folder_unusable"].words
    assert "64 workers share" in many["few_cores"].words
    assert stopped.keys() == {"not_running", "settings"} and "workers" in stopped["settings"].words


def test_the_page_lists_every_finding() -> None:
    """The severities are those of the table."""
    page = Document(ROOT / "docs" / "operations" / "diagnosis.md")
    rows = [line.split("|") for line in page.sections(2)["Doctor"].splitlines() if line.startswith("| `")]

    assert {row[1].strip().strip("`"): row[2].strip() for row in rows} == dict(SEVERITIES)


def test_the_remedy_of_lost_workers_names_what_the_log_has(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event of a worker that is gone by itself, a silent one among them, and no other."""
    _read_here(monkeypatch)
    _suspect(place, workers=2, ready_workers=1)
    logged = {
        event
        for name in ("supervisor.py", "worker.py")
        for text in [(ROOT / "sessauth" / "server" / "process" / name).read_text(encoding="utf-8")]
        for event in re.findall(r'logging\.ERROR, "(worker_\w+)"', text)
    }

    assert set(re.findall(r"worker_\w+", place.examine()["workers_down"].remedy)) == logged - {
        "worker_did_not_drain"
    }


def test_the_remedy_of_a_brake_is_by_its_holds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thawed is a freeze alone, by whoever may: not a failed write, whose cause is to be removed first."""
    _read_here(monkeypatch)
    _brake(place, lambda page: page.engage("the disk"))
    failed = place.examine()["brake"].remedy
    _brake(place, lambda page: page.set_for_cluster("cluster frozen by desk"))
    both = place.examine()["brake"].remedy
    _brake(place, lambda page: page.engage("frozen by hand", by_hand=True))
    all_three = place.examine()["brake"].remedy

    assert "thaw" not in failed and "start the server again" in failed
    assert failed in both and "'sessauth thaw' at a server" in both and "--this-host" not in both
    assert both.partition("; ")[2] in all_three and "'sessauth thaw --this-host'" in all_three


def test_a_backup_that_only_looks_like_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups of another service, of a time to come, and with a manifest that is none."""
    _read_here(monkeypatch)
    _backup(place, age_days=-2)
    ahead = place.examine()["backup_old"]
    initialise(place.home / "other")
    shutil.rmtree(place.home / "backups" / "one")
    backup.backup(place.home / "other" / "state", place.home / "backups" / "one")
    foreign = place.examine()["backup_unusable"]
    manifest = place.home / "backups" / "one" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": "1"}))
    wrong = place.examine()["backup_unusable"]

    assert "ahead of the clock" in ahead.words
    assert "belongs to another service" in foreign.words
    assert "format: is no int" in wrong.words


def test_a_user_that_can_not_read_is_told_to_be_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that it may not read would be a finding of its own."""
    monkeypatch.setattr(examination.os, "geteuid", lambda: 4_000_000_000)
    (found,) = place.examine().values()
    assert found.id == "not_examined" and "root" in found.remedy


def test_no_lock_is_taken(place: Place) -> None:
    """The holder is read from the kernel's table."""
    undo = _hold_lock(place)
    assert examination.lock_holder(place.home / "state") == os.getpid()
    undo()
    assert examination.lock_holder(place.home / "state") == 0
    assert examination.lock_holder(place.home / "none") == 0


def test_the_keys_of_a_transmitter_are_examined_too(place: Place) -> None:
    """Its events end logins, so they are as needful as the provider's; the finding names it."""
    _provider(place, public_jwk("RS256"))
    place.settings["identity_providers"][0]["events_jwks_file"] = "events.json"
    missing = place.examine()["identity_keys"]
    (place.home / "events.json").write_text(json.dumps({"keys": [public_jwk("weak")]}))
    weak = place.examine()["identity_key_dropped"]
    (place.home / "events.json").write_text(json.dumps({"keys": [public_jwk("RS256")]}))

    assert "corp.events" in missing.words and "events.json" in missing.words
    assert "corp.events" in weak.words and "2048" in weak.words
    assert not {"identity_keys", "identity_key_dropped"} & place.examine().keys()
