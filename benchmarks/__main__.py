"""Measure, print each row and a table of all, write JSON, and exit with 1 if a budget was missed.

    python -m benchmarks [--quick] [--json FILE] [--only TEXT] [--cache-bytes N] [--require-all]
        [--slow-down-us N]

Exit status: 0 no gate missed, 1 a gate missed or not measured, 2 wrong usage, 130 interrupted: what was
measured until then is reported and written.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks import budgets, floors, host_info, report, state_setup, tables
from benchmarks.measure import Measurement, Plan, Row, measure_row, slowed
from benchmarks.progress import Progress, expected
from benchmarks.registry import SERIES, STAGES
from sessauth.verifier.verifier import DEFAULT_CACHE_BYTES

RESULTS: Final = Path(__file__).with_name("results") / "local"
# As a shell reports a program that SIGINT ended.
INTERRUPTED: Final = 128 + signal.SIGINT
FULL: Final = Plan(rounds=31, blocks=24, singles=20_000)
QUICK: Final = Plan(rounds=11, blocks=12, singles=1_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    options = _options(arguments)
    table = budgets.load()
    plan = QUICK if options.quick else FULL
    surroundings = host_info.describe()
    print(f"{surroundings['cpu']}, {surroundings['cores']} cores, load {surroundings['load_before']}")
    form = "quick" if options.quick else "full"
    progress = Progress({} if options.only else expected(RESULTS / f"{form}.json", quick=options.quick))
    measurements: list[Measurement] = []
    interrupted = False
    try:
        with closing(_measurements(options, plan, progress)) as measuring:
            for measured in measuring:
                measurements.append(measured)
                row = report.rows(budgets.judge([measured], table, quick=options.quick))[0]
                print(tables.line(row), flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print(f"\ninterrupted: {len(measurements)} rows measured")
        if not measurements:
            return INTERRUPTED
    surroundings["load_after"] = host_info.load()
    judged = budgets.judge(measurements, table, quick=options.quick)
    whole = not options.only and not interrupted
    file = options.json or RESULTS / f"{form if whole else 'some'}.json"
    settings = {"quick": options.quick, "only": options.only, "cache_bytes": options.cache_bytes}
    if options.slow_down_us:
        settings["slow_down_us"] = options.slow_down_us
    document = report.document(judged, surroundings, settings) | {"seconds": progress.seconds}
    report.write(file, document)
    print(f"\n{tables.terminal(document['rows'])}\n\n{tables.LEGEND}\n\nwritten: {file}")
    missed = budgets.failures(
        judged, table, whole=whole, quick=options.quick, require_all=options.require_all
    )
    for line in missed:
        print(f"budget missed: {line}", file=sys.stderr)
    for floor, (least, most) in budgets.contradicted(measurements).items():
        print(f"rows contradict each other: {floor} cost {least:.3g} in one and {most:.3g} in another")
    if interrupted:
        return INTERRUPTED
    if not missed:
        print(budgets.conclusion(judged))
    return 1 if missed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the short form: fewer rounds, and the gates that these can judge",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name holds TEXT")
    parser.add_argument(
        "--cache-bytes",
        type=int,
        default=DEFAULT_CACHE_BYTES,
        metavar="N",
        help="what a verifier's cache may hold; 0 turns it off, which the gates must notice",
    )
    parser.add_argument(
        "--require-all", action="store_true", help="fail if a row that gates can't be measured here"
    )
    parser.add_argument(
        "--slow-down-us",
        type=int,
        default=0,
        metavar="N",
        help="waste so much time in each call of a stage's subject, which the gates must notice",
    )
    return parser.parse_args(arguments)


def _measurements(
    options: argparse.Namespace, plan: Plan, progress: Progress
) -> Generator[Measurement, None, None]:
    with tempfile.TemporaryDirectory(prefix="sa-bench-") as name:
        folder = Path(name)
        module = floors.build(folder)
        measured = state_setup.build(folder, cache_bytes=options.cache_bytes)
        try:
            for name in STAGES:
                with progress.module(name):
                    stage = importlib.import_module(name)
                    for row in _chosen(stage.rows(measured, module), options.only):
                        yield measure_row(slowed(row, options.slow_down_us), plan, module.below)
        finally:
            measured.close()
        for name in SERIES:
            with progress.module(name):
                series = importlib.import_module(name)
                yield from series.measurements(folder, quick=options.quick, only=options.only)


def _chosen(rows: Iterable[Row], only: str) -> Iterator[Row]:
    return (row for row in rows if only in row.subject.name)


if __name__ == "__main__":
    sys.exit(main())
