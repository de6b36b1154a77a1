"""Reading a state folder or a backup in a process of its own, whose end says that its data is corrupt.

LMDB ends its process by SIGABRT at some damages, and a truncated file by SIGBUS. A command that looks for
damage has a child read first all that it reads itself; the child's answer is one line of JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ...clock import SystemClock
from ...errors import StateUnusable
from ...model.log_records import Head
from .. import layout
from ..backup import Manifest, verify_backup
from ..lmdb.reader import StateReader
from ..replication.position import read_position
from ..writer import statistics
from .pages import verify_pages
from .verify import Verified, verify

_MODULE: Final = "sessauth.state.integrity.apart"
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
        statistics.take(reader, SystemClock().now_ms())
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
