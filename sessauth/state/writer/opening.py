"""Opening a state folder for writing: its creation, lock, format, anchor and brake."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from ...crypto.pem import sync_path
from ...errors import StateUnusable
from ...model.change import Head
from ...model.host import FORMAT
from .. import layout
from ..host import brake, folder
from ..host.folder import Owner, WriterLock, extend_data, pid_namespace
from ..integrity import anchor
from ..integrity.pages import verify_pages
from ..integrity.verify import verify
from ..lmdb import cluster_rows, terms
from ..lmdb import rows as tallies
from ..lmdb.cluster_rows import read_position
from ..lmdb.environment import LmdbSource, open_environment, open_tables
from ..lmdb.rows import TxnRows
from .committer import Continuity, identities
from .group import Group

# The reason of the brake while a restore replaces the rows.
RESTORING: Final = "a restore did not end; restore again, or thaw once 'sessauth state check' finds nothing"


class Opened(NamedTuple):
    """The resources of a writer."""

    lock: WriterLock
    source: LmdbSource
    brake: brake.Brake
    continuity: Continuity


def open_writing(
    state_dir: Path, *, create: bool, restoring: bool, map_size: int, carried: bool = False
) -> Opened:
    """Open the resources of a writer; releases all if it raises StateUnusable.

    With ``restoring`` a state that is behind its anchor is opened too; a new incarnation has to follow. A
    folder of a cluster is opened only if its groups are ``carried``.
    """
    if create:
        _make_folder(state_dir)
    folder.check(state_dir, writer=True, creating=create)
    lock = WriterLock(state_dir)
    env = anchor_file = None
    try:
        anchored = anchor.read(state_dir)
        if create:
            _refuse_lost_data(state_dir, anchored, restoring=restoring)
            brake.create(state_dir / layout.BRAKE_FILE)
        # Taken before LMDB opens the files: one that is replaced in between must not be written.
        before = identities(state_dir)
        env = open_environment(state_dir, readonly=False, map_size=_map_bytes(state_dir, map_size))
        tables = _open_tables(env, create=create)
        behind = _is_behind(state_dir, env, tables, anchored, refuse=not restoring)
        size = extend_data(state_dir, int(env.info()["map_size"]))
        folder.set_group(state_dir)
        # Readers refuse an owner of a later format, so it states the format that they need, not the writer's.
        Owner(layout.MIN_READER_FORMAT, os.getpid(), pid_namespace(), size).write(state_dir)
        env.reader_check()
        source = LmdbSource(env, tables, state_dir)
        page = brake.Brake(state_dir / layout.BRAKE_FILE)
        _require_format(source)
        _require_membership(source, carried=carried)
        _set_cluster_brake(source, page)
        _make_durable(source)
        anchor_file = anchor.Anchor(state_dir)
        _write_anchor(state_dir, anchor_file, source, behind=behind)
        _upgrade_format(source, restoring=restoring)
        if page.failed:
            _recover(source, page, restoring=restoring)
        _write_anchor(state_dir, anchor_file, source, behind=behind)
        continuity = Continuity(state_dir, source, anchor_file, before, behind=behind)
    except BaseException as error:
        if anchor_file is not None:
            anchor_file.close()
        if env is not None:
            env.close()
        lock.release()
        if isinstance(error, lmdb.Error):
            raise StateUnusable(f"{state_dir}: {error}; restore it from a backup", "CORRUPT") from error
        raise
    return Opened(lock, source, page, continuity)


def _refuse_lost_data(state_dir: Path, anchored: anchor.Anchored | None, *, restoring: bool) -> None:
    """Raise ROLLED_BACK instead of creating a state where the anchor states that there was one."""
    data = state_dir / layout.DATA_FILE
    if anchored is not None and anchored.seq and not restoring and not data.exists():
        message = f"{data} is gone, and {layout.ANCHOR_FILE} says that it was there; restore it from a backup"
        raise StateUnusable(message, "ROLLED_BACK")


def _is_behind(
    state_dir: Path,
    env: lmdb.Environment,
    tables: dict[str, Any],
    anchored: anchor.Anchored | None,
    *,
    refuse: bool,
) -> bool:
    """Return True if a state is behind its anchor; with ``refuse`` raises ROLLED_BACK instead."""
    with env.begin() as txn:
        try:
            anchor.require_not_behind(
                anchored, TxnRows(txn, tables), int(env.info()["last_txnid"]), state_dir
            )
        except StateUnusable as error:
            if refuse or error.problem != "ROLLED_BACK":
                raise
            return True
    return False


def _make_durable(source: LmdbSource) -> None:
    """Sync the data file: after a loss of power it must not be behind the anchor that is written next."""
    try:
        source.env.sync(True)
    except lmdb.Error as error:
        message = f"{source.env.path()} could not be made durable ({error}); look at its disk"
        raise StateUnusable(message, "NO_SPACE") from error


def _write_anchor(state_dir: Path, anchor_file: anchor.Anchor, source: LmdbSource, *, behind: bool) -> None:
    """Write the anchor, durably, before anything depends on it."""
    if behind:
        return
    try:
        anchor_file.write(anchor.Anchored.of(source.head(), int(source.env.info()["last_txnid"])))
        anchor_file.flush()
    except OSError as error:
        message = f"{state_dir / layout.ANCHOR_FILE} could not be written ({error}); free some space"
        raise StateUnusable(message, "NO_SPACE") from error


def _make_folder(state_dir: Path) -> None:
    """Create the folder with its mode; raises FOREIGN for one that holds other files."""
    if not state_dir.exists():
        state_dir.mkdir(parents=True)
        if state_dir.stat().st_gid not in (os.getegid(), *os.getgroups()):
            # It inherited the group of the folder above, which this process can't give to files.
            os.chown(state_dir, -1, os.getegid())
        state_dir.chmod(layout.DIR_MODE)
        sync_path(state_dir.parent)
        return
    if state_dir.is_dir() and not (state_dir / layout.DATA_FILE).exists():
        # Init and a killed start may leave these; any other file is foreign.
        ours = {
            layout.BRAKE_FILE,
            layout.ANCHOR_FILE,
            layout.WRITER_LOCK_FILE,
            layout.LOCK_FILE,
            layout.OWNER_FILE,
            layout.PROOF_DIR,
            "credentials.toml",
            "local.json",
            "audit.json",
        }
        foreign = sorted(entry.name for entry in state_dir.iterdir() if entry.name not in ours)
        if foreign:
            message = f"{state_dir} holds other files ({foreign[0]}); name an empty or a new folder"
            raise StateUnusable(message, "FOREIGN")


def _map_bytes(state_dir: Path, map_size: int) -> int:
    data = state_dir / layout.DATA_FILE
    return max(map_size, data.stat().st_size) if data.exists() else map_size


def _open_tables(env: lmdb.Environment, *, create: bool) -> dict[str, Any]:
    """Open the tables; with ``create`` also create them, and write the first head."""
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
    sync_path(Path(env.path()))
    return tables


def _require_format(source: LmdbSource) -> None:
    """Raise NEWER_FORMAT for a later format, and CORRUPT if the head is not at the last logged change."""
    with source.rows() as rows:
        head = rows.head()
        if head.format > layout.FORMAT:
            message = f"the state has format {head.format}, this program writes {layout.FORMAT}; upgrade it"
            raise StateUnusable(message, "NEWER_FORMAT")
        with rows.txn.cursor(db=source.tables[layout.CHANGES]) as cursor:
            last = int.from_bytes(cursor.key(), "big") if cursor.last() else head.seq
    if last != head.seq:
        message = f"the log ends at {last}, the head says {head.seq}; restore the state from a backup"
        raise StateUnusable(message, "CORRUPT")


def _require_membership(source: LmdbSource, *, carried: bool) -> None:
    """Require a folder of a cluster if its groups are carried, and a single host's otherwise.

    Raises IN_CLUSTER, NOT_IN_CLUSTER, and NEWER_FORMAT for a later format of the log than is read here.
    """
    with source.rows() as rows:
        position = read_position(rows)
    member = position is not None
    if position is not None and position.writes > FORMAT:
        message = (
            f"{source.env.path()}: the cluster writes format {position.writes} of its log, this program "
            f"reads {FORMAT}; upgrade sessauth on this host"
        )
        raise StateUnusable(message, "NEWER_FORMAT")
    if member and not carried:
        message = (
            f"{source.env.path()} belongs to a cluster, whose other hosts would miss writes made here; "
            "configure [cluster], start 'sessauth follow' on a follower's host, or leave it with 'sessauth "
            "cluster leave'"
        )
        raise StateUnusable(message, "IN_CLUSTER")
    if carried and not member:
        message = f"{source.env.path()} belongs to no cluster; begin one with 'sessauth cluster begin'"
        raise StateUnusable(message, "NOT_IN_CLUSTER")


def _set_cluster_brake(source: LmdbSource, page: brake.Brake) -> None:
    """Set the page's cluster brake from the rows: a process may have died in between."""
    with source.rows() as rows:
        reason = cluster_rows.page_reason(rows)
    if reason is not None or page.cluster_reason:
        page.set_for_cluster(reason)


