"""Write what was measured into a document, so that no figure there is typed by hand.

    python -m benchmarks.render DOCUMENT.md RESULT.json...

The document marks where each part stands: what is between ``<!-- rendered: NAME -->`` and
``<!-- end -->`` is replaced. A part that the results have nothing for is left as it is and named. Exit
status: 0 written, 1 if a file is no result or a mark is wrong, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import bars, tables
from benchmarks.grants import tables as grants
from benchmarks.results_file import Written, WrongDocument, read

# The parts by their names: each takes the results and returns Markdown or "".
PARTS: Final[Mapping[str, Callable[[Sequence[Written]], str]]] = {
    "machine": tables.machine,
    "per_core": bars.per_core,
    "targets": tables.targets,
    "results": tables.results,
    "instructions": tables.instructions,
    "peers": tables.peers,
    "grants": grants.grants,
    "grants_recorded": grants.recorded,
    "grants_seeds": grants.seeds,
    "grants_shapes": grants.shapes,
    "grants_apart": grants.apart,
    "grants_once": grants.once,
}
MARK: Final = re.compile(r"(?P<begin><!-- rendered: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.S)


def render(text: str, results: Sequence[Written]) -> tuple[str, list[str]]:
    """Return the text with its marked parts made anew, and the names of those that were left as they are.

    Raises WrongDocument if a mark names no part, or has no end of its own.
    """
    left: list[str] = []

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in PARTS or "<!-- rendered:" in match[0][len(match["begin"]) :]:
            raise WrongDocument(f"the mark {match['begin'].strip()} names no part or has no end")
        made = PARTS[name](results)
        if not made:
            left.append(name)
            return match[0]
        return f"{match['begin']}\n{made}\n\n{match['end']}"

    rendered = MARK.sub(part, text)
    if text.count("<!-- rendered:") != len(MARK.findall(text)):
        raise WrongDocument("a mark has no end, or is not a mark of this tool")
    return rendered, left


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__)
    parser.add_argument("document", type=Path, metavar="DOCUMENT.md")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    options = parser.parse_args(arguments)
    try:
        text = options.document.read_text("utf-8")
        rendered, left = render(text, list(map(read, options.results)))
    except (WrongDocument, OSError) as error:
        print(f"nothing rendered: {error}", file=sys.stderr)
        return 1
    for name in left:
        print(f"left as it is: {name}: the results have nothing for it")
    options.document.write_text(rendered, "utf-8")
    print(f"rendered: {options.document}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
