"""The counted process: ``valgrind --tool=callgrind ... python -m benchmarks.instructions.driver FOLDER``.

The folder has the state, the compiled floors and the pickled cases, all written by ``rows``. Only what runs
below the compiled call is counted, and callgrind writes a file each time it returns, so the files come in the
order of the cases, with few calls and with many.
"""

from __future__ import annotations

import gc
import importlib
import pickle
import sys
from pathlib import Path

from benchmarks.instructions.cases import Case, Opened, subject
from benchmarks.tokens import AUDIENCE
from sessauth.state.lmdb.reader import StateReader

CASES = "cases.pickle"
STATE = "state"


def main(folder: Path) -> None:
    """Run every case twice."""
    sys.path.insert(0, str(folder))
    module = importlib.import_module("_floor")
    chosen: list[Case] = pickle.loads((folder / CASES).read_bytes())
    reader = StateReader.open(folder / STATE)
    world = Opened(reader, AUDIENCE)
    gc.disable()
    for case in chosen:
        made = subject(case, world, module)
        for calls in (case.few, case.many):
            module.below(made.run, made.prepare(calls), 0)
    reader.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
