"""Backup and restore of a state folder, and reading one in a process of its own.

A backup is a consistent copy with a manifest. A restore writes the backup's rows into the folder's own
environment, in one transaction. It starts a new incarnation, which ends every restored session: the backup
lacks the ends and revocations that came after it.

LMDB ends its process by SIGABRT at some damages, and a truncated file ends it by SIGBUS. So a command that
looks for damage first has a child read everything that it reads itself. The child answers with one line of
JSON. If a signal ends the child, the data is corrupt.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self, get_type_hints

import lmdb

from ..clock import Clock, SystemClock
from ..crypto.pem import sync_path
from ..errors import StateError, StateUnusable
from ..model.change import Head, new_incarnation
from . import layout
from .host import folder as preflight
from .host.folder import read_file, replace_file
from .integrity.anchor import Anchored
from .integrity.pages import verify_pages
from .integrity.verify import Verified, verify
from .lmdb import cluster_rows, effective_status, terms
from .lmdb import rows as tallies
from .lmdb.cluster_rows import read_position
from .lmdb.environment import LmdbSource, open_environment, open_tables
from .lmdb.reader import StateReader
from .lmdb.rows import TxnRows
from .replication.membership import drop_hosts_and_brake
from .rules import effects
from .writer.group import Group
from .writer.opening import RESTORING
from .writer.state_writer import StateWriter

_log = logging.getLogger(__name__)
MANIFEST_FILE = "manifest.json"
_LOG = (layout.CHANGES, layout.RESULTS)
_COPIED = tuple(name for name in layout.TABLES if name not in (*_LOG, layout.META))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Position and content of a backup. ``data_digest`` is the BLAKE2b-256 of its data file, in hex."""

    format: int
    cluster_id: str
    incarnation: str
    revision: int
    seq: int
    log_digest: str
    data_digest: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a backup's manifest; raises StateUnusable MISSING or CORRUPT."""
        path = folder / MANIFEST_FILE
        try:
            raw: dict[str, Any] = json.loads(read_file(path))
            found = cls(**raw)
            for name, kind in get_type_hints(cls).items():
                if type(getattr(found, name)) is not kind:
                    raise TypeError(f"{name}: is no {kind.__name__}")
            return found
        except FileNotFoundError as error:
            raise StateUnusable(
                f"{path} is missing: not a backup, or not a finished one", "MISSING"
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise StateUnusable(f"{path} can't be read ({error}); use another backup", "CORRUPT") from error


def backup(
    state_dir: str | os.PathLike[str],
    target: str | os.PathLike[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write a backup of a state folder into ``target``, a new folder; the server may be running.

    A process that has the folder open uses :func:`backup_source`. ``on_progress`` is called with the number
    of copied sessions that were read again, and the number of all.
    """
    reader = StateReader.open(state_dir)
    try:
        return backup_source(reader, target, on_progress)
    finally:
        reader.close()


def backup_source(
    source: LmdbSource,
    target: str | os.PathLike[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write a backup of an open source into ``target``, a new folder (0700, its files 0600).

    The manifest is written last: a folder without one is not a finished backup.
    """
    folder = Path(target)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        raise StateError(f"{folder} exists already; name a new folder for the backup") from error
    folder.chmod(0o700)
    # The copy renumbers the pages.
    verify_pages(source.env, source.reading)
    try:
        source.env.copy(str(folder), compact=True)
    except lmdb.Error as error:
        raise StateError(
            f"{folder}: the copy failed ({error}); free some space and use a new folder"
        ) from error
    data = folder / layout.DATA_FILE
    data.chmod(0o600)
    head, _ = _verified(folder, on_progress)
    manifest = Manifest(
        head.format,
        head.cluster_id.hex(),
        head.incarnation.hex(),
        head.revision,
        head.seq,
        head.digest.hex(),
        _digest(data),
    )
    sync_path(data)
    replace_file(folder / MANIFEST_FILE, json.dumps(asdict(manifest), indent=2).encode() + b"\n", 0o600)
    sync_path(folder.parent)
    return manifest


def verify_backup(
    source: str | os.PathLike[str], on_progress: Callable[[int, int], None] | None = None
) -> tuple[Manifest, Verified]:
    """Read a whole backup, as a restore does before it changes anything; return its manifest and row counts.

    ``on_progress`` is called with the number of sessions read, and the number of all. Raises StateUnusable
    MISSING without a manifest, NEWER_FORMAT if a later program made it, CORRUPT if its manifest does not fit.
    """
    folder = Path(source)
    manifest = Manifest.read(folder)
    if manifest.format > layout.FORMAT:
        message = f"{folder} has format {manifest.format}, this program writes {layout.FORMAT}; upgrade it"
        raise StateUnusable(message, "NEWER_FORMAT")
    preflight.check_data_pages(folder / layout.DATA_FILE)
    if _digest(folder / layout.DATA_FILE) != manifest.data_digest:
        raise StateUnusable(f"{folder} does not match its manifest; use another backup", "CORRUPT")
    return manifest, _verified(folder, on_progress)[1]


def restore(
    source: str | os.PathLike[str],
    state_dir: str | os.PathLike[str],
    *,
    force: bool = False,
    map_size: int = layout.MAP_SIZE,
    clock: Clock | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Head:
    """Replace a folder's rows by a backup's, and return the new head; creates the folder if it is missing.

    The server must be stopped. Verifiers may stay open, and deny all restored sessions from then on.
    Raises StateUnusable FOREIGN if the folder is of another cluster, unless ``force``; else raises, and calls
    ``on_progress``, as :func:`verify_backup`.
    """
    folder = Path(source)
    manifest, _ = verify_backup(folder, on_progress)
    fresh = not (Path(state_dir) / layout.DATA_FILE).exists()
    with StateWriter.open(state_dir, create=fresh, restoring=True, map_size=map_size, clock=clock) as writer:
        if writer.head().cluster_id.hex() != manifest.cluster_id and not (fresh or force):
            message = f"{state_dir} belongs to another cluster; restore into a new folder, or force it"
            raise StateUnusable(message, "FOREIGN")
        env, tables = _open_backup(folder)
        try:
            with env.begin() as txn:
                backed_up = TxnRows(txn, tables)
                anchored = writer.anchored
                if anchored is None or (fresh and not anchored.seq):
                    _log_unknown(Path(state_dir))
                brake = cluster_rows.page_reason(backed_up)
                if brake is not None:
                    # As for a host that leaves: no operator decided that this one may allow.
                    writer.brake_by_hand(f"restored from a backup of a cluster whose brake was {brake}")
                writer.run(lambda group: _replace(group, backed_up, manifest, anchored))
        finally:
            env.close()
        if writer.braked_by_hand.engaged and writer.braked_by_hand.reason == RESTORING:
            writer.release_by_hand()
        return writer.head()


def _log_unknown(state_dir: Path) -> None:
    """Log that the state's position before the restore is not known."""
    _log.warning(
        "%s has no %s, so how far the state was before can't be known: numbers of revisions and changes may "
        "be used a second time, of another incarnation",
        state_dir,
        layout.ANCHOR_FILE,
        extra={"event": "restored_without_anchor"},
    )


def _replace(group: Group, backed_up: TxnRows, manifest: Manifest, anchored: Anchored | None) -> None:
    """Write the backup's rows over the folder's, and log the new incarnation after both histories.

    Revision, seq, keys generation and clock floor become at least those of the folder, the backup and the
    anchor. So no view, token or follower takes the restored state for one it knows. A key that was retired or
    distrusted since the backup stays so. A key of another cluster's folder is not taken over. Registrations
    are the folder's own: the backup's are of processes of another time, or host. So are credentials of a
    cluster: the backup's may have been removed since. Hosts of a cluster, and its brake, are not restored.
    """
    rows, old, new = group.rows, group.rows.head(), backed_up.head()
    ours = old.cluster_id == new.cluster_id
    known_keys = [key for key in map(rows.key, rows.key_ids()) if key is not None]
    registrations = cluster_rows.registrations(rows)
    callers = cluster_rows.credential_values(rows), rows.get(layout.EVIDENCE, cluster_rows.CREDENTIAL)
    for name in (*_COPIED, *_LOG):
        rows.txn.drop(rows.tables[name], delete=False)
    for name in _COPIED:
        if name not in backed_up.tables:
            continue
        with backed_up.txn.cursor(db=backed_up.tables[name]) as source:
            rows.fill(name, source.iternext())
    if layout.TALLIES not in backed_up.tables:
        tallies.build(rows.txn, rows.tables)
    if not terms.is_made(rows):
        terms.build(rows.txn, rows.tables)
    for known in known_keys:
        restored = rows.key(known.id)
        # Another cluster's folder can only lower the status of a restored key. Its own keys are not taken.
        if (restored is None and ours) or (restored is not None and restored.status < known.status):
            rows.put(layout.KEYS, known.id, known.encode())
    for record in cluster_rows.registrations(rows):
        cluster_rows.drop_registration(group, record)
    for record in registrations:
        cluster_rows.store_registration(group, record)
    cluster_rows.replace_credentials(group, *callers)
    drop_hosts_and_brake(group)
    least_revision, least_seq = (0, 0) if anchored is None else (anchored.revision, anchored.seq)
    seq = max(old.seq, new.seq, least_seq)
    rows.current = Head(
        layout.FORMAT,
        new.min_reader_format,
        new.cluster_id,
        new.incarnation,
        revision=max(old.revision, new.revision, least_revision) + 1,
        seq=seq,
        clock_floor_ms=max(old.clock_floor_ms, new.clock_floor_ms),
        keys_generation=max(old.keys_generation, new.keys_generation) + 1,
        digest=new.digest,
        incarnation_revision=new.incarnation_revision,
    )
    _copy_incarnations(rows, backed_up)
    cluster_rows.store_since(rows, group.at_ms)
    rows.put_compacted(seq, new.digest)
    change = new_incarnation(
        f"{layout.SYSTEM_PREFIX}restore/{seq + 1}",
        os.urandom(16),
        group.at_ms,
        f"restored from a backup at revision {manifest.revision}",
        actor=layout.SYSTEM_ACTOR,
    )
    group.log(change)


def _copy_incarnations(rows: TxnRows, backed_up: TxnRows) -> None:
    """Replace the rows of incarnations by the backup's, which its sessions need."""
    for key in rows.keys_after(layout.META, b"", sys.maxsize, effects.PREFIX):
        rows.delete(layout.META, key)
    for key in backed_up.keys_after(layout.META, b"", sys.maxsize, effects.PREFIX):
        rows.put(layout.META, key, backed_up.get(layout.META, key) or b"")


def _open_backup(folder: Path) -> tuple[lmdb.Environment, dict[str, Any]]:
    size = max((folder / layout.DATA_FILE).stat().st_size, 1 << 20)
    env = open_environment(folder, readonly=True, map_size=size, lock=False)
    try:
        return env, open_tables(env, create=False)
    except StateUnusable:
        env.close()
        raise


def _verified(folder: Path, on_progress: Callable[[int, int], None] | None) -> tuple[Head, Verified]:
    env, tables = _open_backup(folder)
    try:
        with env.begin() as txn:
            rows = TxnRows(txn, tables)
            return rows.head(), verify(rows, on_progress)
    finally:
        env.close()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


_MODULE: Final = "sessauth.state.backup"
FOLDER: Final = "folder"
WHOLE: Final = "whole"
BACKUP: Final = "backup"


@dataclass(frozen=True, slots=True)
class ReadApart:
    """The head of a state or the manifest of a backup; the numbers of rows if all were read."""

    head: Head | None = None
    manifest: Manifest | None = None
    counts: Verified | None = None


def read_apart(
    folder: Path, what: str = FOLDER, on_progress: Callable[[int, int], None] | None = None
) -> ReadApart:
    """Read the state of a folder, the ``WHOLE`` of it, or a ``BACKUP``, in another process.

    ``on_progress`` is called as by ``verify``. Raises StateUnusable as the reading itself does, and CORRUPT
    if a signal ended it.
    """
    # -P: nothing is imported from the current folder.
    command = [sys.executable, "-P", "-m", _MODULE, what, str(folder.absolute())]
    answer: dict[str, Any] = {}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                answer = json.loads(line)
                if on_progress is not None and "progress" in answer:
                    on_progress(*answer["progress"])
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        ended = f"with {process.returncode}"
        if process.returncode < 0:
            ended = f"by {signal.Signals(-process.returncode).name}"
        message = (
            f"{folder / layout.DATA_FILE}: a process that read it ended {ended}; restore it from a backup"
        )
        raise StateUnusable(message, "CORRUPT")
    if "problem" in answer:
        raise StateUnusable(answer["message"], answer["problem"])
    head, manifest, counts = (answer.get(name) for name in ("head", "manifest", "counts"))
    return ReadApart(
        None if head is None else Head.decode(bytes.fromhex(head)),
        None if manifest is None else Manifest(**manifest),
        None if counts is None else Verified(**counts),
    )


def _read(what: str, folder: Path) -> dict[str, Any]:
    if what == BACKUP:
        manifest, counts = verify_backup(folder, _write_progress)
        return {"manifest": asdict(manifest), "counts": asdict(counts)}
    reader = StateReader.open(folder)
    try:
        if what == WHOLE:
            verify_pages(reader.env, reader.reading)
        with reader.rows() as rows:
            head = rows.head()
            rows.used_bytes(int(reader.env.stat()["psize"]))
            read_position(rows)
            for key_id in rows.key_ids():
                rows.key(key_id)
            answer: dict[str, Any] = {"head": head.encode().hex()}
            if what == WHOLE:
                answer["counts"] = asdict(verify(rows, _write_progress))
                return answer
        effective_status.take(reader, SystemClock().now_ms())
        return answer
    finally:
        reader.close()


def _write_progress(done: int, of_all: int) -> None:
    _write_answer({"progress": (done, of_all)})


def _write_answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _main(what: str, folder: str) -> None:
    # A core would hold rows of the state.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _write_answer(_read(what, Path(folder)))
    except StateUnusable as error:
        _write_answer({"problem": error.problem, "message": str(error)})


if __name__ == "__main__":
    _main(*sys.argv[1:])
