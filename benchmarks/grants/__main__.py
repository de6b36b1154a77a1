"""Judge suggested grants: what they cost honest sessions, and which attacks they leave possible.

    python -m benchmarks.grants [--quick] [--seed N] [--recorded FOLDER] [--json FILE]

Exit status: 0 all targets met, 1 one was missed, 2 wrong usage. Recorded sessions have no targets.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import host_info, report
from benchmarks.grants import cases, recorded, tables, traffic
from benchmarks.grants.measures import Counts, measure
from benchmarks.grants.targets import missed

RESULTS: Final = Path(__file__).parent.parent / "results" / "local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    options = _options(arguments)
    traffic.use_seed(options.seed)
    started, machine = time.monotonic(), host_info.describe()
    size = cases.QUICK if options.quick else cases.FULL
    chosen = recorded.cases(options.recorded) if options.recorded else cases.cases(size)
    counts, checks = measure(chosen)
    shapes = recorded.shapes(options.recorded) if options.recorded else recorded.generated_shapes()
    document = {
        "format": report.FORMAT,
        "machine": machine,
        "options": {"quick": options.quick, "seed": options.seed, "recorded": bool(options.recorded)},
        "rows": [*rows(counts), *shapes],
    }
    name = "grants-recorded" if options.recorded else "grants-quick" if options.quick else "grants"
    if options.seed != traffic.SEED:
        name += f"-seed-{options.seed}"
    file = options.json or RESULTS / f"{name}.json"
    report.write(file, document)
    print(tables.terminal(document["rows"]))
    print(f"{checks:,} checks by the kernel in {time.monotonic() - started:.0f} s; written: {file}")
    lines = [] if options.recorded else missed(counts)
    for line in lines:
        print(f"target missed: {line}", file=sys.stderr)
    return 1 if lines else 0


def rows(counts: Mapping[tuple[str, str], Counts]) -> list[dict[str, Any]]:
    """Return counts as rows of a results file."""
    return [
        {
            "name": f"grants/{setting}/{subject}",
            "setting": setting,
            "subject": subject,
            "calls": found.calls,
            "sessions": found.sessions,
            "calls_denied": round(found.calls_denied, 3),
            "sessions_hit": round(found.sessions_hit, 3),
            "questions": round(found.questions, 4),
            "attacks": [
                {"kind": kind, "adapted": adapted, "tried": tried, "possible": found.possible[kind, adapted]}
                for (kind, adapted), tried in sorted(found.attacks.items())
            ],
            "plain_possible": round(found.attacks_possible(adapted=False), 3),
            "adapted_possible": round(found.attacks_possible(adapted=True), 3),
        }
        for (setting, subject), found in counts.items()
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grants", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short form: fewer tasks, the same targets")
    parser.add_argument("--seed", type=int, default=traffic.SEED, metavar="N", help="of tasks and sessions")
    parser.add_argument("--recorded", type=Path, metavar="FOLDER", help="recorded sessions in their place")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
