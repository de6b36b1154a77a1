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

from typing import Final, NamedTuple


class Seconds(NamedTuple):
    """Duration of a module on two cores with its tools, in s: the short form and the full one."""

    quick: int
    full: int


STAGES: Final = {
    "benchmarks.stages.decode": Seconds(1, 4),
    "benchmarks.stages.warm": Seconds(2, 11),
    "benchmarks.stages.guarded": Seconds(1, 2),
    "benchmarks.stages.cold": Seconds(3, 15),
    "benchmarks.stages.denials": Seconds(1, 6),
    "benchmarks.stages.worst": Seconds(13, 44),
    "benchmarks.stages.proofs": Seconds(1, 5),
    "benchmarks.stages.batch": Seconds(3, 23),
    "benchmarks.stages.recorded": Seconds(1, 4),
    "benchmarks.stages.during_writes": Seconds(3, 4),
    "benchmarks.stages.changed_state": Seconds(2, 12),
}
SERIES: Final = {
    "benchmarks.stages.threads": Seconds(6, 11),
    "benchmarks.instructions.rows": Seconds(27, 44),
    "benchmarks.growth.end_cost": Seconds(4, 24),
    "benchmarks.growth.memory": Seconds(7, 16),
    "benchmarks.growth.flood": Seconds(7, 30),
    "benchmarks.growth.state_size": Seconds(4, 177),
    "benchmarks.growth.chains": Seconds(2, 87),
    "benchmarks.writes.rows": Seconds(14, 64),
    "benchmarks.writes.server_cpu": Seconds(5, 36),
    "benchmarks.service.rows": Seconds(18, 184),
    "benchmarks.envoy.rows": Seconds(16, 120),
    "benchmarks.mcp.rows": Seconds(8, 30),
}
