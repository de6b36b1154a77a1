"""The rows over gRPC: the real server against the empty echo, in closed and open loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.measure import Measurement, not_measured, singles
from benchmarks.service import rows_table
from benchmarks.service.driver import StreamDriver, answer
from benchmarks.service.h2load import H2load, NotUsable
from benchmarks.service.load_spec import Call, Generator
from benchmarks.service.round import MOST_REFUSED, OpenSeries, Series, echo_call, service_call
from benchmarks.service.rows_table import READINGS, SPECS, Reading, Spec
from benchmarks.service.servers import Place, running_places
from benchmarks.stats import percentile

ROWS: Final = {reading.name: reading.floor for reading in READINGS.values()}
# Rounds, and about how long a drive takes in us: the short form and the full one.
QUICK = (7, 100_000.0)
FULL = (21, 300_000.0)


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Run the servers, drive them in rounds that alternate, and yield the rows whose names hold ``only``."""
    wanted = rows_table.wanted(only)
    if not wanted:
        return
    specs = rows_table.needed(wanted)
    try:
        generator = H2load.prepare(folder)
    except NotUsable as why:
        yield from (not_measured(reading.name, reading.floor, str(why)) for reading in wanted)
        return
    rounds, us = QUICK if quick else FULL
    with ExitStack() as stack:
        places, missing = stack.enter_context(running_places(folder, {spec.place for spec in specs}))
        series = _series(specs, places, generator, stack.enter_context(StreamDriver()))
        _drive(stack, series, rounds, us)
        _hold_again(series)
    for reading in wanted:
        yield _measurement(reading, series, missing)


def _series(
    specs: Sequence[Spec], places: dict[str, Place], generator: Generator, streams: Generator
) -> dict[str, Series]:
    """Make the series whose places are there; each question was answered as it should be before that."""
    asked: dict[str, Call] = {}
    made = {}
    for spec in specs:
        if spec.place not in places:
            continue
        place = places[spec.place]
        if spec.place in rows_table.ECHOES:
            if spec.question not in asked:
                asked[spec.question] = _probed(service_call(spec, places[rows_table.CONTROL]), spec)
            call = echo_call(asked[spec.question], place)
        else:
            call = _probed(service_call(spec, place), spec)
        kind = OpenSeries if spec.share else Series
        made[spec.name] = kind(spec, call, streams if spec.question == rows_table.STREAM else generator)
    return made


def _probed(call: Call, spec: Spec) -> Call:
    """Return the call with the length of its answer. Raises WrongDecision."""
    return replace(call, answer_bytes=len(answer(call, streaming=spec.question == rows_table.STREAM)))


def _hold_again(series: dict[str, Series]) -> None:
    """Ask each question once more. Raises WrongDecision, or RuntimeError for an answer of another length."""
    for each in series.values():
        if _probed(each.call, each.spec).answer_bytes != each.call.answer_bytes:
            raise RuntimeError(f"{each.spec.name}: the length of the answer changed while it was measured")


def _drive(stack: ExitStack, series: dict[str, Series], rounds: int, us: float) -> None:
    closed = [each for each in series.values() if not isinstance(each, OpenSeries)]
    opened = [each for each in series.values() if isinstance(each, OpenSeries)]
    for each in closed:
        each.fit(us)
    for _ in range(rounds):
        for each in closed:
            each.round()
    for each in opened:
        each.start(series[rows_table.PEAK], us)
        stack.callback(each.close)
    for _ in range(rounds):
        for each in opened:
            each.round()


def _measurement(reading: Reading, series: dict[str, Series], missing: dict[str, str]) -> Measurement:
    spec = SPECS[reading.series]
    floor = READINGS[reading.floor] if reading.floor else None
    for name in (reading.series, *([floor.series] if floor else [])):
        if name not in series:
            return not_measured(reading.name, reading.floor, missing[SPECS[name].place])
        each = series[name]
        if isinstance(each, OpenSeries) and each.refused > MOST_REFUSED:
            why = f"the server refused {each.refused:.0%} of {each.per_second:.0f} calls/s as too many"
            return not_measured(reading.name, reading.floor, why)
    ours = series[reading.series]
    measured = Measurement(
        name=reading.name,
        floor=reading.floor,
        rounds=_rounds(reading, ours),
        floor_rounds=_rounds(floor, series[floor.series]) if floor else (),
        extra=_extra(ours, spec),
    )
    if reading.figure is rows_table.cpu_us:
        return measured
    return replace(measured, **singles([us for drive in ours.drives for us in drive.latencies_us]))


def _rounds(reading: Reading, series: Series) -> tuple[float, ...]:
    return tuple(reading.figure(drive, series.spec.decisions) for drive in series.drives)


def _extra(series: Series, spec: Spec) -> dict[str, float | str]:
    if isinstance(series, OpenSeries):
        late = [us for drive in series.drives for us in drive.late_us]
        return {
            "calls/s": series.per_second,
            "refused": series.refused,
            "sent late p99 us": percentile(late, 0.99),
            "server CPU us": median([rows_table.cpu_us(drive, 1) for drive in series.drives]),
        }
    rate = median([1e6 / rows_table.wall_us(drive, spec.decisions) for drive in series.drives])
    return {
        "decisions/s" if spec.decisions > 1 else "calls/s": rate,
        "server CPU us": median([rows_table.cpu_us(drive, spec.decisions) for drive in series.drives]),
    }
