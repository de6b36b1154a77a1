"""The child process of a local service: ``python -m sessauth.testing.child HOME PARENT``.

It serves as ``sessauth serve`` does, until SIGTERM or until the process PARENT has ended. The parent's id is
compared, and no pipe or PR_SET_PDEATHSIG is used: other children of the parent may have inherited
the pipe, and the signal comes when the thread that started the child ends.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Final

from ..server.config import load
from ..server.process.control import serve
from ..server.process.init import initialise

_POLL_SECONDS: Final = 0.2
# A file may be made while the folder is removed.
_ATTEMPTS: Final = 50


def main() -> None:
    """Make a home in the folder HOME, and serve it."""
    home, parent = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent, home), name="sessauth-parent", daemon=True).start()
    initialise(home)
    serve(load(home))


def _end_with(parent: int, home: Path) -> None:
    """End this process and remove its home once its parent is another process: nobody can ask any more."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    for _ in range(_ATTEMPTS):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            break
    os._exit(1)


if __name__ == "__main__":
    main()
