"""Files of this machine that give authority, outside the state folder: checked at a start, and followed.

They are settings, credentials, keys and certificates. A user who can write one of them, or read a secret one,
has the authority of the service. So mode and owner of each are checked before anything is served;
``state/host/folder.py`` does that for the state folder.

A command that changes API keys, identities of certificates or the brake by hand changes a file, without the
server. So the server compares the files with the state that it last recorded, logs the differences, and
records them in the audit stream. The recorded state is stored in a file, so the next start records changes
that were made while no server ran.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeAlias

from ...audit import layout
from ...audit.recording.change_follower import POSITION_FILE
from ...audit.write import stream_register
from ...clock import Clock
from ...errors import ConfigError, StateUnusable
from ...model.host import CredentialRecord
from ...state.host.brake import ManualBrake
from ...state.host.folder import read_file, refuse, replace_file
from ..config import Config
from ..log import event
from ..sections import Identity
from .credentials import CredentialFile, Identities, Loaded

# Bits of a mode that a file must not have.
_WRITABLE: Final = 0o022
_OPEN_TO_OTHERS: Final = 0o027
_OPEN: Final = 0o077
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A file or a folder, the bits that its mode must not have, and the mode to give it."""

    path: Path
    forbidden: int
    mode: int


def check(config: Config) -> None:
    """Refuse files that give authority and are open to others, or are another user's.

    Reads attributes only; skips files that are missing or not visible to this user. The files must belong to
    the owner of the state folder, or to root. Raises StateUnusable WRONG_MODE or WRONG_OWNER with the command
    to type.
    """
    _check_files(_authority_files(config), owner_of(config))


def owner_of(config: Config) -> int:
    """Return the user of the state folder; this process's own while there is none."""
    try:
        return config.state_dir.stat().st_uid
    except OSError:
        return os.geteuid()


def problems(config: Config) -> Iterator[StateUnusable]:
    """Yield the error of each file that :func:`check` refuses."""
    for guarded in _authority_files(config):
        try:
            _check_files([guarded], owner_of(config))
        except StateUnusable as error:
            yield error


def check_tls(config: Config) -> None:
    """Check the files of TLS alone, which are reloaded when they change."""
    _check_files(_tls_files(config), os.geteuid())


def _check_files(all_guarded: Iterable[_Guarded], owner: int) -> None:
    for guarded in all_guarded:
        try:
            found = guarded.path.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        if mode & guarded.forbidden:
            can = "change" if mode & guarded.forbidden & _WRITABLE else "read"
            refuse(
                "WRONG_MODE",
                f"{guarded.path} has mode {mode:04o}, so other users can {can} it; "
                f"run chmod {guarded.mode:04o} {guarded.path}",
            )
        if found.st_uid not in (owner, _ROOT):
            refuse(
                "WRONG_OWNER",
                f"{guarded.path} belongs to user {found.st_uid}, who can change it; "
                f"run chown {owner} {guarded.path}",
            )


def _authority_files(config: Config) -> Iterator[_Guarded]:
    yield _Guarded(config.home, _WRITABLE, 0o755)
    yield _Guarded(config.home / "sessauth.toml", _WRITABLE, 0o644)
    yield _Guarded(config.home / "operator.credential", _OPEN, 0o600)
    yield _Guarded(config.run_dir, _WRITABLE, 0o750)
    yield _Guarded(config.credentials_file, _OPEN_TO_OTHERS, 0o640)
    yield _Guarded(config.state_dir / FILE, _WRITABLE, FILE_MODE)
    yield _Guarded(config.state_dir / stream_register.FILE, _WRITABLE, 0o640)
    yield _Guarded(config.keys_dir, _OPEN, 0o700)
    try:
        for path in sorted(config.keys_dir.rglob("*")):
            yield _Guarded(path, _OPEN, 0o700 if path.is_dir() else 0o600)
    except OSError:
        # Closed to this user, or missing: the key ring reports that.
        pass
    yield from _tls_files(config)
    if config.audit.enabled:
        yield _Guarded(config.audit_dir / POSITION_FILE, _WRITABLE, 0o600)


