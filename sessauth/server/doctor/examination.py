"""The whole examination of a host. It changes nothing.

The checks here are of the server's process and its machine (does it run, and does it have the resources that
it needs), and of the places beside the state that the server writes to (can it write there, and is anything
else there). ``folder_checks.py`` has the checks of the state folder.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Final

from ... import __version__
from ...errors import ConfigError, StateError
from ...model.server_status import ServerStatus
from ...state import layout
from ...state.backup import FOLDER, WHOLE, read_apart
from ..config import Config
from ..identity.key_sets import fetch_keys
from ..identity.providers import IdentityProvider
from ..keys import local_files
from ..sections import EDDSA, host_and_port
from ..transport.native import MAX_SOCKET_PATH_BYTES, bind_problem
from ..transport.requirements import require_libraries
from . import folder_checks
from .finding import ERROR, Finding, Host, of_error

# Connections, streams and files of the state: a default of 1024 is soon full.
LEAST_OPEN_FILES: Final = 4_096
_ANY: Final = frozenset({"0.0.0.0", "::"})
_TIMEDATECTL: Final = ("timedatectl", "show", "--property", "NTPSynchronized", "--value")


def find_in_process(host: Host) -> Iterator[Finding]:
    """Yield the findings."""
    holder = lock_holder(host.config.state_dir, host.proc)
    if host.status is not None:
        yield from _running(host.status)
    elif holder and host.refusal:
        yield Finding(
            "not_asked",
            f"process {holder} has the state's lock, and its server did not answer a status request: "
            f"{host.refusal}",
            "name an operator's or an auditor's credential with --credential-file; 'sessauth credential add' "
            "makes one",
        )
    elif holder:
        yield Finding(
            "not_answering",
            f"process {holder} has the state's lock, and no server answers at {host.config.socket}: "
            f"{host.silence}",
            "wait if it starts or drains; else read its log, and end it: SIGKILL loses nothing acknowledged",
        )
    else:
        yield Finding("not_running", "no server runs on this state", "sessauth serve")
        try:
            host.config.require_workers()
        except ConfigError as error:
            yield of_error("settings", error)
        yield from _addresses(host.config)
    yield from _parts(host)
    yield from _limits(host, holder or os.getpid())
    yield from _synchronisation()


def lock_holder(state_dir: Path, proc: Path = Path("/proc")) -> int:
    """Return the process that has the writer's lock; 0 if none has, or it is not known. Takes no lock."""
    try:
        inode = (state_dir / layout.WRITER_LOCK_FILE).stat().st_ino
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        # 1: FLOCK ADVISORY WRITE 4711 08:01:393219 0 EOF
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return max(0, int(fields[4]))
    return 0


def _running(status: ServerStatus) -> Iterator[Finding]:
    if status.clock_suspect:
        yield of_error("clock_suspect", ConfigError(status.clock_suspect))
    elif status.not_ready and not status.brake and not status.alarm and status.fresh:
        yield Finding("not_ready", f"the server is not ready: {status.not_ready}", "remove that cause")
    if status.ready_workers < status.workers:
        yield Finding(
            "workers_down",
            f"{status.workers - status.ready_workers} of {status.workers} workers are not ready, "
            f"{status.worker_restarts} were started again",
            "the log says why: worker_silent, worker_died, worker_died_at_start, worker_failed",
        )
    if status.version != __version__:
        yield Finding(
            "other_version",
            f"the server runs version {status.version}, installed is {__version__}",
            "restart the server",
        )
    if status.audit_fault:
        yield Finding(
            "audit_fault",
            f"decisions are not recorded: {status.audit_fault}",
            "free space in audit.dir and let the service write there",
        )


def _addresses(config: Config) -> Iterator[Finding]:
    """Find addresses that another program has. Binds without listening."""
    settings = (
        ("tcp.address", config.tcp.address),
        ("tcp.check_address", config.tcp.check_address),
        ("metrics.address", config.metrics.address),
    )
    # gRPC takes the path of a socket too.
    stated = {setting: text for setting, text in settings if text and not text.startswith("unix:")}
    for setting, address in stated.items():
        problem = bind_problem(address)
        if problem:
            yield Finding(
                "address_taken",
                f"{setting} {address} can't be listened on: {problem}",
                f"stop the program that has it ('ss -ltnp' names it), or correct {setting}",
            )
    yield from _shared_ports({setting: host_and_port(address) for setting, address in stated.items()})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(str(config.socket))
        yield Finding(
            "address_taken",
            f"a server of another state listens on {config.socket}",
            "stop it, or state another server.run_dir",
        )


