"""Opening a state folder for writing: made if asked, verified, its lock taken, its brake looked at."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb

from ..errors import StateUnusable
from ..record import Head
from . import access, brake, evidence, layout, preflight
from .folder import Owner, WriterLock, extend_data, pid_namespace, sync_folder
from .group import Group
from .lmdb_env import Source, open_environment, open_tables
from .rows import TxnRows
from .verify import verify


def open_writing(state_dir: Path, *, create: bool, map_size: int) -> tuple[WriterLock, Source, brake.Brake]:
    """Open everything that the writer holds; raises StateUnusable, and then holds nothing."""
    if create:
        _make_folder(state_dir)
    preflight.check(state_dir, writer=True, creating=create)
    lock = WriterLock(state_dir)
    env = None
    try:
        if create:
            brake.create(state_dir / layout.BRAKE_FILE)
        env = open_environment(state_dir, readonly=False, map_size=_map_bytes(state_dir, map_size))
        size = extend_data(state_dir, int(env.info()["map_size"]))
        access.hold_group(state_dir)
        tables = _tables(env, create=create)
        # Readers refuse an owner of a format that they don't know, and need not know the writer's.
        Owner(layout.MIN_READER_FORMAT, os.getpid(), pid_namespace(), size).write(state_dir)
        env.reader_check()
        source = Source(env, tables, state_dir)
        page = brake.Brake(state_dir / layout.BRAKE_FILE)
        _hold_format(source)
        _raise_format(source)
        if page.failed:
            _recover(source, page)
    except BaseException:
        if env is not None:
            env.close()
        lock.release()
        raise
    return lock, source, page


def _make_folder(state_dir: Path) -> None:
    """Make the folder with its mode; refuses one that holds other things."""
    if not state_dir.exists():
        state_dir.mkdir(parents=True)
        if state_dir.stat().st_gid not in (os.getegid(), *os.getgroups()):
            # The folder above handed its own group down, which this process can't give to files.
            os.chown(state_dir, -1, os.getegid())
        state_dir.chmod(layout.DIR_MODE)
        sync_folder(state_dir.parent)
        return
    if state_dir.is_dir() and not (state_dir / layout.DATA_FILE).exists():
        # What init and a start that was killed may have left; anything else is somebody's.
        ours = {
            layout.BRAKE_FILE,
            layout.WRITER_LOCK_FILE,
            layout.LOCK_FILE,
            layout.OWNER_FILE,
            layout.PROOF_DIR,
            "credentials.toml",
            "local.json",
        }
        foreign = sorted(entry.name for entry in state_dir.iterdir() if entry.name not in ours)
        if foreign:
            message = f"{state_dir} holds other files ({foreign[0]}); name an empty or a new folder"
            raise StateUnusable(message, "FOREIGN")


def _map_bytes(state_dir: Path, map_size: int) -> int:
    data = state_dir / layout.DATA_FILE
    return max(map_size, data.stat().st_size) if data.exists() else map_size


def _tables(env: lmdb.Environment, *, create: bool) -> dict[str, Any]:
    """Open the tables, and where a folder is made, write the first head."""
    if not create:
        return open_tables(env, create=False)
    with env.begin() as txn, txn.cursor() as cursor:
        names = {bytes(key).decode(errors="replace") for key in cursor.iternext(keys=True, values=False)}
    if not names <= set(layout.TABLES):
        message = f"{env.path()} holds another program's tables; name an empty or a new folder"
        raise StateUnusable(message, "FOREIGN")
    tables = open_tables(env, create=True)
    with env.begin(write=True) as txn:
        if txn.get(layout.HEAD_KEY, db=tables[layout.META]) is None:
            if any(txn.stat(handle)["entries"] for handle in tables.values()):
                message = f"{env.path()} has rows but no head; restore the state from a backup"
                raise StateUnusable(message, "CORRUPT")
            head = Head(
                layout.FORMAT, layout.MIN_READER_FORMAT, os.urandom(16), os.urandom(16), digest=bytes(32)
            )
            txn.put(layout.HEAD_KEY, head.encode(), db=tables[layout.META])
    sync_folder(Path(env.path()))
    return tables


def _hold_format(source: Source) -> None:
    """Refuse a newer format, and a head that the last logged change contradicts."""
    with source.reading() as txn:
        head = TxnRows(txn, source.tables).head()
        if head.format > layout.FORMAT:
            message = f"the state is of format {head.format}, this program writes {layout.FORMAT}; upgrade it"
            raise StateUnusable(message, "NEWER_FORMAT")
        with txn.cursor(db=source.tables[layout.CHANGES]) as cursor:
            last = int.from_bytes(cursor.key(), "big") if cursor.last() else head.seq
    if last != head.seq:
        message = f"the log ends at {last}, the head says {head.seq}; restore the state from a backup"
        raise StateUnusable(message, "CORRUPT")


def _raise_format(source: Source) -> None:
    """Give a folder of an earlier format the tables that it lacks, and say so in its head: one commit."""
    with source.reading() as txn:
        head = TxnRows(txn, source.tables).head()
    if head.format == layout.FORMAT and all(name in source.tables for name in layout.LATER_TABLES):
        return
    try:
        with source.env.begin(write=True) as txn:
            for name in layout.LATER_TABLES:
                source.tables[name] = source.env.open_db(name.encode(), txn=txn, create=True)
            if head.format < evidence.FORMAT:
                since = head.clock_floor_ms.to_bytes(8, "big")
                txn.put(evidence.SINCE_KEY, since, db=source.tables[layout.EVIDENCE])
            raised = replace(head, format=layout.FORMAT)
            txn.put(layout.HEAD_KEY, raised.encode(), db=source.tables[layout.META])
    except lmdb.Error as error:
        message = f"the state could not be raised to format {layout.FORMAT} ({error}); free some space"
        raise StateUnusable(message, "NO_SPACE") from error


def _recover(source: Source, page: brake.Brake) -> None:
    """Release a brake that an earlier writer engaged, if all rows read well and a write is durable."""
    with source.reading() as txn:
        verify(TxnRows(txn, source.tables))
    try:
        with source.env.begin(write=True) as txn:
            txn.put(layout.PROBE_KEY, os.urandom(layout.PROBE_BYTES), db=source.tables[layout.META])
    except lmdb.Error as error:
        message = (
            f"a probe write failed ({error}), so the brake stays engaged: {page.reason}; free some space"
        )
        raise StateUnusable(message, "NO_SPACE") from error
    page.release()


def probe(group: Group) -> None:
    """Write something that has to be committed."""
    group.rows.put(layout.META, layout.PROBE_KEY, os.urandom(layout.PROBE_BYTES))
    group.dirty = True