def _tls_files(config: Config) -> Iterator[_Guarded]:
    tcp, follow, cluster = config.tcp, config.follow, config.cluster
    for name in filter(None, (tcp.private_key, follow.private_key, follow.credential, cluster.private_key)):
        yield _Guarded(config.path(name), _OPEN_TO_OTHERS, 0o600)
    public = (tcp.certificate, tcp.client_ca, follow.certificate, follow.server_ca)
    for name in filter(None, (*public, cluster.certificate, cluster.server_ca)):
        yield _Guarded(config.path(name), _WRITABLE, 0o644)


FILE: Final = "local.json"
FILE_MODE: Final = 0o600
_MAX_FILE_BYTES: Final = 16 << 20
# The most that a freeze waits for a record of it.
LOCK_SECONDS: Final = 0.2

# By name: the public fields of an entry, and a digest of its secret.
Entries: TypeAlias = dict[str, dict[str, Any]]
Difference: TypeAlias = tuple[str, dict[str, Any]]


class LocalChanges:
    """Compares, logs and records. Every method may be called from any thread."""

    def __init__(
        self,
        state_dir: Path,
        credentials: CredentialFile,
        identities: Identities,
        brake: Callable[[], ManualBrake],
        clock: Clock,
        *,
        cluster_brake: Callable[[], str],
        records: bool,
        fsync_ms: int,
    ) -> None:
        """Continue from the state that the last run in this state folder recorded.

        ``cluster_brake()`` returns the reason of the cluster's brake, empty if it is not set.
        ``records``: an audit stream takes the bodies; they are on the disk ``fsync_ms`` later.
        """
        self._path = state_dir / FILE
        self._credentials = credentials
        self._identities = identities
        self._brake = brake
        self._cluster_brake = cluster_brake
        self._clock = clock
        self._records = records
        self._settle_ms = 2 * fsync_ms
        self._lock = threading.Lock()
        self._last = _read(self._path)
        self._loaded: Loaded | None = None
        self._entries: Iterable[Identity] = ()
        # The inputs of ``_last``: while they are the same there is nothing to compare.
        self._parts: tuple[object, ...] = ()
        self._waiting: list[bytes] = []
        # Since when all of ``_last`` is recorded and not yet stored.
        self._recorded_at: int | None = None
        # Callers that the server freezes or thaws for at this moment.
        self._callers: list[str] = []

    def poll(self) -> None:
        """Log the differences, and store the state once its records are durable."""
        with self._lock:
            self._compare()
            if self._recorded_at is not None and not self._waiting:
                if self._clock.steady_ms() - self._recorded_at >= self._settle_ms:
                    self._store()

    def bodies(self) -> bytes:
        """Return bodies of audit records for the differences that are not recorded yet."""
        with self._lock:
            self._compare()
            return b"".join(self._waiting)

    def recorded(self, bodies: bytes) -> None:
        """Acknowledge bodies that the stream has written."""
        with self._lock:
            while bodies and self._waiting:
                bodies = bodies[len(self._waiting.pop(0)) :]
            if not self._waiting:
                self._recorded_at = self._clock.steady_ms()

    def close(self) -> None:
        """Store the recorded state; the stream was closed, so its records are durable."""
        with self._lock:
            if self._recorded_at is not None and not self._waiting:
                self._store()

    @contextmanager
    def brake_by(self, caller: str) -> Iterator[None]:
        """Name ``caller`` in the records of the brake's changes meanwhile, each of which gets one of its own.

        Never waits for the disk and never fails, since a freeze may not: then a record lacks the caller.
        """
        self._compare_brakes()
        self._callers.append(caller)
        try:
            yield
        finally:
            self._compare_brakes()
            self._callers.remove(caller)

    def _compare_brakes(self) -> None:
        # The lock is held while the state is stored.
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return
        try:
            self._compare(reads=False)
        except Exception as error:  # noqa: BLE001 - the next poll finds it
            event(logging.ERROR, "background_task_failed", task="local changes", error=repr(error))
        finally:
            self._lock.release()

    def _compare(self, *, reads: bool = True) -> None:
        if reads:
            # A file that can't be read accepts no caller, and each call fails.
            with suppress(ConfigError):
                self._loaded = self._credentials.current()
            self._entries = self._identities.entries
        loaded, entries = self._loaded, self._entries
        if loaded is None:
            return
        by_hand, of_cluster = self._brake(), self._cluster_brake()
        if (loaded, entries, by_hand, of_cluster) == self._parts:
            return
        self._parts = loaded, entries, by_hand, of_cluster
        now = {
            "credentials": _credentials(loaded.entries.values()),
            "identities": _identities(entries),
            "brake": _brake(by_hand),
            "cluster_brake": {"reason": of_cluster},
        }
        if now == self._last:
            return
        found = list(_differences(self._last, now))
        self._last = now
        callers = self._callers[-1:]
        for what, fields in found:
            if callers and "brake_" in what:
                fields["actor"] = callers[0]
            level = logging.WARNING if what.endswith("brake_set") else logging.INFO
            event(level, "local_change", what=what, **fields)
            if self._records:
                record = {"at_ms": self._clock.now_ms(), "what": what, **fields}
                self._waiting.append(layout.body("local", record))
        self._recorded_at = None if self._waiting else self._clock.steady_ms()

    def _store(self) -> None:
        # If that can't be written, the next start records it again.
        with suppress(OSError):
            replace_file(self._path, json.dumps(self._last).encode() + b"\n", FILE_MODE)
        self._recorded_at = None