def _shared_ports(stated: Mapping[str, tuple[str, int]]) -> Iterator[Finding]:
    """Find settings that take an address from each other."""
    for (one, (host, port)), (other, (its_host, its_port)) in combinations(stated.items(), 2):
        if port and port == its_port and (host == its_host or not _ANY.isdisjoint((host, its_host))):
            yield Finding(
                "address_taken",
                f"{one} and {other} are the same address, port {port}",
                f"state another port for {other}",
            )


def _parts(host: Host) -> Iterator[Finding]:
    config = host.config
    if len(os.fsencode(config.check_socket(max(0, host.workers - 1)))) > MAX_SOCKET_PATH_BYTES:
        yield Finding(
            "socket_path",
            f"{config.run_dir} is too long for a socket's path ({MAX_SOCKET_PATH_BYTES} bytes)",
            "state a shorter server.run_dir, as /run/sessauth",
        )
    try:
        require_libraries(config)
    except ConfigError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Finding("missing_library", problem, remedy)
    for extra, section, module, wanted in (
        ("metrics", "metrics", "prometheus_client", config.metrics.address),
        ("tracing", "tracing", "opentelemetry.sdk", config.tracing.enabled),
        ("postgres", "cluster", "psycopg", any("://" in member for member in config.cluster.engine)),
        ("identity", "identity_providers", "joserfc", config.identity_providers),
        ("identity", "transaction_tokens", "joserfc", config.transaction_tokens.algorithm != EDDSA),
    ):
        if wanted and not _is_installed(module):
            yield Finding(
                "missing_extra",
                f"a setting of [{section}] needs {module}",
                f"pip install 'sessauth[{extra}]'",
            )
    for provider in config.identity_providers:
        yield from _identity_keys(provider, config.home)
        if provider.transmitter is not provider:
            yield from _identity_keys(provider.transmitter, config.home)
    yield from _identity_settings(host)
    for name in host.silent_streams:
        yield Finding(
            "event_stream_silent",
            f"no security event of {name} that counts has come for longer than its silence_ms",
            "see that 'sessauth gateway security-events' runs and reaches the provider, which must have the "
            "stream enabled",
        )
    exporter = config.tracing.exporter.partition(":")[0]
    if config.tracing.enabled and host.status is None and not _is_installed(exporter):
        yield Finding(
            "missing_extra",
            f"tracing.exporter needs {exporter}, unless the process has a tracer provider of its own",
            "install the package that it comes from, as 'pip install opentelemetry-exporter-otlp-proto-http'",
        )


def _identity_keys(provider: IdentityProvider, home: Path) -> Iterator[Finding]:
    """Find keys that can't be had, or don't count: of a provider, or of the transmitter of its events."""
    try:
        dropped = fetch_keys(provider, home).dropped
    except StateError as error:
        yield of_error("identity_keys", error)
        return
    for cause in dropped:
        yield Finding(
            "identity_key_dropped",
            f"identity_providers, {provider.name}: a key does not count: {cause}",
            "what it signed counts for nothing; have the provider publish another",
        )


def _identity_settings(host: Host) -> Iterator[Finding]:
    """Find servers of the cluster that have other providers than this one."""
    own = host.status
    if own is None or not own.identity_settings:
        return
    for other in host.others:
        if other.identity_settings not in ("", own.identity_settings):
            yield Finding(
                "identity_settings",
                f"[[identity_providers]] of {own.host} and {other.host} differ: which tokens count depends "
                "on the one that leads",
                "state the same entries on all servers, and restart those that have others",
            )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _limits(host: Host, pid: int) -> Iterator[Finding]:
    """Find limits of the server's process; of this one if no server runs."""
    limit = _open_files(pid, host.proc)
    if 0 < limit < LEAST_OPEN_FILES:
        yield Finding(
            "open_files_limit",
            f"process {pid} may have {limit} files open, connections included",
            "LimitNOFILE=65536 in the unit, or 'ulimit -n 65536' before the start",
        )
    with suppress(OSError):
        cores = len(os.sched_getaffinity(pid))
        if host.workers > cores:
            yield Finding(
                "few_cores",
                f"{host.workers} workers share {cores} cores",
                "lower server.workers: one worker a core is enough; or let the process use more cores",
            )