def _upgrade_format(source: LmdbSource, *, restoring: bool) -> None:
    """Add the tables that a folder of an earlier format lacks, and raise its format, in one commit.

    Sessions that a restore replaces need not be readable: it writes their index.
    """
    with source.rows() as rows:
        head, indexed = rows.head(), terms.is_made(rows)
    if (
        indexed
        and head.format == layout.FORMAT
        and all(name in source.tables for name in layout.LATER_TABLES)
    ):
        return
    # An earlier program may have written a state of this format, as a cluster's snapshot.
    had_tallies = layout.TALLIES in source.tables
    try:
        with source.env.begin(write=True) as txn:
            for name in layout.LATER_TABLES:
                source.tables[name] = source.env.open_db(name.encode(), txn=txn, create=True)
            if head.format < cluster_rows.EVIDENCE_FORMAT:
                since = head.clock_floor_ms.to_bytes(8, "big")
                txn.put(cluster_rows.SINCE_KEY, since, db=source.tables[layout.EVIDENCE])
            if head.format < layout.TALLY_FORMAT or not had_tallies:
                tallies.build(txn, source.tables)
            if restoring:
                txn.drop(source.tables[layout.TERMS], delete=False)
            elif head.format < layout.TERMS_FORMAT or not indexed:
                terms.build(txn, source.tables)
            raised = replace(head, format=layout.FORMAT)
            txn.put(layout.HEAD_KEY, raised.encode(), db=source.tables[layout.META])
        source.tallies = source.tables[layout.TALLIES]
    except lmdb.Error as error:
        message = (
            f"the state could not be raised to format {layout.FORMAT} ({error}); free some space, or raise "
            "server.map_size_bytes"
        )
        raise StateUnusable(message, "NO_SPACE") from error


def _recover(source: LmdbSource, page: brake.Brake, *, restoring: bool) -> None:
    """Release a brake that an earlier writer engaged, if all rows verify and a write is durable.

    Rows that a restore replaces need not verify: until then the brake is held in its name.
    """
    if not restoring:
        verify_pages(source.env, source.reading)
        with source.rows() as rows:
            verify(rows)
    elif not page.by_hand.engaged:
        page.engage(RESTORING, by_hand=True)
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
    """Write random bytes, so that the group has something to commit."""
    group.rows.put(layout.META, layout.PROBE_KEY, os.urandom(layout.PROBE_BYTES))
    group.dirty = True
