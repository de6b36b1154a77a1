"""The program ``sessauth``, and ``python -m sessauth.cli``."""

from __future__ import annotations

import sys

from .. import __version__


def main() -> None:
    """Run the command line; ``--version`` alone is answered without loading it."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"sessauth, version {__version__}\n")
        return
    from .main import main as run

    run()


if __name__ == "__main__":
    main()