def _open_files(pid: int, proc: Path) -> int:
    """Return the soft limit of open files; 0 if it is unknown or there is none."""
    with suppress(OSError, ValueError, IndexError):
        for line in (proc / str(pid) / "limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    return 0


def _synchronisation() -> Iterator[Finding]:
    """Ask systemd, where it runs, if a time server sets the clock."""
    if shutil.which(_TIMEDATECTL[0]) is None:
        return
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(_TIMEDATECTL, capture_output=True, text=True, timeout=2.0, check=True)
        if answer.stdout.strip() == "no":
            yield Finding(
                "clock_unsynchronised",
                "no time server sets this machine's clock, on which the lives of sessions depend",
                "timedatectl set-ntp true, or start chrony",
            )


def find_in_places(host: Host) -> Iterator[Finding]:
    """Yield the findings."""
    config, owner = host.config, local_files.owner_of(host.config)
    for setting, folder in _folders(config):
        problem = _problem(folder, owner)
        if problem:
            yield Finding(
                "folder_unusable",
                f"{setting}: {folder} can't be written by the service: {problem}",
                f"give that folder to user {owner}, or state another {setting}",
            )
    if config.audit.enabled and _is_open_to_all(config.audit_dir):
        yield Finding(
            "open_file", f"everybody may write in {config.audit_dir}", f"run chmod o-w {config.audit_dir}"
        )
    lock = config.state_dir / layout.WRITER_LOCK_FILE
    if not _is_own_file(lock, owner):
        yield Finding(
            "folder_unusable",
            f"{lock} is no file of user {owner}, so the service can't lock its state",
            "move it away; the service makes it",
        )
    for path in (config.socket, *map(config.check_socket, range(host.workers))):
        if _is_in_the_way(path):
            yield Finding(
                "folder_unusable",
                f"{path} is no socket, and a server makes one there",
                "move it away, or state another server.run_dir",
            )


def _folders(config: Config) -> Iterator[tuple[str, Path]]:
    yield "server.run_dir", config.run_dir
    # Read at each start, whether usage is enabled or not.
    yield "usage.dir", config.usage_dir
    if config.audit.enabled:
        yield "audit.dir", config.audit_dir


def _problem(folder: Path, uid: int) -> str:
    """Return why a user can't write in a folder, or make it; empty if nothing speaks against it."""
    at = folder.absolute()
    while True:
        try:
            found = at.stat()
            break
        except (FileNotFoundError, NotADirectoryError):
            if at.is_symlink():
                return f"{at} is a link to nothing"
            at = at.parent
        except OSError as error:
            return f"{at}: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{at} is no folder"
    if uid == os.geteuid():
        may = os.access(at, os.W_OK | os.X_OK)
    else:
        may = _allows(found, uid)
    return "" if may else f"user {uid} may not write in {at}"


def _allows(found: os.stat_result, uid: int) -> bool:
    """Return True if the mode of a folder lets another user write there."""
    if uid == 0 or found.st_mode & stat.S_IWOTH:
        return True
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IWUSR)
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        groups: list[int] = []
    else:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return found.st_gid in groups and bool(found.st_mode & stat.S_IWGRP)


def _is_open_to_all(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False


def _is_own_file(path: Path, owner: int) -> bool:
    """Return True if a path is a plain file of a user, or nothing yet."""
    try:
        found = path.lstat()
    except OSError:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_uid == owner


def _is_in_the_way(path: Path) -> bool:
    try:
        return not stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


_PARTS: Sequence[Callable[[Host], Iterator[Finding]]] = (
    folder_checks.find_in_files,
    folder_checks.find_in_folder,
    find_in_places,
    find_in_process,
    folder_checks.find_in_backups,
)


def examine(load: Callable[[], Config], host_of: Callable[[Config], Host]) -> list[Finding]:
    """Return the findings, errors first. Without settings that can be read there is one."""
    try:
        config = load()
    except ConfigError as error:
        return [of_error("settings", error, "correct the key; 'sessauth freeze' works meanwhile")]
    owner = local_files.owner_of(config)
    if os.geteuid() not in (0, owner):
        words = f"this user is neither root nor user {owner}, who owns {config.state_dir}: it can't read all"
        return [Finding("not_examined", words, "run it as the service's user, or as root")]
    host = host_of(config)
    try:
        # Another process reads the state first: LMDB ends one at some damages.
        read_apart(config.state_dir, WHOLE if host.deep else FOLDER)
    except StateError as error:
        host = replace(host, state_fault=error)
    found = [finding for part in _PARTS for finding in _findings(part, host)]
    return sorted(found, key=lambda finding: finding.severity != ERROR)


def _findings(part: Callable[[Host], Iterator[Finding]], host: Host) -> Iterator[Finding]:
    """Yield the findings of a part; one that fails is a finding too, and the others go on."""
    try:
        yield from part(host)
    except Exception as error:  # noqa: BLE001 - after any fault here, the rest is examined
        name = part.__module__.rpartition(".")[2].replace("_", " ")
        yield Finding(
            "not_examined",
            f"the {name} ended early, by {type(error).__name__}: {error}",
            "correct what it names, and run it again; it hides other faults",
        )
