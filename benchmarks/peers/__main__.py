"""Measure the peers against our own rows, print a table, write JSON, and exit with 1 on a missed budget.

    python -m benchmarks.peers [--quick] [--only TEXT] [--json FILE] [--require-all]

Exit status: 0 all gates met, 1 a gate missed, or with --require-all a peer not installed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import budgets, floors, host_info, report, state_setup, tables
from benchmarks.budgets import Budget
from benchmarks.measure import Measurement, Plan, Row, measure_row, not_measured
from benchmarks.peers import rows
from benchmarks.peers.ours import Ours
from benchmarks.peers.rows import PEERS, Peer

RESULT: Final = Path(__file__).parents[1] / "results" / "local" / "peers.json"
BUDGETS: Final = Path(__file__).with_name("budgets.toml")
FULL: Final = Plan(rounds=21, blocks=12, singles=2_000, singles_ms=300)
QUICK: Final = Plan(rounds=7, blocks=6, singles=200, singles_ms=50)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    options = _options(arguments)
    surroundings = host_info.describe()
    print(f"{surroundings['cpu']}, {surroundings['cores']} cores, load {surroundings['load_before']}")
    versions = surroundings["peers"] = rows.versions()
    print(", ".join(f"{package} {version or 'not installed'}" for package, version in versions.items()))
    measurements = list(_measurements(options.only, QUICK if options.quick else FULL))
    surroundings["load_after"] = host_info.load()
    return conclude(options, measurements, surroundings)


def conclude(
    options: argparse.Namespace, measurements: Sequence[Measurement], surroundings: dict[str, object]
) -> int:
    """Judge, print, write and name what was missed; returns the exit status."""
    missing = {each.name.split("/")[1]: each.missing for each in measurements if each.missing}
    table = _installed(budgets.load(BUDGETS), missing)
    judged = budgets.judge(measurements, table, quick=options.quick)
    settings = {"quick": options.quick, "only": options.only}
    document = report.document(judged, surroundings, settings) | {"notes": rows.notes()}
    print(tables.terminal(document["rows"]))
    print("\nratio: what the peer takes over what we take. What is not equal:")
    for package, note in rows.notes().items():
        print(textwrap.fill(f"{package}: {note}", 110, initial_indent="- ", subsequent_indent="  "))
    file = options.json or RESULT
    report.write(file, document)
    print(f"\nwritten: {file}")
    failures = budgets.failures(judged, table, whole=not options.only, quick=options.quick)
    lines = [f"budget missed: {line}" for line in failures]
    lines += [f"peer not measured: {name}: {why}" for name, why in missing.items()]
    for line in lines:
        print(line, file=sys.stderr)
    failed = bool(failures) or (options.require_all and bool(missing))
    if not lines:
        print("every gate met")
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, the same assertions")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name holds TEXT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--require-all", action="store_true", help="fail if a peer is not installed")
    return parser.parse_args(arguments)


def _installed(table: dict[str, Budget], missing: dict[str, str]) -> dict[str, Budget]:
    """Return the budgets of the peers that are here: a missing one is reported as such, and once."""
    return {row: budget for row, budget in table.items() if row.split("/")[1] not in missing}


def _measurements(only: str, plan: Plan) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(prefix="sa-bench-") as name:
        folder = Path(name)
        module = floors.build(folder)
        measured = state_setup.build(folder)
        try:
            mine = Ours(measured)
            for row in (row for peer in PEERS for row in _rows_of(peer, mine)):
                if isinstance(row, Measurement):
                    yield row
                elif only in row.subject.name:
                    yield measure_row(row, plan, module.below)
        finally:
            measured.close()


def _rows_of(peer: Peer, mine: Ours) -> Iterator[Row | Measurement]:
    """Yield the rows of a peer, or why it has none."""
    try:
        forms = peer.load()
    except ImportError as missing:
        yield not_measured(f"peer/{peer.name}/all", "", f"not installed: {missing}")
        return
    yield from rows.rows(peer, forms, mine.named)


if __name__ == "__main__":
    sys.exit(main())
