"""Draw the pictures of results.

    python -m benchmarks.plots RESULT.json... --into FOLDER [--png]

Exit status: 0 drawn (what a result has no rows for is named and left out), 1 a file is no result, 2 wrong
usage, 3 matplotlib is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.results_file import WrongDocument, read_all

# The pictures in the order of the document, each drawn by the module of its name.
PICTURES: Final = ("latency", "chains", "growth", "peers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--png", action="store_true", help="write each picture as PNG too")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed (dependency group `bench`)", file=sys.stderr)
        return 3
    try:
        results = read_all(options.results)
    except WrongDocument as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return 1
    style = importlib.import_module("benchmarks.plots.style")
    for name in PICTURES:
        drawn = importlib.import_module(f"benchmarks.plots.{name}").draw(results)
        if drawn is None:
            print(f"not drawn: {name}: the results have no rows for it")
            continue
        for file in style.save(drawn[0], options.into / name, drawn[1], png=options.png):
            print(f"drawn: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
