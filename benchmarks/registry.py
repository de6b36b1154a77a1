"""Modules that ``python -m benchmarks`` measures, each with its rows, in the order of the report.

A stage is measured in this process and has ``rows(world, module) -> Iterator[Row]``: the harness takes
floor and subject in turns. A series does its own rounds, because it drives processes or grows state, and has
``measurements(folder, *, quick, only) -> Iterator[Measurement]``: rounds of ours and of the floor in pairs,
``**measure.singles(times)`` for calls timed one by one, ``unit`` if it is not us, and
``measure.not_measured(name, floor, why)`` in place of a row that this machine has no tool for. A row whose
name does not hold ``only`` is not yielded, and should not be worked for. Its ``ROWS`` say which rows it may
yield, each with the name of its floor, so that a budget for a row that nothing measures is noticed.
"""

from __future__ import annotations

from typing import Final

STAGES: Final = (
    "benchmarks.stages.decode",
    "benchmarks.stages.warm",
    "benchmarks.stages.guarded",
    "benchmarks.stages.cold",
    "benchmarks.stages.denials",
    "benchmarks.stages.worst",
    "benchmarks.stages.proofs",
    "benchmarks.stages.batch",
    "benchmarks.stages.recorded",
    "benchmarks.stages.during_writes",
    "benchmarks.stages.changed_state",
)
SERIES: Final = (
    "benchmarks.stages.threads",
    "benchmarks.instructions.rows",
    "benchmarks.growth.end_cost",
    "benchmarks.growth.memory",
    "benchmarks.growth.flood",
    "benchmarks.growth.state_size",
    "benchmarks.growth.chains",
    "benchmarks.writes.rows",
    "benchmarks.writes.server_cpu",
    "benchmarks.service.rows",
    "benchmarks.envoy.rows",
    "benchmarks.mcp.rows",
)