def _read(path: Path) -> dict[str, Any]:
    """Return the recorded state; an empty one if it can't be read, so that all is recorded again."""
    nothing: dict[str, Any] = {
        "credentials": {},
        "identities": {},
        "brake": _brake(ManualBrake(0, False, "")),
        "cluster_brake": {"reason": ""},
    }
    try:
        # A file of an earlier version has no part of the cluster's brake.
        found = {"cluster_brake": nothing["cluster_brake"], **json.loads(read_file(path, _MAX_FILE_BYTES))}
        if {name: type(part) for name, part in found.items()} == dict.fromkeys(nothing, dict):
            return dict(found)
    except (OSError, ValueError, TypeError):
        pass
    return nothing


def _credentials(stored: Iterable[CredentialRecord]) -> Entries:
    return {
        credential.name: {
            "role": credential.role,
            "audiences": list(credential.audiences),
            "digest": _digest(credential.secret_hash.hex()),
        }
        for credential in stored
    }


def _identities(entries: Iterable[Identity]) -> Entries:
    found: Entries = {}
    certificates: dict[str, list[str]] = {}
    for entry in entries:
        certificates.setdefault(entry.name, []).append(entry.uri or entry.thumbprint.lower())
        found[entry.name] = {
            "role": entry.role,
            "audiences": list(entry.audiences),
            "certificates": sorted(certificates[entry.name]),
        }
    return found


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _brake(by_hand: ManualBrake) -> dict[str, Any]:
    return {"count": by_hand.count, "engaged": by_hand.engaged, "reason": by_hand.reason}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    yield from _entry_differences("credential", before["credentials"], now["credentials"])
    yield from _entry_differences("identity", before["identities"], now["identities"])
    yield from _brake_differences(before["brake"], now["brake"])
    reason, reason_before = now["cluster_brake"]["reason"], before["cluster_brake"].get("reason", "")
    if reason != reason_before:
        what = "cluster_brake_set" if reason else "cluster_brake_cleared"
        yield what, {"reason": reason or reason_before}


def _entry_differences(word: str, before: Entries, now: Entries) -> Iterator[Difference]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name):
            continue
        what = "changed" if name in before and name in now else "added" if name in now else "removed"
        shown = {key: value for key, value in (now.get(name) or before[name]).items() if key != "digest"}
        yield f"{word}_{what}", {"name": name, **shown}


def _brake_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    if now["engaged"]:
        if not before.get("engaged") or now["count"] != before.get("count"):
            yield "brake_set", {"reason": now["reason"]}
    elif before.get("engaged"):
        yield "brake_cleared", {"reason": before.get("reason", "")}
    elif now["count"] > before.get("count", 0):
        # It was set and cleared since.
        yield "brake_set", {"reason": now["reason"]}
        yield "brake_cleared", {"reason": now["reason"]}
